#include <infobatch/policies/full.hpp>
#include <infobatch/policies/infobatch.hpp>
#include <infobatch/policies/infobatch_quantile.hpp>
#include <infobatch/policies/random.hpp>
#include <infobatch/policy.hpp>

#include <array>
#include <cstddef>
#include <type_traits>

namespace infobatch {
namespace {

/// One line per policy.
const auto& registry() {
  static const FullPolicy full;
  static const RandomPolicy random;
  static const InfoBatchPolicy infobatch;
  static const InfoBatchQuantilePolicy infobatch_quantile;
  static const Policy* const all[] = {&full, &random, &infobatch, &infobatch_quantile};
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

const char* const* policy_name_list() noexcept {
  static const auto names = [] {
    std::array<const char*, std::extent_v<std::remove_reference_t<decltype(registry())>> + 1> all{};
    std::size_t i = 0;
    for (const Policy* policy : registry()) all[i++] = policy->name();
    return all;
  }();
  return names.data();
}

}  // namespace infobatch
