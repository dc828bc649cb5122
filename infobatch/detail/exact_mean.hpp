#pragma once

#include <infobatch/detail/threads.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace infobatch {

/// The exact sum and number of observed scores (rule 2).
///
/// A fixed-point number in units of 2^-149, the smallest float32, wide enough for 2^40 values of
/// any finite size: nothing is ever rounded, so order and number of threads cannot matter.
class ScoreSum {
 public:
  /// Number of scores in the sum.
  std::int64_t count() const { return count_; }
  /// The mean as a double, for display: within two units in the last place. 0 without scores.
  double mean() const;
  /// The smallest float32 f with f * count >= sum: `score < f` as a comparison of floats holds
  /// exactly where score * count < sum does. Without scores -infinity: nothing is below.
  float threshold() const;
  /// Adds what `other` holds.
  void merge(const ScoreSum& other);
  /// Adds one finite score.
  void add(float score);
  /// Adds value * 2^exponent (exponent in [-149, 150]), the sum of `count` scores.
  void add_scaled(std::int64_t value, int exponent, std::int64_t count);

  friend bool operator==(const ScoreSum& a, const ScoreSum& b) {
    return a.count_ == b.count_ && a.limbs_ == b.limbs_;
  }

 private:
  static constexpr std::size_t kLimbs = 6;
  using Limbs = std::array<std::uint64_t, kLimbs>;  // two's complement, least significant first

  static void add_shifted(Limbs& limbs, std::int64_t value, int shift);
  bool reached_by(std::uint32_t ordered) const;

  Limbs limbs_{};
  std::int64_t count_ = 0;
};

/// The exact sum over the n scores that are not NaN (NaN: never observed). The scores are finite
/// otherwise; zero, negative and denormal ones are welcome.
///
/// @note Memory speed on one thread for losses as they occur; at worst about 2 ns a score.
ScoreSum sum_scores(const float* scores, std::int64_t n, Team& team);

}  // namespace infobatch
