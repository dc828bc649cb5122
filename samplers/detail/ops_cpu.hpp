#pragma once

#include <infobatch/session.hpp>

#include <ATen/ATen.h>

/// The CPU kernels of the operators. They trust their arguments, which ops.cpp checked.
namespace infobatch::detail {

/// Losses of these types are taken, and of no other.
inline bool is_loss_type(at::ScalarType type) {
  return type == at::kHalf || type == at::kBFloat16 || type == at::kFloat || type == at::kDouble;
}

/// One score a row: the mean over its trailing dimensions, to `out` [B].
void row_scores_cpu(const at::Tensor& losses, float* out);

/// sum over rows b and trailing elements t of weights[b] * losses[b, t], reduced.
at::Tensor weigh_cpu(const at::Tensor& losses, const at::Tensor& weights, Reduction reduction);

}  // namespace infobatch::detail
