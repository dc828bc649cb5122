#include <infobatch/config.hpp>
#include <infobatch/detail/whole_batches.hpp>
#include <infobatch/error.hpp>
#include <infobatch/keep.hpp>
#include <infobatch/plan_builder.hpp>
#include <infobatch/select.hpp>
#include <infobatch/shuffle.hpp>
#include <infobatch/streams.hpp>

#include <algorithm>
#include <utility>

namespace infobatch {
namespace detail {
namespace {

constexpr std::uint64_t kDraws = std::uint64_t{1} << 32;
constexpr std::int64_t kStreamingFrom = std::int64_t{1} << 25;  // a list of no use to the caches

// How many samples of each class the exact rule keeps.
std::vector<KeptOfClass> exact_counts(const EpochRule& rule,
                                      const std::vector<ClassRule>& rules,
                                      const KeptCounts& counts) {
  std::vector<KeptOfClass> kept(rules.size());
  for (std::size_t c = 0; c < rules.size(); ++c) {
    kept[c].members = counts[c].members;
    kept[c].kept = exact_kept(rule.classes[c].keep_ratio, counts[c].members);
    kept[c].adjustable = rules[c].kind == ClassRule::kCut;
  }
  round_to_batches(kept, rule.multiple);
  return kept;
}

// How the classes are kept, and what that makes of counts[].keep_below.
std::vector<ClassRule> class_rules(const PlanTask& task, Team& team, KeptCounts& counts) {
  const EpochRule& rule = task.rule;
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

  std::int64_t members[EpochRule::kMaxClasses];
  count_members(rule.classifier, task.size, static_cast<int>(counts.size()), team, members);
  for (std::size_t c = 0; c < counts.size(); ++c) counts[c].members = members[c];
  const std::vector<KeptOfClass> kept = exact_counts(rule, rules, counts);
  for (std::size_t c = 0; c < rules.size(); ++c) {
    if (rules[c].kind != ClassRule::kCut) continue;
    rules[c].cut = select_smallest_draws(rule.classifier,
                                         static_cast<std::uint8_t>(c),
                                         task.size,
                                         kept[c].members,
                                         kept[c].kept,
                                         task.seed,
                                         task.epoch,
                                         kStreamExactKeep,
                                         team);
  }
  return rules;
}

float class_weight(const KeepClass& klass, const ClassRule& rule, const ClassCount& count) {
  switch (rule.kind) {
    case ClassRule::kNone:
      return 0.0f;
    case ClassRule::kBelow:
      return klass.rescale ? rounded_quotient(kDraws, count.keep_below) : 1.0f;
    case ClassRule::kCut:
      if (count.kept == 0) return 0.0f;
      return klass.rescale ? rounded_quotient(static_cast<std::uint64_t>(count.members),
                                              static_cast<std::uint64_t>(count.kept))
                           : 1.0f;
    case ClassRule::kAll:
      break;
  }
  return 1.0f;
}

}  // namespace

std::int64_t plan_slots(std::int64_t size) { return size + kKeepSlack; }

void check_plan(const PlanTask& task) {
  const EpochRule& rule = task.rule;
  const std::size_t classes = rule.classes.size();
  if (classes < 1 || classes > static_cast<std::size_t>(EpochRule::kMaxClasses)) {
    throw InvalidArgument(
        message("plan: a rule has 1 to ", int{EpochRule::kMaxClasses}, " classes, got ", classes));
  }
  if (task.size < 0 || task.size > most_samples(classes)) {
    throw InvalidArgument(message("plan: the number of samples must lie in [0, ",
                                  most_samples(classes),
                                  "], got ",
                                  task.size));
  }
  for (const KeepClass& klass : rule.classes) {
    if (!(klass.keep_ratio >= 0.0 && klass.keep_ratio <= 1.0)) {
      throw InvalidArgument(
          message("plan: a keep ratio must lie in [0, 1], got ", klass.keep_ratio));
    }
  }
  if (rule.multiple < 1 || rule.multiple > kMaxSize) {
    throw InvalidArgument(
        message("plan: the multiple must lie in [1, ", kMaxSize, "], got ", rule.multiple));
  }
}

PlanArrays reserve_plan(std::int64_t size, PlanArrays recycled) {
  recycled.size = 0;
  recycled.ids.resize(plan_slots(size));
  recycled.weights.resize(plan_slots(size));
  return recycled;
}

PlanArrays finish_plan(PlanArrays reserved, const PlanOutcome& outcome) {
  reserved.size = outcome.kept;
  reserved.counts = outcome.counts;
  reserved.ids.shrink(outcome.kept);
  // What held kept items stays: the next epoch would only have to ask for it again.
  reserved.weights.shrink(std::max(outcome.kept, outcome.used));
  reserved.weights.resize(outcome.kept);
  return reserved;
}

PlanOutcome fill_plan(const PlanTask& task,
                      const ShuffleConstants& constants,
                      Team& team,
                      const PlanMemory& memory) {
  const EpochRule& rule = task.rule;
  PlanOutcome plan;
  plan.counts.assign(rule.classes.size(), ClassCount{});
  const std::vector<ClassRule> rules = class_rules(task, team, plan.counts);
  const int id_bits = kItemBits - class_bits(rule.classes.size());

  auto* const in_ids = reinterpret_cast<std::uint32_t*>(memory.ids);
  auto* const in_weights = reinterpret_cast<std::uint32_t*>(memory.weights);
  // What is sure to be a single bucket is kept where it is going to be shuffled.
  const bool single = task.size <= constants.large_bucket && team.size() == 1;
  std::uint32_t* const kept_items = single ? in_weights : in_ids;
  const bool streaming = task.size >= kStreamingFrom;
  const KeptRuns kept = keep_samples(task.size,
                                     task.seed,
                                     task.epoch,
                                     rule.classifier,
                                     rules,
                                     id_bits,
                                     team,
                                     kept_items,
                                     plan.counts,
                                     streaming);

  float weights[EpochRule::kMaxClasses] = {};
  for (std::size_t c = 0; c < rules.size(); ++c) {
    weights[c] = plan.counts[c].weight = class_weight(rule.classes[c], rules[c], plan.counts[c]);
  }
  const ShuffleArrays arrays{kept_items, in_weights, memory.ids, memory.weights, id_bits, weights};
  shuffle_items(kept, arrays, task.seed, task.epoch, team, constants);
  plan.kept = plan.used = kept.size;
  if (single) plan.used = kept.runs.back().begin + kept.runs.back().size;
  return plan;
}

}  // namespace detail

}  // namespace infobatch
