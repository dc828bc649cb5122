#include <infobatch/detail/kernels.hpp>
#include <infobatch/error.hpp>
#include <infobatch/keep.hpp>
#include <infobatch/random_words.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace infobatch {
namespace detail {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::int64_t kChunk = 2048;  // samples at a time: all that belongs to them stays in L1
constexpr std::uint32_t kAlways = 0xFFFFFFFFu;
constexpr int kMaxClasses = EpochRule::kMaxClasses;
static_assert(kMaxClasses <= kTableClasses, "a keep table has a slot for each class");

using Counts = std::array<std::int64_t, kMaxClasses>;

// The classes of a chunk of samples and what the keep rule compares with.
struct Chunk {
  alignas(64) std::uint8_t klass[kChunk];
  alignas(64) std::uint32_t words[kChunk];
  alignas(64) std::uint32_t cut_words[2 * kChunk];
};

void classify_chunk(const Classify& classify,
                    std::int64_t begin,
                    std::int64_t end,
                    std::uint8_t* klass) {
  if (classify) {
    classify(begin, end, klass);
  } else {
    std::memset(klass, 0, static_cast<std::size_t>(end - begin));
  }
}

[[noreturn]] void refuse_class(const std::uint8_t* klass,
                               std::int64_t count,
                               std::size_t n_classes) {
  const int largest = count > 0 ? *std::max_element(klass, klass + count) : 0;
  throw InvalidArgument(message("build_plan: the class of a sample must be below ",
                                n_classes,
                                ", the number of classes, got ",
                                largest));
}

// Turns the 64-bit draws of a chunk into words that are 0 for what lies before its class's cut.
void apply_cuts(const std::vector<ClassRule>& rules,
                std::int64_t begin,
                std::int64_t count,
                Chunk& chunk) {
  for (std::int64_t i = 0; i < count; ++i) {
    if (chunk.klass[i] >= rules.size()) refuse_class(chunk.klass, count, rules.size());
    const ClassRule& rule = rules[chunk.klass[i]];
    if (rule.kind != ClassRule::kCut) continue;
    const std::uint64_t draw = chunk.cut_words[2 * i] | std::uint64_t{chunk.cut_words[2 * i + 1]}
                                                            << 32;
    chunk.words[i] = rule.cut.covers(draw, begin + i) ? 0 : kAlways;
  }
}

KeepTable table_of(const std::vector<ClassRule>& rules, int id_bits) {
  KeepTable table;
  table.n_classes = static_cast<int>(rules.size());
  table.id_bits = id_bits;
  for (std::size_t c = 0; c < rules.size(); ++c) {
    const ClassRule& rule = rules[c];
    if (rule.kind == ClassRule::kNone) continue;
    table.allowed |= 1u << c;
    table.last[c] = rule.kind == ClassRule::kAll ? kAlways
                    : rule.kind == ClassRule::kCut
                        ? 0
                        : static_cast<std::uint32_t>(rule.keep_below - 1);
  }
  return table;
}

bool any_of_kind(const std::vector<ClassRule>& rules, ClassRule::Kind kind) {
  return std::any_of(
      rules.begin(), rules.end(), [kind](const ClassRule& rule) { return rule.kind == kind; });
}

int keep_chunk(const Chunk& chunk,
               int count,
               std::int64_t first_id,
               const KeepTable& table,
               std::uint32_t* out,
               Counts& members,
               Counts& kept) {
  return kernels().keep_items(chunk.klass,
                              chunk.words,
                              count,
                              static_cast<std::uint32_t>(first_id),
                              table,
                              out,
                              members.data(),
                              kept.data());
}

int keep_chunk(const Chunk& chunk,
               int count,
               std::int64_t first_id,
               const KeepTable& table,
               std::uint64_t* out,
               Counts& members,
               Counts& kept) {
  int n = 0;
  for (int i = 0; i < count; ++i) {
    const unsigned c = chunk.klass[i];
    if (c >= static_cast<unsigned>(table.n_classes)) return -1;
    const unsigned keep = (table.allowed >> c & 1u) & (chunk.words[i] <= table.last[c] ? 1u : 0u);
    out[n] = static_cast<std::uint64_t>(first_id + i) | std::uint64_t{c} << table.id_bits;
    n += static_cast<int>(keep);
    ++members[c];
    kept[c] += keep;
  }
  return n;
}

// The part of [0, n) that is thread `thread`'s: whole chunks.
std::int64_t part_begin(std::int64_t n, int thread, int threads) {
  const std::int64_t chunks = (n + kChunk - 1) / kChunk;
  return std::min(chunks * thread / threads * kChunk, n);
}

}  // namespace

float rounded_quotient(std::uint64_t num, std::uint64_t den) {
  // 26 bits or more of the quotient, the last one sticky, are rounded by the conversion to float.
  int shift = 0;
  while (((Wide{num} << shift) / den) >> 25 == 0) ++shift;
  const Wide shifted = Wide{num} << shift;
  auto quotient = static_cast<std::uint64_t>(shifted / den);
  if (shifted % den != 0) quotient |= 1;
  return std::ldexp(static_cast<float>(quotient), -shift);
}

