#pragma once

#include <infobatch/detail/buffer.hpp>
#include <infobatch/detail/epoch_rule.hpp>
#include <infobatch/detail/threads.hpp>

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

class Peers;
struct ShuffleConstants;

/// What an epoch is: the samples [0, size), kept, weighed and shuffled by `rule`.
struct PlanTask {
  std::int64_t size = 0;
  std::uint64_t seed = 0;
  std::uint32_t epoch = 0;
  EpochRule rule;
  std::int64_t first = 0;        ///< id of sample 0 in the whole table (IdRange): draws are by that
  const Peers* peers = nullptr;  ///< who holds the rest of it
};

/// Where a plan goes: plan_slots(size) slots each. Behind the kept samples they are scratch.
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

/// Slots of PlanMemory for `size` samples.
std::int64_t plan_slots(std::int64_t size);

/// @throws InvalidArgument  size outside [0, most_samples], no class or more than 16, a keep ratio
///                          outside [0, 1], a multiple outside [1, 2^31].
void check_plan(const PlanTask& task);

/// Memory for a plan of `size` samples, that of `recycled` where it suffices.
PlanArrays reserve_plan(std::int64_t size, PlanArrays recycled);

/// Keeps, weighs and shuffles (rules 3, 4, 5, 8, 16) what `check_plan` found to be right: a pure
/// function of task and constants, whatever the team and the instruction set.
///
/// @param constants  those of the rule, but in tests.
/// @throws InvalidArgument  a class number at or above the number of classes; std::bad_alloc.
/// @note Memory: 12 bytes a kept sample beside address space for all, plus a megabyte or so a
///       thread.
PlanOutcome fill_plan(const PlanTask& task,
                      const ShuffleConstants& constants,
                      Team& team,
                      const PlanMemory& memory);

/// The plan that was made in this memory; what lies behind it goes back to the system.
PlanArrays finish_plan(PlanArrays reserved, const PlanOutcome& outcome);

}  // namespace detail
}  // namespace infobatch
