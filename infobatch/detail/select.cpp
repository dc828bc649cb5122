#include <infobatch/detail/draw_window.hpp>
#include <infobatch/detail/kernels.hpp>
#include <infobatch/detail/peers.hpp>
#include <infobatch/detail/random_words.hpp>
#include <infobatch/detail/select.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

namespace infobatch {
namespace {

constexpr std::int64_t kChunk =
    2048;  // samples at a time: class bytes and draws stay in the L1 cache

using detail::DrawWindow;

template <typename ClassesOf>
DrawWindow draws_between(std::uint64_t low,
                         std::uint64_t high,
                         const ClassesOf& classes_of,
                         std::uint8_t class_id,
                         std::int64_t n,
                         std::uint64_t seed,
                         std::uint32_t epoch,
                         std::uint32_t stream,
                         Team& team,
                         std::int64_t first) {
  std::vector<DrawWindow> parts(static_cast<std::size_t>(team.size()));
  const std::int64_t chunks = (n + kChunk - 1) / kChunk;
  team.run([&](int thread) {
    std::uint8_t classes[kChunk];
    alignas(64) std::uint32_t words[2 * kChunk];
    DrawWindow part;
    const std::int64_t last = chunks * (thread + 1) / team.size();
    for (std::int64_t chunk = chunks * thread / team.size(); chunk < last; ++chunk) {
      const std::int64_t begin = chunk * kChunk;
      const std::int64_t end = std::min(begin + kChunk, n);
      classes_of(begin, end, classes);
      const std::int64_t blocks = (2 * (end - begin) + kWordsPerBlock - 1) / kWordsPerBlock;
      fill_random_words(seed,
                        epoch,
                        stream,
                        static_cast<std::uint64_t>(2 * (first + begin) / kWordsPerBlock),
                        blocks,
                        words);
      for (std::int64_t i = 0; i < end - begin; ++i) {
        if (classes[i] != class_id) continue;
        const std::uint64_t draw = words[2 * i] | std::uint64_t{words[2 * i + 1]} << 32;
        if (draw < low) {
          ++part.below;
        } else if (draw <= high) {
          part.inside.emplace_back(draw, first + begin + i);
        }
      }
    }
    parts[static_cast<std::size_t>(thread)] = std::move(part);
  });
  DrawWindow all;
  for (const DrawWindow& part : parts) {
    all.below += part.below;
    all.inside.insert(all.inside.end(), part.inside.begin(), part.inside.end());
  }
  return all;
}

template <typename ClassesOf>
DrawCut smallest_draws(const ClassesOf& classes_of,
                       std::uint8_t class_id,
                       std::int64_t n,
                       std::int64_t n_members,
                       std::int64_t m,
                       std::uint64_t seed,
                       std::uint32_t epoch,
                       std::uint32_t stream,
                       Team& team,
                       std::int64_t first = 0,
                       const detail::Peers* peers = nullptr) {
  const auto own_between = [&](std::uint64_t low, std::uint64_t high) {
    return draws_between(low, high, classes_of, class_id, n, seed, epoch, stream, team, first);
  };
  if (peers == nullptr) return detail::smallest_draws(n_members, m, own_between);
  return detail::seek_cut(
      n_members,
      m,
      [&](std::uint64_t low, std::uint64_t high, bool last) -> std::optional<DrawCut> {
        DrawWindow own = own_between(low, high);
        std::int64_t counts[] = {own.below, static_cast<std::int64_t>(own.inside.size())};
        peers->add_up(counts, 2);
        const std::int64_t rank = m - counts[0];
        if (rank >= 0 && rank < counts[1]) {
          return peers->draw_at(rank, low, high, std::move(own.inside));
        }
        if (last) peers->refuse_counts();
        return std::nullopt;
      });
}

}  // namespace

DrawCut select_smallest_draws(const Classifier& classifier,
                              std::uint8_t class_id,
                              std::int64_t n,
                              std::int64_t n_members,
                              std::int64_t m,
                              std::uint64_t seed,
                              std::uint32_t epoch,
                              std::uint32_t stream,
                              Team& team,
                              std::int64_t first,
                              const detail::Peers* peers) {
  const auto classes_of = [&](std::int64_t begin, std::int64_t end, std::uint8_t* classes) {
    classify(classifier, begin, end, classes);
  };
  return smallest_draws(
      classes_of, class_id, n, n_members, m, seed, epoch, stream, team, first, peers);
}

namespace {

// The keys of samples, those outside the pool as NaN.
class Keys {
 public:
  Keys(const Key& key, const Pool* pool) : key_(key), pool_(pool) {}

  // At most kChunk of them, borrowed where they lie in memory already.
  const float* of(std::int64_t begin, std::int64_t end, float* scratch) const {
    const float* const column = key_.column();
    if (pool_ == nullptr && column != nullptr) return column + begin;
    fill_keys(key_, begin, end, scratch);
    if (pool_ != nullptr) leave_pool(*pool_, begin, end, scratch);
    return scratch;
  }

