#pragma once

#include <infobatch/export.h>
#include <infobatch/plan_builder.hpp>

#include <cstdint>
#include <utility>

namespace infobatch {

/// One epoch, frozen: which samples, in which order, with which weight (rule 9).
///
/// Immutable and shared by reference count, so prefetching workers and tensors that autograd saved
/// may outlive the epoch. Safe to read from any thread.
class Plan {
 public:
  Plan(std::int64_t epoch, std::int64_t data_size, PlanArrays arrays)
      : epoch_(epoch), data_size_(data_size), arrays_(std::move(arrays)) {}
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  /// Number K of samples that the epoch delivers.
  std::int64_t size() const { return arrays_.size; }
  /// Number N of samples of the data set.
  std::int64_t data_size() const { return data_size_; }
  /// The epoch, 0-based.
  std::int64_t epoch() const { return epoch_; }
  /// [K] sample ids in the order of delivery.
  const std::int64_t* ids() const { return arrays_.ids.data(); }
  /// [K] weights in the same order; 1 in an epoch that does not prune.
  const float* weights() const { return arrays_.weights.data(); }

 private:
  friend class Session;

  std::int64_t epoch_;
  std::int64_t data_size_;
  PlanArrays arrays_;
};

}  // namespace infobatch
