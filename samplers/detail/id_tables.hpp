#pragma once

#include <infobatch/session.hpp>
#include <samplers/detail/fused_step.hpp>

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace infobatch::detail {

/// Weights and losses of the running epoch by id, on the device of the losses.
///
/// Ids need no cursor, so a step is the same operations on the same memory whatever its samples
/// are: it can be captured and replayed. The tables have the fixed size N + 2: slot 0 stands for
/// ids below 0, slot N + 1 for those beyond N - 1, slot i + 1 for sample i. Memory: 12 bytes a
/// sample on the device.
class IdTables {
 public:
  /// @param size  N.
  IdTables(std::int64_t size, c10::Device device);

  c10::Device device() const { return losses_.device(); }

  /// An epoch begins: its weights, and no losses.
  void begin(PlanRef plan);
  /// Holds the weights of an epoch that goes on.
  bool begun() const { return plan_ != nullptr; }
  /// The epoch is left, and its plan's memory may serve the next one.
  void leave() { plan_ = nullptr; }

  /// Where samples are in the tables.
  /// @param ids  [B] int64 on the device. @return [B] int64.
  at::Tensor slots(const at::Tensor& ids) const;
  /// @return [B] float32; 0 for ids outside the plan.
  at::Tensor weights(const at::Tensor& slots) const;
  /// Of a repeated id the last row wins, also across calls, on every device the same.
  /// @param scores  [B] float32 on the device.
  void record(const at::Tensor& slots, const at::Tensor& scores);

  /// All of a step by the kernels of a backend: weighs, reduces and records; see fused_by_ids().
  at::Tensor step(const StepFunctions& steps,
                  const at::Tensor& losses,
                  const at::Tensor& ids,
                  Reduction reduction) const {
    return fused_by_ids(steps, losses, ids, weights_, losses_, row_, reduction);
  }

  /// Brings the losses to the engine, and forgets them: one copy.
  /// @throws c10::IndexError  ids outside the plan were observed. Their losses are dropped, all
  ///                          others are in.
  void collect(Session& session);
  void clear();

 private:
  at::Tensor weights_;  // [N + 2] float32
  at::Tensor losses_;   // [N + 2] int64, see kRow
  at::Tensor row_;      // scalar int64: (rows recorded + 1) * kRow
  std::int64_t size_;
  PlanRef plan_;
};

}  // namespace infobatch::detail
