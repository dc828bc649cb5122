#pragma once

#include <infobatch/detail/plan_builder.hpp>
#include <infobatch/plan.hpp>

#include <cstdint>
#include <utility>

namespace infobatch::detail {

/// A plan and the memory it lives in.
class OwnedPlan final : public Plan {
 public:
  OwnedPlan(std::int64_t epoch, std::int64_t data_size, PlanArrays arrays)
      : arrays_(std::move(arrays)) {
    epoch_ = epoch;
    data_size_ = data_size;
    size_ = arrays_.size;
    ids_ = arrays_.ids.data();
    weights_ = arrays_.weights.data();
  }

  /// The memory, for another plan, once nobody else holds this one.
  PlanArrays release_arrays() { return std::move(arrays_); }

 private:
  PlanArrays arrays_;
};

}  // namespace infobatch::detail
