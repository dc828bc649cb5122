#pragma once

#include <infobatch/backends.hpp>
#include <infobatch/session.hpp>

#include <ATen/core/Tensor.h>

#include <cstdint>

// Steps by the kernels of a backend that was loaded for the device of the losses
// (infobatch/backends.hpp): what the plain tensor operations of device_step.cpp do, in one launch
// or two. Nothing waits for the device.

namespace infobatch::detail {

/// The kernels for these losses; nullptr: there are none, and plain operations serve.
const StepFunctions* fused_steps(const at::Tensor& losses) noexcept;

/// Weighs and reduces the losses of a batch, and writes their scores down; differentiable, twice
/// too.
/// @param losses   [B] or [B, ...] float16, bfloat16, float32 or float64.
/// @param weights  [B] float32 on the same device.
/// @param staged   [B] float32 there: receives one score a row.
/// @return what `weigh` returns.
at::Tensor fused_in_order(const StepFunctions& steps,
                          const at::Tensor& losses,
                          const at::Tensor& weights,
                          const at::Tensor& staged,
                          Reduction reduction);

/// The same by ids, with the tables of IdTables.
/// @param ids      [B] int64 on the device.
/// @param weights  [N + 2] float32 by slot.
/// @param table    [N + 2] int64 by slot: receives the scores.
/// @param row      scalar int64: moves by B rows.
at::Tensor fused_by_ids(const StepFunctions& steps,
                        const at::Tensor& losses,
                        const at::Tensor& ids,
                        const at::Tensor& weights,
                        const at::Tensor& table,
                        const at::Tensor& row,
                        Reduction reduction);

/// gradient * weights, row by row, rounded to the gradient's type; undefined where there are no
/// kernels for it.
at::Tensor fused_scaled_rows(const at::Tensor& gradient, const at::Tensor& weights);

}  // namespace infobatch::detail
