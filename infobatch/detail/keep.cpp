#include <infobatch/detail/keep.hpp>
#include <infobatch/detail/kernels.hpp>
#include <infobatch/detail/random_words.hpp>
#include <infobatch/error.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace infobatch {
namespace detail {
namespace {

__extension__ using Wide = unsigned __int128;

// Samples at a time: all that belongs to them stays in L1, and their draws are one group.
constexpr std::int64_t kChunk = kDrawGroup;
constexpr std::size_t kChunkWords = static_cast<std::size_t>(kChunk / kLaneWord);
constexpr int kMaxClasses = EpochRule::kMaxClasses;

using Counts = std::array<std::int64_t, kMaxClasses>;

using Lanes = std::array<std::uint64_t, kChunkWords>;

// The classes of a chunk of samples, and which of them are kept.
struct Chunk {
  alignas(64) std::uint8_t classes[kChunk];
  alignas(64) Lanes kept;
  alignas(64) std::uint32_t cut_words[2 * kChunk];
};

// How many samples of each class there are, and how many of them are kept.
struct ClassCounts {
  Counts members{};
  Counts kept{};
};

[[noreturn]] void refuse_class(const std::uint8_t* classes,
                               std::int64_t count,
                               std::size_t n_classes) {
  const int largest = count > 0 ? *std::max_element(classes, classes + count) : 0;
  throw InvalidArgument(message("plan: the class of a sample must be below ",
                                n_classes,
                                ", the number of classes, got ",
                                largest));
}

// Leaves the lanes whose 64-bit draw lies before the cut; returns how many they are.
// `begin` is the id of the first lane.
int draws_before(const DrawCut& cut, std::int64_t begin, const Chunk& chunk, Lanes& lanes) {
  int n = 0;
  for (std::size_t w = 0; w < lanes.size(); ++w) {
    std::uint64_t before = 0;
    for (std::uint64_t word = lanes[w]; word != 0; word &= word - 1) {
      const auto lane = static_cast<std::size_t>(__builtin_ctzll(word));
      const std::size_t i = w * kLaneWord + lane;
      const std::uint64_t draw = chunk.cut_words[2 * i] | std::uint64_t{chunk.cut_words[2 * i + 1]}
                                                              << 32;
      const bool covered = cut.covers(draw, begin + static_cast<std::int64_t>(i));
      before |= std::uint64_t{covered} << lane;
      n += covered ? 1 : 0;
    }
    lanes[w] = before;
  }
  return n;
}

// Decides which samples of a chunk are kept: chunk.kept. `begin` is the id of the first one.
void decide_chunk(const std::vector<ClassRule>& rules,
                  std::uint64_t seed,
                  std::uint32_t epoch,
                  std::int64_t begin,
                  int count,
                  Chunk& chunk,
                  ClassCounts& counts) {
  chunk.kept.fill(0);
  int known = 0;
  for (std::size_t c = 0; c < rules.size(); ++c) {
    alignas(64) Lanes lanes{};
    const int members =
        kernels().class_lanes(chunk.classes, count, static_cast<std::uint8_t>(c), lanes.data());
    known += members;
    counts.members[c] += members;
    if (members == 0 || rules[c].kind == ClassRule::kNone) continue;
    int kept = members;
    if (rules[c].kind == ClassRule::kBelow) {
      kept = kernels().draws_below(seed,
                                   epoch,
                                   kStreamKeep,
                                   static_cast<std::uint64_t>(begin / kDrawGroup),
                                   static_cast<std::uint32_t>(rules[c].keep_below),
                                   lanes.data());
    } else if (rules[c].kind == ClassRule::kCut) {
      kept = draws_before(rules[c].cut, begin, chunk, lanes);
    }
    counts.kept[c] += kept;
    for (std::size_t w = 0; w < lanes.size(); ++w) chunk.kept[w] |= lanes[w];
  }
  if (known != count) refuse_class(chunk.classes, count, rules.size());
}

int append(const Chunk& chunk, int count, std::int64_t first_id, int id_bits, std::uint32_t* out) {
  return kernels().append_items(
      chunk.kept.data(), chunk.classes, count, static_cast<std::uint32_t>(first_id), id_bits, out);
}

// Copies whole cache lines to aligned memory, past the caches where the processor can.
void copy_lines(const void* from, std::size_t bytes, void* to) {
#if defined(__SSE2__)
  const auto* source = static_cast<const __m128i*>(from);
  auto* target = static_cast<__m128i*>(to);
  for (std::size_t i = 0; i < bytes / sizeof(__m128i); ++i) {
    _mm_stream_si128(target + i, _mm_load_si128(source + i));
  }
#else
  std::memcpy(to, from, bytes);
#endif
}

// Writes the kept items of a thread one behind the other. A list that outgrows the caches is
// collected in L1 and leaves it in whole lines, so that memory is written without being read first.
class KeptWriter {
 public:
  KeptWriter(std::uint32_t* out, bool streaming)
      : out_(out), streaming_(streaming && reinterpret_cast<std::uintptr_t>(out) % kLine == 0) {}

