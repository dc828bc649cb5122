#include <infobatch/detail/annealing.hpp>
#include <infobatch/detail/backend.hpp>
#include <infobatch/detail/budget.hpp>
#include <infobatch/detail/float_environment.hpp>
#include <infobatch/detail/peers.hpp>
#include <infobatch/detail/planner.hpp>
#include <infobatch/score.hpp>

#include <utility>

namespace infobatch::detail {
namespace {

EpochChoice choose(const PlanRequest& request, const PolicyInput& input) {
  if (request.restored != nullptr) return *request.restored;
  EpochChoice choice;
  const Policy& policy = request.policy;
  const Config& config = request.config;
  const bool informed = input.sum.count() > 0 || !policy.card.needs_scores;
  choice.prunes = informed && policy.card.prunes && prunes(config, request.epoch);
  if (!choice.prunes) return choice;
  if (!config.target_saved) {
    choice.scale = configured_scale(config, policy.card);
    return choice;
  }
  const double share = fraction_to_prune(config, request.size, request.epoch, request.before);
  const double wanted = solve_scale(share, request.size, policy.candidates(input));
  const double largest = largest_scale(config, policy.reach(config));
  choice.limited = wanted > largest;
  choice.scale = choice.limited ? largest : wanted;
  return choice;
}

Statistics describe(const PlanRequest& request,
                    const EpochChoice& choice,
                    const ScoreSum& sum,
                    const EpochRule& rule,
                    const PlanArrays& arrays) {
  Statistics statistics;
  statistics.epoch = request.epoch;
  statistics.size = request.size;
  statistics.planned = true;
  statistics.prunes = choice.prunes;
  statistics.kept = arrays.size;
  statistics.pruned = request.size - arrays.size;
  statistics.prune_ratio = choice.scale;
  for (std::size_t k = 0; k < arrays.counts.size(); ++k) {
    if (rule.classes[k].keep_ratio < 1.0) statistics.candidates += arrays.counts[k].members;
  }
  statistics.observed = sum.count();
  if (sum.count() > 0) statistics.mean_score = sum.mean();
  statistics.promised_saved = request.config.target_saved;
  const std::int64_t batch = request.config.whole_batches;
  if (batch > 0) statistics.short_batch = arrays.size % batch;
  return statistics;
}

PlannedEpoch make_plan(const PlanRequest& request, PlanArrays recycled) {
  const DefaultFloatEnvironment float_environment;
  const Workers workers(request.size, request.threads, request.backend);
  if (request.peers != nullptr) request.peers->meet(request.epoch);
  ScoreSum sum = workers.sum(request.scores, request.size);
  if (request.peers != nullptr) sum = request.peers->total(sum);
  const PolicyInput input{request.config,
                          request.epoch,
                          request.size,
                          request.scores,
                          request.columns,
                          sum,
                          sum.threshold(),
                          workers};
  PlannedEpoch planned;
  planned.choice = choose(request, input);
  EpochRule rule;
  rule.classes = {KeepClass{}};
  if (planned.choice.prunes) {
    rule = request.policy.select(input, planned.choice.scale);
    if (request.config.whole_batches > 0) rule.multiple = request.config.whole_batches;
  }
  PlanTask task{request.size, request.config.seed, static_cast<std::uint32_t>(request.epoch), rule};
  if (request.peers != nullptr) {
    task.peers = request.peers;
    task.first = request.peers->range().first;
  }
  PlanArrays arrays = workers.plan(task, std::move(recycled));
  if (request.weights) {
    wait_for(request.backend);  // the host is about to read what the device wrote
    apply_sampling_weights(
        request.weights, task, planned.choice.prunes && thins(request.config), arrays);
  }
  planned.statistics = describe(request, planned.choice, sum, rule, arrays);
  planned.plan = PlanHolder(new OwnedPlan(request.epoch, request.size, std::move(arrays)));
  return planned;
}

}  // namespace

PlannedEpoch plan_epoch(const PlanRequest& request, PlanArrays recycled) {
  if (request.peers == nullptr) return make_plan(request, std::move(recycled));
  return request.peers->call([&] { return make_plan(request, std::move(recycled)); });
}

std::uint64_t fingerprint(const Plan& plan) {
  constexpr std::uint64_t kMultiplier = 0x9e3779b97f4a7c15u;
  std::uint64_t hash = static_cast<std::uint64_t>(plan.size());
  for (std::int64_t p = 0; p < plan.size(); ++p) {
    hash ^= static_cast<std::uint64_t>(plan.ids()[p]);
    hash = (hash ^ (hash >> 29)) * kMultiplier + float_bits(plan.weights()[p]);
  }
  return hash ^ (hash >> 32);
}

}  // namespace infobatch::detail

namespace infobatch {

Plan::~Plan() = default;

}  // namespace infobatch
