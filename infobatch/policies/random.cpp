#include <infobatch/policies/random.hpp>

namespace infobatch {

double RandomPolicy::configured_strength(const Config& config) const { return config.prune_ratio; }
double RandomPolicy::largest_strength(const Config& config) const { return config.max_prune_ratio; }
double RandomPolicy::largest_share(const Config& config) const { return config.max_prune_ratio; }
double RandomPolicy::solve_strength(const PolicyInput&, double share) const { return share; }

EpochRule RandomPolicy::rule(const PolicyInput& input, double strength) const {
  EpochRule rule;
  rule.classes = {KeepClass{1.0 - strength, input.config.rescale}};
  rule.mode = input.config.keep == "exact" ? KeepMode::kExact : KeepMode::kBernoulli;
  return rule;
}

}  // namespace infobatch
