#pragma once

#include <infobatch/policy.hpp>

namespace infobatch {

/// Every sample, every epoch, weight 1: what training without the library does.
class FullPolicy final : public Policy {
 public:
  const char* name() const override { return "full"; }
  bool prunes() const override { return false; }
  bool needs_scores() const override { return false; }
  double configured_strength(const Config& config) const override;
  double largest_strength(const Config& config) const override;
  double largest_share(const Config& config) const override;
  double solve_strength(const PolicyInput& input, double share) const override;
  EpochRule rule(const PolicyInput& input, double strength) const override;
};

}  // namespace infobatch
