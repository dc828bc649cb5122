#pragma once

#include <infobatch/policy.hpp>

namespace infobatch {

/// Samples up to quantile q_b of the scores are kept with ratio k_b, those above all. Strength: a
/// factor t on the prune ratios 1 - k_b, 1 unless a fixed budget solves for it.
///
/// Thresholds go by rank, in the order (score, draw, id): classes have exactly
/// floor(q_b * observed) members below them, ties included. The defaults q = .20, .85 and
/// k = .25, .5 leave out 47.5 % of a pruned epoch.
/// @source Qin et al., InfoBatch, ICLR 2024 (arXiv:2303.04947): the variant behind the 40 % of the
///         paper, which the official package does not contain.
class InfoBatchQuantilePolicy final : public Policy {
 public:
  const char* name() const override { return "infobatch_quantile"; }
  double configured_strength(const Config& config) const override;
  double largest_strength(const Config& config) const override;
  double largest_share(const Config& config) const override;
  double solve_strength(const PolicyInput& input, double share) const override;
  EpochRule rule(const PolicyInput& input, double strength) const override;
};

}  // namespace infobatch
