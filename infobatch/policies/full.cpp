#include <infobatch/policies/full.hpp>

namespace infobatch {

double FullPolicy::configured_strength(const Config&) const { return 0.0; }
double FullPolicy::largest_strength(const Config&) const { return 0.0; }
double FullPolicy::largest_share(const Config&) const { return 0.0; }
double FullPolicy::solve_strength(const PolicyInput&, double) const { return 0.0; }

EpochRule FullPolicy::rule(const PolicyInput&, double) const {
  EpochRule rule;
  rule.classes = {KeepClass{}};
  return rule;
}

}  // namespace infobatch
