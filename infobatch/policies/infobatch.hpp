#pragma once

#include <infobatch/policy.hpp>

namespace infobatch {

/// Samples whose last loss is strictly below the mean are left out with probability r. Strength: r.
///
/// @source Qin et al., InfoBatch, ICLR 2024 (arXiv:2303.04947), section 2.2.
class InfoBatchPolicy final : public Policy {
 public:
  const char* name() const override { return "infobatch"; }
  double configured_strength(const Config& config) const override;
  double largest_strength(const Config& config) const override;
  double largest_share(const Config& config) const override;
  double solve_strength(const PolicyInput& input, double share) const override;
  EpochRule rule(const PolicyInput& input, double strength) const override;
};

}  // namespace infobatch
