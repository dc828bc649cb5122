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
/// Samples that one lane mask stands for: sample i is bit i % 64 of word i / 64.
constexpr int kLaneWord = 64;

/// What of a plan passes the caches by on its way to memory.
enum class Streaming { kNone, kIds, kAll };

/// The exact sum of one block of scores: high * 2^high_exponent + low * 2^low_exponent.
struct BlockSum {
  std::int64_t high = 0;
  std::int64_t low = 0;
  int high_exponent = 0;
  int low_exponent = 0;
  std::int64_t count = 0;  ///< scores that are not NaN
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
                         float threshold,
                         std::uint8_t* classes);
  /// Sets lanes[i / 64] to the samples whose class byte is `c`, for count <= 2048 samples; returns
  /// how many they are. The bytes may be read up to the next multiple of 64.
  int (*class_lanes)(const std::uint8_t* classes, int count, std::uint8_t c, std::uint64_t* lanes);
  /// Leaves those of 2048 lanes whose sliced draw is below `bound`, 1 <= bound < 2^32; returns how
  /// many they are. The samples are those of group `group` (sliced_draw()).
  int (*draws_below)(std::uint64_t seed,
                     std::uint32_t epoch,
                     std::uint32_t stream,
                     std::uint64_t group,
                     std::uint32_t bound,
                     std::uint64_t* lanes);
  /// Writes the items id | class << id_bits of the lanes that are set among `count` samples from
  /// first_id on, in order; returns how many. The bytes may be read up to the next multiple of 64,
  /// `out` written up to 16 slots behind the items.
  int (*append_items)(const std::uint64_t* lanes,
                      const std::uint8_t* classes,
                      int count,
                      std::uint32_t first_id,
                      int id_bits,
                      std::uint32_t* out);
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
  /// Bits that are set in n_words words.
  std::int64_t (*count_lanes)(const std::uint64_t* lanes, int n_words);
  /// For part = 0 .. parts - 1: moves the items of the lanes of `part`, in order, to out[part] and
  /// moves that pointer on. Lanes lanes[n_words part + w] stand for the items from 64 w on; no item
  /// has more than one part. Up to four parts.
  void (*scatter_few)(const std::uint64_t* lanes,
                      int n_words,
                      int parts,
                      const std::uint32_t* items,
                      std::uint32_t** out);
  /// ids[i] and weights[i] of the items; `weights` may be the memory of `items` itself unless it
  /// is streamed.
  void (*emit)(const std::uint32_t* items,
               std::int64_t count,
               int id_bits,
               const float* class_weight,
               std::int64_t* ids,
               float* weights,
               Streaming streaming);
  /// Copies raw losses; whatever is not finite becomes the pattern `replacement`. Returns how many
  /// of them are not finite. By bits, whatever the processor's mode.
  std::int64_t (*stage_losses)(const float* losses,
                               std::int64_t count,
                               std::uint32_t replacement,
                               float* out);
  /// sum(losses[i] * weights[i]) in float64, always added in the same order: in eight lanes, lane l
  /// the terms l, l + 8, ...; then ((0+1)+(2+3)) + ((4+5)+(6+7)).
  double (*weighted_sum)(const float* losses, const float* weights, std::int64_t count);
};

/// The implementations; nullptr where the build or the processor lacks the instruction set.
const Kernels* portable_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();

/// Whether the processor, and the system with it, runs what the files of this level are compiled
/// for.
bool processor_runs(SimdLevel level);
/// The best level that this processor runs.
SimdLevel best_simd_level();
/// The kernels in use: the best, unless set_simd_level chose others.
const Kernels& kernels();
/// For tests: uses `level`, or the best one below it that this processor runs; returns which.
SimdLevel set_simd_level(SimdLevel level);

}  // namespace detail
}  // namespace infobatch
