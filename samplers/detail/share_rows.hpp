#pragma once

#include <infobatch/session.hpp>

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <mutex>

namespace infobatch::detail {

/// What the means of a step divide by on several ranks, so that the average over ranks of their
/// gradients is the gradient of one process with the same global batch:
///
///     mean            (rows of the step on all ranks) / W
///     weighted_mean   (sum of the weights of the step on all ranks) / W
///
/// Both are known from the plan: nothing is communicated, and nothing waits for a device. Padding
/// is no row, whatever its loss is. On one process alone, and where a framework splits, this is
/// `weigh`.
class ShareRows {
 public:
  explicit ShareRows(Session& session) : session_(session) {}

  /// The run is one of several ranks from now on.
  void look_at_ranks();

  /// Whether means divide by what all ranks have: else `weigh` is all there is to it.
  bool divides() const noexcept { return is_sharded(); }

  /// Rows in order: the first one is row `begin` of the share.
  at::Tensor weigh_in_order(const at::Tensor& losses,
                            const at::Tensor& weights,
                            Reduction reduction,
                            std::int64_t begin) const;
  /// Rows by id, each of them in the share.
  at::Tensor weigh_by_ids(const at::Tensor& losses,
                          const at::Tensor& weights,
                          Reduction reduction,
                          const at::Tensor& ids) {
    // Nothing is computed in vain on one process alone.
    return weigh_by_slots(losses, weights, reduction, is_sharded() ? ids.add(1) : ids);
  }
  /// The same by slot.
  /// @param slots  [B] int64 on the device of the losses: id + 1, or 0 or N + 1 for what is no id.
  /// @note The first weighted mean of a run builds a table of 4 bytes a sample on that device.
  at::Tensor weigh_by_slots(const at::Tensor& losses,
                            const at::Tensor& weights,
                            Reduction reduction,
                            const at::Tensor& slots);

  /// An epoch begins.
  void renew();
  /// Its iteration has begun: what steps by id need of it goes to the device, so that none has to.
  void prepare();

 private:
  bool is_sharded() const noexcept { return ranks_ > 1; }
  void fill(c10::Device device, bool weighs);

  Session& session_;
  std::int64_t ranks_ = 1;
  std::mutex mutex_;
  bool current_ = false;  // the tables are of the running epoch
  bool weighs_ = false;   // weights_ among them
  at::Tensor short_;      // [2] int64 slots of the rows in which ranks have padding; -1: none
  at::Tensor missing_;    // [2] float32 ranks that have, divided by W
  at::Tensor weights_;    // [N + 2] float32 by slot: weights of all ranks in a row, divided by W
};

}  // namespace infobatch::detail
