#pragma once

#include <infobatch/session.hpp>
#include <samplers/export.h>

#include <torch/types.h>

/// The operators `infobatch::observe_`, `infobatch::weigh` and `infobatch::scale_gradient` of
/// torch's dispatcher (CPU, Meta, autograd), as functions. Pure: they know no session.
namespace infobatch {

/// Writes the scores of a batch to scores[position .. position + B).
///
/// @param scores    [K] float32, contiguous, CPU; changed in place.
/// @param losses    [B] or [B, ...] float16, bfloat16, float32 or float64: the score of a row is
///                  the mean over its trailing dimensions in float64, rounded to float32; a
///                  non-finite one becomes the NaN that stands for "never observed".
/// @param position  0 <= position <= K - B.
/// @throws c10::ValueError, c10::TypeError  before anything is written.
/// @note No synchronisation, not differentiable. O(numel of losses).
INFOBATCH_SAMPLERS_API void observe_(torch::Tensor& scores,
                                     const torch::Tensor& losses,
                                     std::int64_t position = 0);

/// The weighted loss, reduced: what `InfoBatch::update` returns.
///
///     weigh(losses, weights, Reduction::kMean)
///       == (losses.to(torch::kFloat32) * weights.view({B, 1, ...})).mean()     up to rounding
///
/// @param losses   [B] or [B, ...] float16, bfloat16, float32 or float64, any stride.
/// @param weights  [B] float32, constant: no gradient flows into it.
/// @return float32 (float64 for double losses), scalar or the shape of `losses` for `kNone`. Sums
///         are accumulated in float64.
/// @throws c10::ValueError, c10::TypeError
/// @note Differentiable in `losses`, twice too. Out of place.
INFOBATCH_SAMPLERS_API torch::Tensor weigh(const torch::Tensor& losses,
                                           const torch::Tensor& weights,
                                           Reduction reduction = Reduction::kMean);

/// Identity whose gradient is scaled: row b of the gradient is multiplied by weights[b].
///
/// Put it between the model and a criterion that only returns a reduced loss; the gradient of the
/// parameters is then that of the weighted loss.
///
/// @param x        [B, ...] floating, any device and stride.
/// @param weights  [B] float32 on the same device, constant.
/// @return a view of `x`.
/// @throws c10::ValueError, c10::TypeError
INFOBATCH_SAMPLERS_API torch::Tensor scale_gradient(const torch::Tensor& x,
                                                    const torch::Tensor& weights);

}  // namespace infobatch
