#pragma once

#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/plan_builder.hpp>
#include <infobatch/detail/streams.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

namespace infobatch::detail {

/// The user's column of sampling weights, by sample: what a weighted sampler would be given, to
/// balance classes for example. Sample i is to count m_i = weight_i / mean times an epoch, in
/// expectation, whatever the policy leaves out.
struct SamplingWeights {
  static constexpr const char* kColumn = "sampling_weight";
  /// Bits by which a weight may differ from the mean.
  static constexpr int kReach = 32;

  const float* values = nullptr;  ///< [N]; nullptr: every sample counts once
  double mean = 1.0;

  explicit operator bool() const { return values != nullptr; }
  double multiplicity(std::int64_t id) const { return values[id] / mean; }
};

/// What is wrong with a column of them, with the value; "" where nothing is. O(N).
std::string sampling_weights_problem(const float* values, std::int64_t size, double mean);

/// What a multiplicity m means for a sample that the policy has kept.
struct Thinning {
  std::uint64_t keep_below = std::uint64_t{1} << 32;  ///< kept iff its 32-bit draw is below
  double factor = 1.0;                                ///< of its weight
};

/// Where samples may be thinned out, one with m < 1 is kept with probability q / 2^32, q the
/// nearest to m, and weighs m / that: 1 but for the rounding of q. Else it is kept, and weighs m.
inline Thinning thinning_of(double multiplicity, bool thins) {
  Thinning thinning;
  thinning.factor = multiplicity;
  if (!thins || multiplicity >= 1.0) return thinning;
  constexpr double kRange = 4294967296.0;  // 2^32
  const double below = std::max(1.0, std::nearbyint(multiplicity * kRange));
  thinning.keep_below = static_cast<std::uint64_t>(below);
  thinning.factor = multiplicity * kRange / below;
  return thinning;
}

/// Turns the plan of a policy into one that has samples as often as their weights say: what is
/// drawn is a pure function of (seed, epoch, id), what stays keeps its order.
/// @param thins  samples of m < 1 are left out in part; else all stay, and weigh less.
/// @note O(K), one thread; about 10 ns a sample.
void apply_sampling_weights(const SamplingWeights& weights,
                            const PlanTask& task,
                            bool thins,
                            PlanArrays& plan);

}  // namespace infobatch::detail
