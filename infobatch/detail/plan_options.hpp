#pragma once

#include <infobatch/plan_builder.hpp>
#include <infobatch/shuffle.hpp>

#include <cstdint>

namespace infobatch {
namespace detail {

/// What tests vary of build_plan: other constants make other plans, wide items the same plan.
struct PlanOptions {
  ShuffleConstants shuffle;
  bool wide_items = false;  ///< 64-bit items although ids and classes fit 32 bits
};

PlanArrays build_plan_with(const PlanOptions& options,
                           std::int64_t n,
                           std::uint64_t seed,
                           std::uint32_t epoch,
                           const EpochRule& rule,
                           Team& team,
                           PlanArrays recycled);

}  // namespace detail
}  // namespace infobatch
