#pragma once

#include <infobatch/detail/policy.hpp>

namespace infobatch {

/// The samples with the largest ema + c * var of their losses are kept, the fraction r with the
/// smallest is left out; chosen anew each epoch. Scale: r.
///
/// ema = (1 - a) * ema + a * loss and var = (1 - a) * var + a * (loss - ema before)^2, of the
/// epochs that saw the sample. Ties go by a draw. Samples that were never observed are kept.
/// Nothing is rescaled, as published, so the update is biased towards them.
/// @source Raju et al., Accelerating Deep Learning with Dynamic Data Pruning (arXiv:2111.12621).
extern const Policy kUcbPolicy;

}  // namespace infobatch
