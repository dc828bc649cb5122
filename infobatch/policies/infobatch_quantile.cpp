#include <infobatch/annealing.hpp>
#include <infobatch/policies/infobatch_quantile.hpp>
#include <infobatch/select.hpp>

#include <algorithm>
#include <limits>

namespace infobatch {
namespace {

/// Share of the observed samples that the quantiles leave out at strength 1.
double nominal_share(const Config& config) {
  double share = 0.0;
  double below = 0.0;
  for (std::size_t b = 0; b < config.quantiles.size(); ++b) {
    share += (config.quantiles[b] - below) * (1.0 - config.quantile_keep[b]);
    below = config.quantiles[b];
  }
  return share;
}

}  // namespace

double InfoBatchQuantilePolicy::configured_strength(const Config&) const { return 1.0; }

double InfoBatchQuantilePolicy::largest_strength(const Config& config) const {
  double largest = 0.0;
  for (double keep : config.quantile_keep) largest = std::max(largest, 1.0 - keep);
  return largest > 0.0 ? config.max_prune_ratio / largest : 0.0;
}

double InfoBatchQuantilePolicy::largest_share(const Config& config) const {
  return nominal_share(config) * largest_strength(config);
}

double InfoBatchQuantilePolicy::solve_strength(const PolicyInput& input, double share) const {
  const double nominal = nominal_share(input.config);
  const std::int64_t observed = input.sum.count();
  if (share <= 0.0) return 0.0;
  if (nominal == 0.0 || observed == 0) return std::numeric_limits<double>::infinity();
  return share / nominal * static_cast<double>(input.size) / static_cast<double>(observed);
}

EpochRule InfoBatchQuantilePolicy::rule(const PolicyInput& input, double strength) const {
  const Config& config = input.config;
  EpochRule rule;
  rule.mode = config.keep == "exact" ? KeepMode::kExact : KeepMode::kBernoulli;
  rule.classes = {KeepClass{}};
  std::vector<RankCut> cuts;
  for (std::size_t b = 0; b < config.quantiles.size(); ++b) {
    const std::int64_t rank = floor_share(billionths(config.quantiles[b]), input.sum.count());
    cuts.push_back(select_rank(input.scores,
                               input.size,
                               rank,
                               config.seed,
                               static_cast<std::uint32_t>(input.epoch),
                               input.team));
    rule.classes.push_back(
        KeepClass{1.0 - (1.0 - config.quantile_keep[b]) * strength, config.rescale});
  }
  rule.classify = [scores = input.scores, cuts](
                      std::int64_t begin, std::int64_t end, std::uint8_t* klass) {
    classify_by_ranks(scores, begin, end, cuts.data(), static_cast<int>(cuts.size()), klass);
  };
  return rule;
}

}  // namespace infobatch
