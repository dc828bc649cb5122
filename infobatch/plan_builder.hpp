#pragma once

#include <infobatch/buffer.hpp>
#include <infobatch/epoch_rule.hpp>
#include <infobatch/threads.hpp>

#include <cstddef>
#include <cstdint>

namespace infobatch {

/// What became of one class of an epoch.
struct ClassCount {
  std::int64_t members = 0;
  std::int64_t kept = 0;
  std::uint64_t keep_below = 0;  ///< q: kept iff the 32-bit draw < q (bernoulli; 0 in exact mode)
  float weight = 0.0f;           ///< of every kept sample of the class; 0 where none can be kept
};

/// One for each class of a rule.
using KeptCounts = detail::ShortList<ClassCount, EpochRule::kMaxClasses>;

/// The kept ids of an epoch in training order, and their weights.
struct PlanArrays {
  Buffer<std::int64_t> ids;
  Buffer<float> weights;
  std::int64_t size = 0;
  KeptCounts counts;
};

/// Bits of an item, which holds a sample's id and its class while a plan is made.
constexpr int kItemBits = 32;

/// Bits that the class takes, at least one.
constexpr int class_bits(std::size_t classes) {
  int bits = 1;
  while (std::size_t{1} << bits < classes) ++bits;
  return bits;
}

/// The most samples of a rule with this many classes: 2^31 with two, 2^30 with four, 2^28 with
/// sixteen.
constexpr std::int64_t most_samples(std::size_t classes) {
  return std::int64_t{1} << (kItemBits - class_bits(classes));
}

namespace detail {

/// Where a plan goes: plan_slots(n) slots each. Behind the kept samples they are scratch.
struct PlanMemory {
  std::int64_t* ids = nullptr;
  float* weights = nullptr;
};

/// What became of it.
struct PlanOutcome {
  std::int64_t kept = 0;
  std::int64_t used = 0;  ///< slots of `weights` that were written to
  KeptCounts counts;
};

/// Slots of PlanMemory for n samples.
std::int64_t plan_slots(std::int64_t n);

/// @throws InvalidArgument  as build_plan, for what can be said before the samples are looked at.
void check_plan(std::int64_t n, const EpochRule& rule);

/// Memory for a plan of n samples, that of `recycled` where it suffices.
PlanArrays reserve_plan(std::int64_t n, PlanArrays recycled);

/// The plan that was made in this memory; what lies behind it goes back to the system.
PlanArrays finish_plan(PlanArrays reserved, const PlanOutcome& outcome);

}  // namespace detail

/// Keeps, weighs and shuffles the samples [0, n) by `rule` (rules 3, 4, 5, 8, 16): a pure
/// function of the arguments, whatever the team and the instruction set.
///
/// @param recycled  a plan no longer needed; its memory is used again where it suffices.
/// @throws InvalidArgument n outside [0, most_samples], no class or more than 16, a keep ratio
///         outside [0, 1], a multiple outside [1, 2^31]; std::bad_alloc. A class number at or above
///         the number of classes is refused too.
/// @note Memory: 12 bytes a kept sample beside address space for n, plus a megabyte or so a thread.
PlanArrays build_plan(std::int64_t n,
                      std::uint64_t seed,
                      std::uint32_t epoch,
                      const EpochRule& rule,
                      Team& team,
                      PlanArrays recycled = {});

}  // namespace infobatch