  void add(const Chunk& chunk, int count, std::int64_t first_id, int id_bits) {
    if (!streaming_) {
      out_ += append(chunk, count, first_id, id_bits, out_);
      return;
    }
    held_ += append(chunk, count, first_id, id_bits, lines_ + held_);
    const int whole = held_ / kItemsPerLine * kItemsPerLine;
    copy_lines(lines_, static_cast<std::size_t>(whole) * sizeof(std::uint32_t), out_);
    std::copy(lines_ + whole, lines_ + held_, lines_);
    out_ += whole;
    held_ -= whole;
  }

  // The end of the list, which others may read from now on.
  std::uint32_t* finish() {
    out_ = std::copy(lines_, lines_ + held_, out_);
#if defined(__SSE2__)
    if (streaming_) _mm_sfence();
#endif
    return out_;
  }

 private:
  static constexpr std::size_t kLine = 64;
  static constexpr int kItemsPerLine = static_cast<int>(kLine / sizeof(std::uint32_t));

  alignas(64) std::uint32_t lines_[kChunk + kItemsPerLine + kKeepSlack];
  int held_ = 0;
  std::uint32_t* out_;
  bool streaming_;
};

bool any_cut(const std::vector<ClassRule>& rules) {
  return std::any_of(rules.begin(), rules.end(), [](const ClassRule& rule) {
    return rule.kind == ClassRule::kCut;
  });
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

void count_members(const Classifier& classifier,
                   std::int64_t n,
                   int n_classes,
                   Team& team,
                   std::int64_t* members) {
  std::vector<Counts> parts(static_cast<std::size_t>(team.size()), Counts{});
  team.run([&](int thread) {
    alignas(64) std::uint8_t classes[kChunk];
    alignas(64) Lanes lanes;
    Counts& part = parts[static_cast<std::size_t>(thread)];
    const std::int64_t last = part_begin(n, thread + 1, team.size());
    for (std::int64_t begin = part_begin(n, thread, team.size()); begin < last; begin += kChunk) {
      const std::int64_t end = std::min(begin + kChunk, last);
      const auto count = static_cast<int>(end - begin);
      classify(classifier, begin, end, classes);
      int known = 0;
      for (int c = 0; c < n_classes && known < count; ++c) {
        const auto number = static_cast<std::uint8_t>(c);
        const int found = kernels().class_lanes(classes, count, number, lanes.data());
        part[static_cast<std::size_t>(c)] += found;
        known += found;
      }
      if (known != count) refuse_class(classes, count, static_cast<std::size_t>(n_classes));
    }
  });
  for (std::size_t c = 0; c < static_cast<std::size_t>(n_classes); ++c) {
    members[c] = 0;
    for (const Counts& part : parts) members[c] += part[c];
  }
}

KeptRuns keep_samples(std::int64_t n,
                      std::uint64_t seed,
                      std::uint32_t epoch,
                      const Classifier& classifier,
                      const std::vector<ClassRule>& rules,
                      int id_bits,
                      Team& team,
                      std::uint32_t* items,
                      KeptCounts& counts,
                      bool streaming,
                      std::int64_t first) {
  const bool cuts = any_cut(rules);
  const auto n_threads = static_cast<std::size_t>(team.size());
  std::vector<ClassCounts> parts(n_threads);
  KeptRuns kept;
  kept.runs.resize(n_threads);

  team.run([&](int thread) {
    Chunk chunk;
    ClassCounts part;
    const std::int64_t part_first = part_begin(n, thread, team.size());
    const std::int64_t last = part_begin(n, thread + 1, team.size());
    KeptWriter writer(items + part_first, streaming);
    for (std::int64_t begin = part_first; begin < last; begin += kChunk) {
      const std::int64_t end = std::min(begin + kChunk, last);
      const auto count = static_cast<int>(end - begin);
      classify(classifier, begin, end, chunk.classes);
      if (cuts) {
        const std::int64_t blocks = (count + kWordsPerBlock - 1) / kWordsPerBlock;
        const auto first_block = static_cast<std::uint64_t>((first + begin) / kWordsPerBlock);
        fill_random_words(
            seed, epoch, kStreamExactKeep, 2 * first_block, 2 * blocks, chunk.cut_words);
      }
      decide_chunk(rules, seed, epoch, first + begin, count, chunk, part);
      writer.add(chunk, count, begin, id_bits);
    }
    parts[static_cast<std::size_t>(thread)] = part;
    kept.runs[static_cast<std::size_t>(thread)] = {
        part_first, writer.finish() - (items + part_first), 0};
  });

  for (KeptRuns::Run& run : kept.runs) {
    run.position = kept.size;
    kept.size += run.size;
  }
  for (std::size_t c = 0; c < counts.size(); ++c) {
    counts[c].members = counts[c].kept = 0;
    for (const ClassCounts& part : parts) {
      counts[c].members += part.members[c];
      counts[c].kept += part.kept[c];
    }
  }
  return kept;
}

}  // namespace detail
}  // namespace infobatch
