#pragma once

#include <infobatch/export.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace infobatch {

/// One epoch, frozen: which samples, in which order, with which weight (rule 9).
///
/// Immutable and shared by counted references (`PlanRef`, or std::shared_ptr), so that prefetching
/// workers and tensors that autograd saved may outlive the epoch. Safe to read from any thread.
class INFOBATCH_API Plan {
 public:
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  /// Number K of samples that the epoch delivers.
  std::int64_t size() const { return size_; }
  /// Number N of samples of the data set.
  std::int64_t data_size() const { return data_size_; }
  /// The epoch, 0-based.
  std::int64_t epoch() const { return epoch_; }
  /// [K] sample ids in the order of delivery.
  const std::int64_t* ids() const { return ids_; }
  /// [K] weights in the same order; 1 in an epoch that does not prune.
  const float* weights() const { return weights_; }

 protected:
  Plan() = default;
  virtual ~Plan();

  std::int64_t epoch_ = 0;
  std::int64_t data_size_ = 0;
  std::int64_t size_ = 0;
  const std::int64_t* ids_ = nullptr;
  const float* weights_ = nullptr;

 private:
  friend class PlanRef;
  mutable std::atomic<std::int64_t> references_{0};
};

/// A counted reference to a plan. Becomes a std::shared_ptr where one is asked for.
///
/// The count is the plan's own, so that whoever delivers many references can pay for them in
/// advance (`take_many`): a batch then costs no atomic operation to deliver.
class PlanRef {
 public:
  PlanRef() = default;
  PlanRef(std::nullptr_t) {}  // NOLINT: as for std::shared_ptr
  /// Another reference to `plan`.
  explicit PlanRef(const Plan* plan) : plan_(plan) { take_many(plan_, 1); }
  PlanRef(const std::shared_ptr<const Plan>& plan) : PlanRef(plan.get()) {}  // NOLINT
  PlanRef(const PlanRef& other) : PlanRef(other.plan_) {}
  PlanRef(PlanRef&& other) noexcept : plan_(std::exchange(other.plan_, nullptr)) {}
  PlanRef& operator=(PlanRef other) noexcept {
    std::swap(plan_, other.plan_);
    return *this;
  }
  ~PlanRef() { give_back(plan_, 1); }

  const Plan* get() const { return plan_; }
  const Plan* operator->() const { return plan_; }
  const Plan& operator*() const { return *plan_; }
  explicit operator bool() const { return plan_ != nullptr; }
  /// @throws std::bad_alloc
  operator std::shared_ptr<const Plan>() const {  // NOLINT: wherever a shared_ptr is expected
    if (plan_ == nullptr) return nullptr;
    take_many(plan_, 1);  // not kept by the deleter, which lives as long as weak pointers do
    return {plan_, [](const Plan* plan) { give_back(plan, 1); }};
  }

  /// Counts `count` references more, of which each is to become a PlanRef by `adopt`, or to be
  /// given back.
  static void take_many(const Plan* plan, std::int64_t count) noexcept {
    if (plan != nullptr) plan->references_.fetch_add(count, std::memory_order_relaxed);
  }
  /// Gives back `count` references; the last one ends the plan.
  static void give_back(const Plan* plan, std::int64_t count) noexcept {
    if (plan == nullptr || count == 0) return;
    if (plan->references_.fetch_sub(count, std::memory_order_acq_rel) == count) delete plan;
  }
  /// A reference that was counted before.
  static PlanRef adopt(const Plan* plan) noexcept {
    PlanRef reference;
    reference.plan_ = plan;
    return reference;
  }
  /// References that are counted now; what the holders of others read comes before what is written
  /// behind this call.
  static std::int64_t count(const Plan* plan) noexcept {
    return plan == nullptr ? 0 : plan->references_.load(std::memory_order_acquire);
  }

  friend bool operator==(const PlanRef& a, const PlanRef& b) { return a.plan_ == b.plan_; }
  friend bool operator!=(const PlanRef& a, const PlanRef& b) { return a.plan_ != b.plan_; }
  friend bool operator==(const PlanRef& a, std::nullptr_t) { return a.plan_ == nullptr; }
  friend bool operator!=(const PlanRef& a, std::nullptr_t) { return a.plan_ != nullptr; }

 private:
  const Plan* plan_ = nullptr;
};

}  // namespace infobatch
