#pragma once

#include <infobatch/detail/owned_plan.hpp>
#include <infobatch/plan.hpp>

#include <cstdint>
#include <optional>
#include <utility>

namespace infobatch::detail {

/// A session's own hold of a plan. References that it lends are paid for in advance, many at once,
/// so that delivering a batch costs no atomic operation. For one thread at a time.
class PlanHolder {
 public:
  PlanHolder() = default;
  explicit PlanHolder(OwnedPlan* plan) : plan_(plan) { PlanRef::take_many(plan_, 1); }
  PlanHolder(PlanHolder&& other) noexcept
      : plan_(std::exchange(other.plan_, nullptr)), prepaid_(std::exchange(other.prepaid_, 0)) {}
  PlanHolder& operator=(PlanHolder&& other) noexcept {
    std::swap(plan_, other.plan_);
    std::swap(prepaid_, other.prepaid_);
    return *this;
  }
  ~PlanHolder() { PlanRef::give_back(plan_, prepaid_ + 1); }

  const Plan* get() const { return plan_; }
  const Plan* operator->() const { return plan_; }
  explicit operator bool() const { return plan_ != nullptr; }

  PlanRef lend() noexcept {
    if (plan_ == nullptr) return nullptr;
    if (prepaid_ == 0) PlanRef::take_many(plan_, prepaid_ = kPrepaid);
    --prepaid_;
    return PlanRef::adopt(plan_);
  }

  /// The plan's memory, where nobody else holds the plan.
  std::optional<PlanArrays> release_arrays() noexcept {
    if (plan_ == nullptr || PlanRef::count(plan_) != prepaid_ + 1) return std::nullopt;
    return plan_->release_arrays();
  }

 private:
  static constexpr std::int64_t kPrepaid = 1 << 16;

  OwnedPlan* plan_ = nullptr;
  std::int64_t prepaid_ = 0;
};

}  // namespace infobatch::detail