std::uint64_t keep_bound(double ratio) {
  if (ratio <= 0.0) return 0;
  const auto bound = static_cast<std::uint64_t>(std::llround(std::ldexp(ratio, 32)));
  return std::max<std::uint64_t>(bound, 1);
}

std::int64_t exact_kept(double ratio, std::int64_t n) {
  if (ratio <= 0.0 || n <= 0) return 0;
  constexpr std::int64_t kParts = 1000000000;
  const auto parts = static_cast<Wide>(std::llround(ratio * static_cast<double>(kParts)));
  const Wide kept = parts * static_cast<Wide>(n) / static_cast<Wide>(kParts);
  return std::max<std::int64_t>(static_cast<std::int64_t>(kept), 1);
}

void count_members(std::int64_t n,
                   const Classify& classify,
                   Team& team,
                   std::vector<ClassCount>& counts) {
  std::vector<Counts> parts(static_cast<std::size_t>(team.size()), Counts{});
  team.run([&](int thread) {
    std::uint8_t klass[kChunk];
    Counts members{};
    const std::int64_t last = part_begin(n, thread + 1, team.size());
    for (std::int64_t begin = part_begin(n, thread, team.size()); begin < last; begin += kChunk) {
      const std::int64_t end = std::min(begin + kChunk, last);
      classify_chunk(classify, begin, end, klass);
      for (std::int64_t i = 0; i < end - begin; ++i) {
        if (klass[i] >= counts.size()) refuse_class(klass, end - begin, counts.size());
        ++members[klass[i]];
      }
    }
    parts[static_cast<std::size_t>(thread)] = members;
  });
  for (const Counts& part : parts) {
    for (std::size_t c = 0; c < counts.size(); ++c) counts[c].members += part[c];
  }
}

template <typename Item>
KeptRuns keep_samples(std::int64_t n,
                      std::uint64_t seed,
                      std::uint32_t epoch,
                      const Classify& classify,
                      const std::vector<ClassRule>& rules,
                      int id_bits,
                      Team& team,
                      Item* items,
                      std::vector<ClassCount>& counts) {
  const KeepTable table = table_of(rules, id_bits);
  const bool draws = any_of_kind(rules, ClassRule::kBelow);
  const bool cuts = any_of_kind(rules, ClassRule::kCut);
  struct Part {
    Counts members{};
    Counts kept{};
  };
  const auto n_threads = static_cast<std::size_t>(team.size());
  std::vector<Part> parts(n_threads);
  KeptRuns kept;
  kept.runs.resize(n_threads);

  team.run([&](int thread) {
    Chunk chunk;
    std::fill(std::begin(chunk.words), std::end(chunk.words), 0u);
    Part part;
    const std::int64_t first = part_begin(n, thread, team.size());
    const std::int64_t last = part_begin(n, thread + 1, team.size());
    Item* out = items + first;
    for (std::int64_t begin = first; begin < last; begin += kChunk) {
      const std::int64_t end = std::min(begin + kChunk, last);
      classify_chunk(classify, begin, end, chunk.klass);
      const std::int64_t blocks = (end - begin + kWordsPerBlock - 1) / kWordsPerBlock;
      const auto first_block = static_cast<std::uint64_t>(begin / kWordsPerBlock);
      if (draws) {
        fill_random_words(seed, epoch, kStreamKeep, first_block, blocks, chunk.words);
      }
      if (cuts) {
        fill_random_words(
            seed, epoch, kStreamExactKeep, 2 * first_block, 2 * blocks, chunk.cut_words);
        apply_cuts(rules, begin, end - begin, chunk);
      }
      const int n_kept = keep_chunk(
          chunk, static_cast<int>(end - begin), begin, table, out, part.members, part.kept);
      if (n_kept < 0) refuse_class(chunk.klass, end - begin, rules.size());
      out += n_kept;
    }
    parts[static_cast<std::size_t>(thread)] = part;
    kept.runs[static_cast<std::size_t>(thread)] = {first, out - (items + first), 0};
  });

  for (KeptRuns::Run& run : kept.runs) {
    run.position = kept.size;
    kept.size += run.size;
  }
  for (std::size_t c = 0; c < counts.size(); ++c) {
    counts[c].members = counts[c].kept = 0;
    for (const Part& part : parts) {
      counts[c].members += part.members[c];
      counts[c].kept += part.kept[c];
    }
  }
  return kept;
}

template KeptRuns keep_samples(std::int64_t,
                               std::uint64_t,
                               std::uint32_t,
                               const Classify&,
                               const std::vector<ClassRule>&,
                               int,
                               Team&,
                               std::uint32_t*,
                               std::vector<ClassCount>&);
template KeptRuns keep_samples(std::int64_t,
                               std::uint64_t,
                               std::uint32_t,
                               const Classify&,
                               const std::vector<ClassRule>&,
                               int,
                               Team&,
                               std::uint64_t*,
                               std::vector<ClassCount>&);

}  // namespace detail
}  // namespace infobatch
