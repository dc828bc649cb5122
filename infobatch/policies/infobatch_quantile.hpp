#pragma once

#include <infobatch/detail/policy.hpp>

namespace infobatch {

/// Samples up to quantile q_b of the scores are kept with ratio k_b, those above all. Scale: a
/// factor on the prune ratios 1 - k_b, 1 unless a fixed budget solves for it.
///
/// Thresholds go by rank, in the order (score, draw, id): classes have exactly
/// floor(q_b * observed) members below them, ties included. The defaults q = 0.20, 0.85 and
/// k = 0.25, 0.5 leave out 47.5 % of a pruned epoch.
/// @source Qin et al., InfoBatch, ICLR 2024 (arXiv:2303.04947): the variant behind the 40 % of the
///         paper, which the official package does not contain.
extern const Policy kInfoBatchQuantilePolicy;

}  // namespace infobatch