 private:
  const Key& key_;
  const Pool* pool_;
};

// How often each half-word half_of(ordered) occurs among the keys with `accept`.
template <typename Accept, typename Half>
std::vector<std::int64_t> histogram(
    const Keys& keys, std::int64_t n, Team& team, const Accept& accept, const Half& half_of) {
  constexpr std::size_t kHalves = std::size_t{1} << 16;
  std::vector<std::vector<std::int64_t>> parts(static_cast<std::size_t>(team.size()));
  team.run([&](int thread) {
    std::vector<std::int64_t> counts(kHalves);
    alignas(64) float scratch[kChunk];
    const std::int64_t last = n * (thread + 1) / team.size();
    for (std::int64_t begin = n * thread / team.size(); begin < last; begin += kChunk) {
      const std::int64_t end = std::min(begin + kChunk, last);
      const float* const key = keys.of(begin, end, scratch);
      for (std::int64_t i = 0; i < end - begin; ++i) {
        if (std::isnan(key[i])) continue;
        const std::uint32_t ordered = ordered_key(key[i]);
        if (accept(ordered)) ++counts[half_of(ordered)];
      }
    }
    parts[static_cast<std::size_t>(thread)] = std::move(counts);
  });
  for (std::size_t thread = 1; thread < parts.size(); ++thread) {
    for (std::size_t half = 0; half < kHalves; ++half) parts[0][half] += parts[thread][half];
  }
  return std::move(parts[0]);
}

// The half-word that holds the rank-th element (from 0); `rank` becomes the rank within it.
std::uint32_t half_at(const std::vector<std::int64_t>& counts, std::int64_t& rank) {
  std::uint32_t half = 0;
  while (rank >= counts[half]) rank -= counts[half++];
  return half;
}

}  // namespace

RankCut select_rank(const Key& key,
                    const Pool* pool,
                    std::int64_t n,
                    std::int64_t rank,
                    std::uint64_t seed,
                    std::uint32_t epoch,
                    Team& team) {
  RankCut cut;
  cut.seed = seed;
  cut.epoch = epoch;
  if (rank <= 0) return cut;
  const Keys keys(key, pool);
  // The last sample before the cut has rank `rank - 1`: find its key, then how many of the samples
  // with this key lie before the cut.
  std::int64_t rest = rank - 1;
  const auto upper = histogram(
      keys,
      n,
      team,
      [](std::uint32_t) { return true; },
      [](std::uint32_t ordered) { return ordered >> 16; });
  const std::uint32_t top = half_at(upper, rest);
  const auto lower = histogram(
      keys,
      n,
      team,
      [top](std::uint32_t ordered) { return ordered >> 16 == top; },
      [](std::uint32_t ordered) { return ordered & 0xFFFFu; });
  const std::uint32_t bottom = half_at(lower, rest);
  cut.key = key_of_ordered(top << 16 | bottom);
  const auto ties = [&](std::int64_t begin, std::int64_t end, std::uint8_t* classes) {
    alignas(64) float scratch[kChunk];
    const float* const given = keys.of(begin, end, scratch);
    for (std::int64_t i = 0; i < end - begin; ++i) classes[i] = given[i] == cut.key ? 1 : 0;
  };
  cut.ties =
      smallest_draws(ties, 1, n, lower[bottom], rest + 1, seed, epoch, kStreamRankTies, team);
  return cut;
}

void classify_by_ranks(const float* keys,
                       std::int64_t begin,
                       std::int64_t end,
                       const RankCut* cuts,
                       int n_cuts,
                       std::uint8_t* classes) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::uint8_t below[kChunk];     // one cut: the key is less
  std::uint8_t reaching[kChunk];  // one cut: the key is less or equal
  std::uint8_t less[kChunk];      // cuts that the key is less than; none for NaN
  std::uint8_t ties[kChunk];      // cuts whose key it equals
  for (std::int64_t start = begin; start < end; start += kChunk) {
    const std::int64_t count = std::min(kChunk, end - start);
    const float* const key = keys + (start - begin);
    std::fill(less, less + count, std::uint8_t{0});
    std::fill(ties, ties + count, std::uint8_t{0});
    for (int cut = 0; cut < n_cuts; ++cut) {
      classify_below(key, count, cuts[cut].key, below);
      classify_below(key, count, std::nextafter(cuts[cut].key, kInfinity), reaching);
      for (std::int64_t i = 0; i < count; ++i) {
        less[i] = static_cast<std::uint8_t>(less[i] + below[i]);
        ties[i] = static_cast<std::uint8_t>(ties[i] | (reaching[i] ^ below[i]));
      }
    }
    std::uint8_t* const out = classes + (start - begin);
    for (std::int64_t i = 0; i < count; ++i) {
      out[i] = static_cast<std::uint8_t>(less[i] == 0 ? 0 : n_cuts + 1 - less[i]);
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const void* const tie = std::memchr(ties + i, 1, static_cast<std::size_t>(count - i));
      if (tie == nullptr) break;
      i = static_cast<const std::uint8_t*>(tie) - ties;
      out[i] = class_by_ranks(key[i], start + i, cuts, n_cuts);
    }
  }
}

void classify_below(const float* keys, std::int64_t count, float threshold, std::uint8_t* classes) {
  detail::kernels().classify_below(keys, count, threshold, classes);
}

}  // namespace infobatch
