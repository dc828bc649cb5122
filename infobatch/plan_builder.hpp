#pragma once

#include <infobatch/buffer.hpp>
#include <infobatch/epoch_rule.hpp>
#include <infobatch/threads.hpp>

#include <cstdint>
#include <vector>

namespace infobatch {

/// What became of one class of an epoch.
struct ClassCount {
  std::int64_t members = 0;
  std::int64_t kept = 0;
  std::uint64_t keep_below = 0;  ///< q: kept iff the 32-bit draw < q (bernoulli; 0 in exact mode)
  float weight = 0.0f;           ///< of every kept sample of the class; 0 where none can be kept
};

/// The kept ids of an epoch in training order, and their weights.
struct PlanArrays {
  Buffer<std::int64_t> ids;
  Buffer<float> weights;
  std::int64_t size = 0;
  std::vector<ClassCount> counts;  ///< one for each class of the rule
};

/// The largest data set, in samples.
constexpr std::int64_t kMaxSamples = std::int64_t{1} << 40;

/// Keeps, weighs and shuffles the samples [0, n) by `rule` (rules 3, 4, 5, 8, 16): a pure
/// function of the arguments, whatever the team and the instruction set.
///
/// @param recycled  a plan no longer needed; its memory is used again where it suffices.
/// @throws InvalidArgument n outside [0, 2^40], no class or more than 16, a keep ratio outside
///         [0, 1], a multiple outside [1, 2^40]; std::bad_alloc. A class number at or above the
///         number of classes is refused too.
/// @note Memory: 12 bytes a kept sample (20 above 2^28 samples with 16 classes, 2^31 with two)
///       beside address space for n, plus a megabyte or so a thread.
PlanArrays build_plan(std::int64_t n,
                      std::uint64_t seed,
                      std::uint32_t epoch,
                      const EpochRule& rule,
                      Team& team,
                      PlanArrays recycled = {});

}  // namespace infobatch
