#include <infobatch/detail/kernels.hpp>
#include <infobatch/random_words.hpp>
#include <infobatch/select.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

namespace infobatch {
namespace {

constexpr std::int64_t kChunk =
    2048;  // samples at a time: class bytes and draws stay in the L1 cache
constexpr std::uint64_t kLargestDraw = ~std::uint64_t{0};

using Draw = std::pair<std::uint64_t, std::int64_t>;  // (draw, sample id)

// The draws from `low` to `high`, both included, of the members, and how many lie below them.
struct Window {
  std::int64_t below = 0;
  std::vector<Draw> inside;
};

Window draws_between(std::uint64_t low,
                     std::uint64_t high,
                     const Classify& classify,
                     std::uint8_t klass,
                     std::int64_t n,
                     std::uint64_t seed,
                     std::uint32_t epoch,
                     std::uint32_t stream,
                     Team& team) {
  std::vector<Window> parts(static_cast<std::size_t>(team.size()));
  const std::int64_t chunks = (n + kChunk - 1) / kChunk;
  team.run([&](int thread) {
    std::uint8_t classes[kChunk];
    alignas(64) std::uint32_t words[2 * kChunk];
    Window part;
    const std::int64_t last = chunks * (thread + 1) / team.size();
    for (std::int64_t chunk = chunks * thread / team.size(); chunk < last; ++chunk) {
      const std::int64_t begin = chunk * kChunk;
      const std::int64_t end = std::min(begin + kChunk, n);
      classify(begin, end, classes);
      const std::int64_t blocks = (2 * (end - begin) + kWordsPerBlock - 1) / kWordsPerBlock;
      fill_random_words(seed,
                        epoch,
                        stream,
                        static_cast<std::uint64_t>(2 * begin / kWordsPerBlock),
                        blocks,
                        words);
      for (std::int64_t i = 0; i < end - begin; ++i) {
        if (classes[i] != klass) continue;
        const std::uint64_t draw = words[2 * i] | std::uint64_t{words[2 * i + 1]} << 32;
        if (draw < low) {
          ++part.below;
        } else if (draw <= high) {
          part.inside.emplace_back(draw, begin + i);
        }
      }
    }
    parts[static_cast<std::size_t>(thread)] = std::move(part);
  });
  Window all;
  for (const Window& part : parts) {
    all.below += part.below;
    all.inside.insert(all.inside.end(), part.inside.begin(), part.inside.end());
  }
  return all;
}

}  // namespace

DrawCut select_smallest_draws(const Classify& classify,
                              std::uint8_t klass,
                              std::int64_t n,
                              std::int64_t n_members,
                              std::int64_t m,
                              std::uint64_t seed,
                              std::uint32_t epoch,
                              std::uint32_t stream,
                              Team& team) {
  if (m <= 0) return {};
  if (m >= n_members) return DrawCut::all();
  // The cut is sought in a window of draws around its expectation, ten deviations to each side; a
  // window that misses it is widened. So the window only decides the cost, never the result.
  const double members = static_cast<double>(n_members);
  const double expected = static_cast<double>(m) / members;
  double reach = 10.0 * std::sqrt(expected * (1.0 - expected) / members) + 10.0 / members;
  for (;; reach *= 8.0) {
    const double from = std::max(expected - reach, 0.0);
    const double to = expected + reach;
    const auto low = static_cast<std::uint64_t>(std::ldexp(from, 64));
    const std::uint64_t high =
        to < 1.0 ? static_cast<std::uint64_t>(std::ldexp(to, 64)) : kLargestDraw;
    Window window = draws_between(low, high, classify, klass, n, seed, epoch, stream, team);
    const std::int64_t rank = m - window.below;
    if (rank < 0 || rank >= static_cast<std::int64_t>(window.inside.size())) continue;
    std::nth_element(window.inside.begin(), window.inside.begin() + rank, window.inside.end());
    const Draw& first_behind = window.inside[static_cast<std::size_t>(rank)];
    return {first_behind.first, first_behind.second};
  }
}

namespace {

// A float as an integer of the same order; -0 and +0 are one.
std::uint32_t ordered_of(float x) {
  if (x == 0.0f) return 0x80000000u;
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

float float_of(std::uint32_t ordered) {
  const std::uint32_t bits = ordered >> 31 != 0 ? ordered & 0x7FFFFFFFu : ~ordered;
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// How often each half-word key_of(ordered) occurs among the observed scores with `accept`.
template <typename Accept, typename Key>
std::vector<std::int64_t> histogram(
    const float* scores, std::int64_t n, Team& team, const Accept& accept, const Key& key_of) {
  constexpr std::size_t kKeys = std::size_t{1} << 16;
  std::vector<std::vector<std::int64_t>> parts(static_cast<std::size_t>(team.size()));
  team.run([&](int thread) {
    std::vector<std::int64_t> counts(kKeys);
    const std::int64_t last = n * (thread + 1) / team.size();
    for (std::int64_t i = n * thread / team.size(); i < last; ++i) {
      if (std::isnan(scores[i])) continue;
      const std::uint32_t ordered = ordered_of(scores[i]);
      if (accept(ordered)) ++counts[key_of(ordered)];
    }
    parts[static_cast<std::size_t>(thread)] = std::move(counts);
  });
  for (std::size_t thread = 1; thread < parts.size(); ++thread) {
    for (std::size_t key = 0; key < kKeys; ++key) parts[0][key] += parts[thread][key];
  }
  return std::move(parts[0]);
}

// The key that holds the rank-th element (from 0); `rank` becomes the rank within the key.
std::uint32_t key_at(const std::vector<std::int64_t>& counts, std::int64_t& rank) {
  std::uint32_t key = 0;
  while (rank >= counts[key]) rank -= counts[key++];
  return key;
}

}  // namespace

RankCut select_rank(const float* scores,
                    std::int64_t n,
                    std::int64_t rank,
                    std::uint64_t seed,
                    std::uint32_t epoch,
                    Team& team) {
  RankCut cut;
  cut.seed = seed;
  cut.epoch = epoch;
  if (rank <= 0) return cut;
  // The last sample before the cut has rank `rank - 1`: find its score, then how many of the
  // samples with this score lie before the cut.
  std::int64_t rest = rank - 1;
  const auto upper = histogram(
      scores,
      n,
      team,
      [](std::uint32_t) { return true; },
      [](std::uint32_t ordered) { return ordered >> 16; });
  const std::uint32_t top = key_at(upper, rest);
  const auto lower = histogram(
      scores,
      n,
      team,
      [top](std::uint32_t ordered) { return ordered >> 16 == top; },
      [](std::uint32_t ordered) { return ordered & 0xFFFFu; });
  const std::uint32_t bottom = key_at(lower, rest);
  const float score = float_of(top << 16 | bottom);
  cut.score = score;
  const Classify is_tie = [scores, score](
                              std::int64_t begin, std::int64_t end, std::uint8_t* klass) {
    for (std::int64_t i = begin; i < end; ++i) klass[i - begin] = scores[i] == score ? 1 : 0;
  };
  cut.ties = select_smallest_draws(
      is_tie, 1, n, lower[bottom], rest + 1, seed, epoch, kStreamRankTies, team);
  return cut;
}

namespace {

// One sample whose score equals that of a cut: its tie draw decides.
std::uint8_t class_by_ranks(float score, std::int64_t id, const RankCut* cuts, int n_cuts) {
  for (int cut = 0; cut < n_cuts; ++cut) {
    if (before(cuts[cut], score, id)) return static_cast<std::uint8_t>(cut + 1);
  }
  return 0;
}

}  // namespace

void classify_by_ranks(const float* scores,
                       std::int64_t begin,
                       std::int64_t end,
                       const RankCut* cuts,
                       int n_cuts,
                       std::uint8_t* klass) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::uint8_t below[kChunk];     // one cut: the score is less
  std::uint8_t reaching[kChunk];  // one cut: the score is less or equal
  std::uint8_t less[kChunk];      // cuts that the score is less than; none for NaN
  std::uint8_t ties[kChunk];      // cuts whose score it equals
  for (std::int64_t start = begin; start < end; start += kChunk) {
    const std::int64_t count = std::min(kChunk, end - start);
    const float* const score = scores + start;
    std::fill(less, less + count, std::uint8_t{0});
    std::fill(ties, ties + count, std::uint8_t{0});
    for (int cut = 0; cut < n_cuts; ++cut) {
      classify_below(score, count, cuts[cut].score, below);
      classify_below(score, count, std::nextafter(cuts[cut].score, kInfinity), reaching);
      for (std::int64_t i = 0; i < count; ++i) {
        less[i] = static_cast<std::uint8_t>(less[i] + below[i]);
        ties[i] = static_cast<std::uint8_t>(ties[i] | (reaching[i] ^ below[i]));
      }
    }
    std::uint8_t* const out = klass + (start - begin);
    for (std::int64_t i = 0; i < count; ++i) {
      out[i] = static_cast<std::uint8_t>(less[i] == 0 ? 0 : n_cuts + 1 - less[i]);
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const void* const tie = std::memchr(ties + i, 1, static_cast<std::size_t>(count - i));
      if (tie == nullptr) break;
      i = static_cast<const std::uint8_t*>(tie) - ties;
      out[i] = class_by_ranks(score[i], start + i, cuts, n_cuts);
    }
  }
}

void classify_below(const float* scores, std::int64_t count, float cutoff, std::uint8_t* klass) {
  detail::kernels().classify_below(scores, count, cutoff, klass);
}

}  // namespace infobatch
