#include <infobatch/policies/full.hpp>
#include <infobatch/policies/infobatch.hpp>
#include <infobatch/policies/infobatch_quantile.hpp>
#include <infobatch/policies/random.hpp>
#include <infobatch/policy.hpp>

namespace infobatch {
namespace {

/// One line per policy.
const std::vector<const Policy*>& registry() {
  static const FullPolicy full;
  static const RandomPolicy random;
  static const InfoBatchPolicy infobatch;
  static const InfoBatchQuantilePolicy infobatch_quantile;
  static const std::vector<const Policy*> all = {&full, &random, &infobatch, &infobatch_quantile};
  return all;
}

}  // namespace

const Policy* find_policy(const std::string& name) {
  for (const Policy* policy : registry()) {
    if (name == policy->name()) return policy;
  }
  return nullptr;
}

std::vector<std::string> policy_names() {
  std::vector<std::string> names;
  for (const Policy* policy : registry()) names.emplace_back(policy->name());
  return names;
}

}  // namespace infobatch
