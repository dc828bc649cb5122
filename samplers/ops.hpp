#pragma once

#include <infobatch/session.hpp>
#include <samplers/export.h>

#include <torch/types.h>

/// The operators `infobatch::observe_`, `infobatch::weigh` and `infobatch::scale_gradient` of
/// torch's dispatcher (any device, Meta, autograd), as functions. Pure: they know no session. On
/// other devices than the CPU they are plain tensor operations, and nothing waits for the device.
namespace infobatch {

/// Writes the scores of a batch to scores[position .. position + B).
///
/// @param scores    [K] float32, contiguous, any device; changed in place.
/// @param losses    [B] or [B, ...] float16, bfloat16, float32 or float64 on the same device: the
///                  score of a row is the mean over its trailing dimensions, in float64 on the CPU,
///                  in the wider of float32 and the losses' type elsewhere, rounded to float32; a
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
/// @param losses   [B] or [B, ...] float16, bfloat16, float32 or float64, any device and stride.
/// @param weights  [B] float32 on the same device, constant: no gradient flows into it.
/// @return float32 (float64 for double losses), scalar or the shape of `losses` for `kNone`. Sums
///         are accumulated in float64 on the CPU, elsewhere in the type of the result.
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
