#include <infobatch/detail/policy.hpp>
#include <infobatch/policies/full.hpp>
#include <infobatch/policies/infobatch.hpp>
#include <infobatch/policies/infobatch_quantile.hpp>
#include <infobatch/policies/orderdp.hpp>
#include <infobatch/policies/random.hpp>
#include <infobatch/policies/ucb.hpp>

#include <array>
#include <cstddef>
#include <iterator>

namespace infobatch {
namespace {

/// One line per policy.
constexpr const Policy* kPolicies[] = {
    &kFullPolicy,
    &kRandomPolicy,
    &kInfoBatchPolicy,
    &kInfoBatchQuantilePolicy,
    &kUcbPolicy,
    &kOrderDpPolicy,
};

}  // namespace

const Policy* find_policy(const std::string& name) {
  for (const Policy* policy : kPolicies) {
    if (name == policy->card.name) return policy;
  }
  return nullptr;
}

const std::vector<const Policy*>& policies() {
  static const std::vector<const Policy*> all(std::begin(kPolicies), std::end(kPolicies));
  return all;
}

std::vector<std::string> policy_names() {
  std::vector<std::string> names;
  for (const Policy* policy : kPolicies) names.emplace_back(policy->card.name);
  return names;
}

const char* const* policy_name_list() noexcept {
  static const auto names = [] {
    std::array<const char*, std::size(kPolicies) + 1> all{};
    std::size_t i = 0;
    for (const Policy* policy : kPolicies) all[i++] = policy->card.name;
    return all;
  }();
  return names.data();
}

}  // namespace infobatch
