#pragma once

#include <infobatch/policy.hpp>

namespace infobatch {

/// Every sample is left out with probability r, whatever its loss. Strength: r.
///
/// With rescaling and annealing this is the "random" arm of the InfoBatch paper, Table 5; without
/// either it is a fresh uniform subset each epoch.
/// @source Qin et al., InfoBatch, ICLR 2024 (arXiv:2303.04947), Table 5.
class RandomPolicy final : public Policy {
 public:
  const char* name() const override { return "random"; }
  bool needs_scores() const override { return false; }
  double configured_strength(const Config& config) const override;
  double largest_strength(const Config& config) const override;
  double largest_share(const Config& config) const override;
  double solve_strength(const PolicyInput& input, double share) const override;
  EpochRule rule(const PolicyInput& input, double strength) const override;
};

}  // namespace infobatch
