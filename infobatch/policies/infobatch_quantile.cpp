#include <infobatch/detail/annealing.hpp>
#include <infobatch/detail/options.hpp>
#include <infobatch/policies/infobatch_quantile.hpp>

#include <algorithm>
#include <cstddef>

namespace infobatch {
namespace quantile_rule {
namespace {

RuleReach reach(const Config& config) {
  RuleReach reach;
  reach.classes = 1 + static_cast<int>(config.quantiles.size());
  double below = 0.0;
  for (std::size_t b = 0; b < config.quantiles.size(); ++b) {
    const double prune_ratio = 1.0 - config.quantile_keep[b];
    reach.of_all += (config.quantiles[b] - below) * prune_ratio;
    reach.class_ratio = std::max(reach.class_ratio, prune_ratio);
    below = config.quantiles[b];
  }
  return reach;
}

double candidates(const PolicyInput& input) {
  return reach(input.config).of_all * static_cast<double>(input.sum.count());
}

EpochRule select(const PolicyInput& input, double scale) {
  const Config& config = input.config;
  const Key score = Key::of(input.scores);
  EpochRule rule;
  rule.mode = keep_mode(config);
  rule.classes = {KeepClass{}};
  rule.classifier.kind = Classifier::Kind::kRanks;
  rule.classifier.key = score;
  for (std::size_t b = 0; b < config.quantiles.size(); ++b) {
    detail::RankTask task;
    task.key = score;
    task.size = input.size;
    task.rank = floor_fraction(billionths(config.quantiles[b]), input.sum.count());
    task.seed = config.seed;
    task.epoch = static_cast<std::uint32_t>(input.epoch);
    rule.classifier.cuts[rule.classifier.n_cuts++] = input.workers.cut_rank(task);
    rule.classes.push_back(
        KeepClass{1.0 - (1.0 - config.quantile_keep[b]) * scale, config.rescale});
  }
  return rule;
}

constexpr const Option* kParameters[] = {&kQuantiles, &kQuantileKeep};

constexpr PolicyCard card() {
  PolicyCard card{};
  card.name = "infobatch_quantile";
  card.summary = "Samples up to quantile q_b of the scores are kept with ratio k_b, all above.";
  card.source = "Qin et al., InfoBatch, ICLR 2024 (arXiv:2303.04947), the 40 % variant";
  card.prunes = card.needs_scores = card.rescales = card.anneals = card.draws = true;
  card.parameters = kParameters;
  return card;
}

}  // namespace
}  // namespace quantile_rule

const Policy kInfoBatchQuantilePolicy = {quantile_rule::card(),
                                         quantile_rule::reach,
                                         quantile_rule::candidates,
                                         quantile_rule::select,
                                         /*cuts_ranks=*/true};

}  // namespace infobatch
