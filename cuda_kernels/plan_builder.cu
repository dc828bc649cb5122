#include <cuda_kernels/keep.hpp>
#include <cuda_kernels/plan_builder.hpp>
#include <cuda_kernels/select.hpp>
#include <cuda_kernels/shuffle.hpp>
#include <infobatch/detail/class_rules.hpp>
#include <infobatch/detail/streams.hpp>

#include <array>
#include <vector>

namespace infobatch::cuda {

detail::PlanOutcome fill_plan(Work& work,
                              const detail::PlanTask& task,
                              const detail::ShuffleConstants& constants,
                              const detail::PlanMemory& memory) {
  const EpochRule& rule = task.rule;
  detail::PlanOutcome plan;
  plan.counts.assign(rule.classes.size(), ClassCount{});
  const auto count = [&] {
    std::array<std::int64_t, EpochRule::kMaxClasses> members{};
    const auto classes = static_cast<int>(rule.classes.size());
    count_members(work, rule.classifier, task.size, classes, members.data());
    return members;
  };
  const auto cut = [&](std::size_t class_id, std::int64_t members, std::int64_t wanted) {
    return select_smallest_draws(work,
                                 rule.classifier,
                                 static_cast<std::uint8_t>(class_id),
                                 task.size,
                                 members,
                                 wanted,
                                 task.seed,
                                 task.epoch,
                                 kStreamExactKeep);
  };
  const std::vector<detail::ClassRule> rules = detail::class_rules(rule, plan.counts, count, cut);
  const int id_bits = kItemBits - class_bits(rule.classes.size());
  const KeptItems kept = keep_samples(
      work, task.size, task.seed, task.epoch, rule.classifier, rules, id_bits, plan.counts);
  ClassWeights weights{};
  for (std::size_t c = 0; c < rules.size(); ++c) {
    weights.of[c] = plan.counts[c].weight =
        detail::class_weight(rule.classes[c], rules[c], plan.counts[c]);
  }
  shuffle_items(work,
                kept.items,
                kept.size,
                task.seed,
                task.epoch,
                id_bits,
                weights,
                constants,
                memory.ids,
                memory.weights);
  plan.kept = plan.used = kept.size;
  return plan;
}

}  // namespace infobatch::cuda
