#pragma once

#include <infobatch/plan_builder.hpp>
#include <infobatch/shuffle.hpp>

#include <cstdint>

namespace infobatch {
namespace detail {

/// What tests vary of build_plan: other constants make other plans.
struct PlanOptions {
  ShuffleConstants shuffle;
};

/// Makes a plan in the memory that is given; it has been checked.
PlanOutcome fill_plan(const PlanOptions& options,
                      std::int64_t n,
                      std::uint64_t seed,
                      std::uint32_t epoch,
                      const EpochRule& rule,
                      Team& team,
                      const PlanMemory& memory);

PlanArrays build_plan_with(const PlanOptions& options,
                           std::int64_t n,
                           std::uint64_t seed,
                           std::uint32_t epoch,
                           const EpochRule& rule,
                           Team& team,
                           PlanArrays recycled);

}  // namespace detail
}  // namespace infobatch
