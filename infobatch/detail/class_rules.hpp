#pragma once

#include <infobatch/detail/keep.hpp>
#include <infobatch/detail/plan_builder.hpp>
#include <infobatch/detail/streams.hpp>
#include <infobatch/detail/whole_batches.hpp>

#include <cstdint>
#include <vector>

namespace infobatch {
namespace detail {

constexpr std::uint64_t kDraws = std::uint64_t{1} << 32;

/// How the classes of a plan are kept, and what that makes of counts[].keep_below (rules 4, 16);
/// where the rule is `exact` of members and kept, too.
///
/// @param counts         one for each class of the rule, empty.
/// @param count_members  () -> an array of how many samples each class has; asked where the rule is
///                       `exact`.
/// @param cut_draws      (class, members, wanted) -> the DrawCut that `wanted` of them lie before.
template <typename CountMembers, typename CutDraws>
std::vector<ClassRule> class_rules(const EpochRule& rule,
                                   KeptCounts& counts,
                                   const CountMembers& count_members,
                                   const CutDraws& cut_draws) {
  std::vector<ClassRule> rules(rule.classes.size());
  bool any_exact = false;
  for (std::size_t c = 0; c < rules.size(); ++c) {
    const double ratio = rule.classes[c].keep_ratio;
    if (ratio == 0.0) {
      rules[c].kind = ClassRule::kNone;
    } else if (rule.mode == KeepMode::kBernoulli) {
      rules[c].keep_below = counts[c].keep_below = keep_bound(ratio);
      rules[c].kind = counts[c].keep_below == kDraws ? ClassRule::kAll : ClassRule::kBelow;
    } else if (ratio != 1.0) {
      rules[c].kind = ClassRule::kCut;
      any_exact = true;
    }
  }
  if (!any_exact) return rules;

  const auto members = count_members();
  std::vector<KeptOfClass> kept(rules.size());
  for (std::size_t c = 0; c < rules.size(); ++c) {
    kept[c].members = counts[c].members = members[c];
    kept[c].kept = exact_kept(rule.classes[c].keep_ratio, members[c]);
    kept[c].adjustable = rules[c].kind == ClassRule::kCut;
  }
  round_to_batches(kept, rule.multiple);
  for (std::size_t c = 0; c < rules.size(); ++c) {
    counts[c].kept = kept[c].kept;
    if (rules[c].kind != ClassRule::kCut) continue;
    rules[c].cut = cut_draws(c, kept[c].members, kept[c].kept);
  }
  return rules;
}

/// The weight of every kept sample of a class (rule 5); 0 where none can be kept.
/// @param count  members and kept of the class.
inline float class_weight(const KeepClass& of, const ClassRule& rule, const ClassCount& count) {
  switch (rule.kind) {
    case ClassRule::kNone:
      return 0.0f;
    case ClassRule::kBelow:
      return of.rescale ? rounded_quotient(kDraws, count.keep_below) : 1.0f;
    case ClassRule::kCut:
      if (count.kept == 0) return 0.0f;
      return of.rescale ? rounded_quotient(static_cast<std::uint64_t>(count.members),
                                           static_cast<std::uint64_t>(count.kept))
                        : 1.0f;
    case ClassRule::kAll:
      break;
  }
  return 1.0f;
}

}  // namespace detail
}  // namespace infobatch
