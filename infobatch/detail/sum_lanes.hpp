#pragma once

#include <infobatch/detail/kernels.hpp>

#include <cstdint>

// How a block of float32 is summed exactly in double lanes. The functions are static: files of
// different instruction sets each compile their own.

namespace infobatch {
namespace detail {
namespace sum_lanes {

constexpr std::uint32_t kAbsMask = 0x7FFFFFFFu;
constexpr std::uint32_t kInfinityBits = 0x7F800000u;
constexpr std::uint32_t kLeastNormalBits = 0x00800000u;
constexpr int kDoubleBits = 53;

/// The size of the scores of a block: the largest |x| and the smallest |x| - 1 (as unsigned bits:
/// 0 becomes the largest number, so that zeros, which every grid contains, do not count).
struct Range {
  std::uint32_t max_abs;
  std::uint32_t min_abs_minus_1;
};

/// |x| < 2^top(range) for all x.
static inline int top(Range range) { return static_cast<int>(range.max_abs >> 23) - 126; }

/// All x are multiples of 2^grid(range): the last place of the smallest.
static inline int grid(Range range) {
  if (range.min_abs_minus_1 >= range.max_abs) return -149;  // zeros only: any grid will do
  const int exponent = static_cast<int>((range.min_abs_minus_1 + 1) >> 23);
  return (exponent > 0 ? exponent : 1) - 150;
}

/// Whether doubles can hold the scores whatever the processor's mode: false with infinities and
/// with denormals, which a mode may flush to zero.
static inline bool is_plain(Range range) {
  return range.max_abs < kInfinityBits && range.min_abs_minus_1 >= kLeastNormalBits - 1;
}

/// Whether 2^lane_bits numbers below 2^top on the grid 2^grid add up in a double without rounding.
static inline bool fits(int top, int grid, int lane_bits) {
  return top - grid + lane_bits <= kDoubleBits;
}

/// 2^exponent, exponent in [-1022, 1023].
static inline double power_of_two(int exponent) {
  const std::uint64_t bits = static_cast<std::uint64_t>(exponent + 1023) << 52;
  double power;
  __builtin_memcpy(&power, &bits, sizeof(power));
  return power;
}

/// The grid on which the high parts of a split sum lie: as fine as their lanes can be.
static inline int high_grid(Range range, int lane_bits) {
  return top(range) + lane_bits + 1 - kDoubleBits;
}

/// Whether the rest of x beyond the high grid adds up in a double without rounding, too.
static inline bool split_fits(Range range, int lane_bits) {
  return fits(high_grid(range, lane_bits), grid(range), lane_bits);
}

/// Adding and subtracting this rounds a double below 2^(exponent + 50) to multiples of 2^exponent.
static inline double rounder(int exponent) { return 1.5 * power_of_two(exponent + 52); }

/// The sum of the lanes in units of 2^grid, which is exact.
static inline std::int64_t total(const double* lanes, int n_lanes, int grid) {
  const double scale = power_of_two(-grid);
  std::int64_t sum = 0;
  for (int lane = 0; lane < n_lanes; ++lane) sum += static_cast<std::int64_t>(lanes[lane] * scale);
  return sum;
}

/// Kernels::sum_block out of the parts that differ between instruction sets: observed_range(scores,
/// count, &observed) measures a block; add_whole and add_split(scores, count, rounder, high, low)
/// add it up in kLanes lanes of at most 2^kLaneBits scores, as they are or in two parts.
template <int kLanes, int kLaneBits, typename ObservedRange, typename AddUp>
static inline bool sum_block(const float* scores,
                             int count,
                             ObservedRange observed_range,
                             AddUp add_whole,
                             AddUp add_split,
                             BlockSum* sum) {
  *sum = BlockSum{};
  const Range range = observed_range(scores, count, &sum->count);
  if (!is_plain(range)) return false;
  double high[kLanes], low[kLanes];
  sum->low_exponent = grid(range);
  if (fits(top(range), sum->low_exponent, kLaneBits)) {
    add_whole(scores, count, 0.0, high, low);
    sum->high_exponent = sum->low_exponent;
  } else if (split_fits(range, kLaneBits)) {
    sum->high_exponent = high_grid(range, kLaneBits);
    add_split(scores, count, rounder(sum->high_exponent), high, low);
    sum->low = total(low, kLanes, sum->low_exponent);
  } else {
    return false;
  }
  sum->high = total(high, kLanes, sum->high_exponent);
  return true;
}

}  // namespace sum_lanes
}  // namespace detail
}  // namespace infobatch
