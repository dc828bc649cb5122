#pragma once

#include <cstdint>

// The inner loops that exist once for each instruction set. Files that are compiled for more than
// the baseline include this header and no other of the library, so that no inline function of a
// newer instruction set can end up in baseline code.

namespace infobatch {
namespace detail {

enum class SimdLevel { kPortable = 0, kAvx2 = 1, kAvx512 = 2 };

/// Scores that BlockSum covers at most.
constexpr int kSumBlock = 4096;
/// Classes that a keep table holds.
constexpr int kTableClasses = 16;

/// The exact sum of one block of scores: high * 2^high_exponent + low * 2^low_exponent.
struct BlockSum {
  std::int64_t high = 0;
  std::int64_t low = 0;
  int high_exponent = 0;
  int low_exponent = 0;
  std::int64_t count = 0;  ///< scores that are not NaN
};

/// How the samples of each class are kept: iff allowed and word <= last. Both are 0 for the classes
/// from n_classes on.
struct KeepTable {
  std::uint32_t last[kTableClasses] = {};
  std::uint32_t allowed = 0;  ///< bit c: samples of class c can be kept
  int n_classes = 1;
  int id_bits = 32;  ///< an item is id | class << id_bits
};

/// One implementation of the inner loops. Every level gives the same bits.
struct Kernels {
  /// As fill_random_words.
  void (*fill_words)(std::uint64_t seed,
                     std::uint32_t epoch,
                     std::uint32_t stream,
                     std::uint64_t first_block,
                     std::int64_t n_blocks,
                     std::uint32_t* out);
  /// The exact sum of count <= kSumBlock scores, NaN skipped; false where the range of the scores
  /// is too wide for it.
  bool (*sum_block)(const float* scores, int count, BlockSum* sum);
  /// As classify_below.
  void (*classify_below)(const float* scores,
                         std::int64_t count,
                         float cutoff,
                         std::uint8_t* klass);
  /// Writes the items of the kept ones among `count` samples from first_id on, in order, and adds
  /// to members[class] and kept[class]. Returns the number of items, or -1 for a class at or above
  /// n_classes. The inputs may be read up to the next multiple of 64, out written up to the next
  /// multiple of 16.
  int (*keep_items)(const std::uint8_t* klass,
                    const std::uint32_t* words,
                    int count,
                    std::uint32_t first_id,
                    const KeepTable& table,
                    std::uint32_t* out,
                    std::int64_t* members,
                    std::int64_t* kept);
  /// index[i] = high half of word[i] * (first_bound + i) for the words of n_blocks blocks, where
  /// bounds below 1 are of no interest. Returns whether some low half is below its bound, that is,
  /// whether a word might have to be rejected.
  bool (*swap_indices)(std::uint64_t seed,
                       std::uint32_t epoch,
                       std::uint32_t stream,
                       std::uint64_t first_block,
                       std::int64_t n_blocks,
                       std::int32_t first_bound,
                       std::uint32_t* index);
  /// counts[part] += draws whose top `bits` bits are `part`; bits is 1 or 2.
  void (*count_few)(const std::uint8_t* draws, std::int64_t count, int bits, std::uint32_t* counts);
  /// out[next[part]++] = items[i], where `part` is the top `bits` bits of draws[i]; bits is 1 or 2.
  void (*scatter_few)(const std::uint8_t* draws,
                      const std::uint32_t* items,
                      std::int64_t count,
                      int bits,
                      std::uint32_t* next,
                      std::uint32_t* out);
  /// ids[i] and weights[i] of the items; `weights` may be the memory of `items` itself.
  /// `streaming` bypasses the caches for ids.
  void (*emit)(const std::uint32_t* items,
               std::int64_t count,
               int id_bits,
               const float* class_weight,
               std::int64_t* ids,
               float* weights,
               bool streaming);
};

/// The implementations; nullptr where the build or the processor lacks the instruction set.
const Kernels* portable_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();

/// The best level that this processor runs.
SimdLevel best_simd_level();
/// The kernels in use: the best, unless set_simd_level chose others.
const Kernels& kernels();
/// For tests: uses `level`, or the best one below it that this processor runs; returns which.
SimdLevel set_simd_level(SimdLevel level);

}  // namespace detail
}  // namespace infobatch
