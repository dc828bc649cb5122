#include <infobatch/config.hpp>
#include <infobatch/detail/class_rules.hpp>
#include <infobatch/detail/keep.hpp>
#include <infobatch/detail/peers.hpp>
#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/plan_builder.hpp>
#include <infobatch/detail/select.hpp>
#include <infobatch/detail/shuffle.hpp>
#include <infobatch/detail/streams.hpp>
#include <infobatch/error.hpp>

#include <algorithm>
#include <array>
#include <utility>

namespace infobatch {
namespace detail {
namespace {

constexpr std::int64_t kStreamingFrom = std::int64_t{1} << 25;  // a list of no use to the caches

/// Ranges are shuffled on their own, each in its own way.
std::uint64_t shuffle_seed(const PlanTask& task) {
  if (task.first == 0) return task.seed;
  const PhiloxWords words =
      stream_call(task.seed, 0, kStreamRange, static_cast<std::uint64_t>(task.first));
  return words.word[0] | std::uint64_t{words.word[1]} << 32;
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
  for (const KeepClass& each : rule.classes) {
    if (!(each.keep_ratio >= 0.0 && each.keep_ratio <= 1.0)) {
      throw InvalidArgument(
          message("plan: a keep ratio must lie in [0, 1], got ", each.keep_ratio));
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
  const auto count = [&] {
    std::array<std::int64_t, EpochRule::kMaxClasses> members;
    count_members(
        rule.classifier, task.size, static_cast<int>(rule.classes.size()), team, members.data());
    if (task.peers != nullptr) task.peers->add_up(members.data(), rule.classes.size());
    return members;
  };
  const auto cut = [&](std::size_t class_id, std::int64_t members, std::int64_t wanted) {
    return select_smallest_draws(rule.classifier,
                                 static_cast<std::uint8_t>(class_id),
                                 task.size,
                                 members,
                                 wanted,
                                 task.seed,
                                 task.epoch,
                                 kStreamExactKeep,
                                 team,
                                 task.first,
                                 task.peers);
  };
  const std::vector<ClassRule> rules = class_rules(rule, plan.counts, count, cut);
  const KeptCounts agreed = plan.counts;  // of all ranges; what follows counts this one
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
                                     streaming,
                                     task.first);

  float weights[EpochRule::kMaxClasses] = {};
  for (std::size_t c = 0; c < rules.size(); ++c) {
    weights[c] = plan.counts[c].weight = class_weight(rule.classes[c], rules[c], agreed[c]);
  }
  const ShuffleArrays arrays{kept_items, in_weights, memory.ids, memory.weights, id_bits, weights};
  shuffle_items(kept, arrays, shuffle_seed(task), task.epoch, team, constants);
  plan.kept = plan.used = kept.size;
  if (single) plan.used = kept.runs.back().begin + kept.runs.back().size;
  return plan;
}

}  // namespace detail

}  // namespace infobatch
