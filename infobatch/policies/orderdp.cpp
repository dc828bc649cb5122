#include <infobatch/annealing.hpp>
#include <infobatch/options.hpp>
#include <infobatch/policies/orderdp.hpp>
#include <infobatch/select.hpp>
#include <infobatch/streams.hpp>

#include <algorithm>

namespace infobatch {
namespace orderdp_rule {
namespace {

constexpr Option kPool = {"orderdp_pool",
                          OptionKind::kNumber,
                          "orderdp: fraction s of all samples that the uniform pool takes",
                          left_open(0.0, 1.0),
                          0.5};
constexpr Option kKeep = {"orderdp_keep",
                          OptionKind::kNumber,
                          "orderdp: fraction k of the pool that is kept, the largest losses",
                          left_open(0.0, 1.0),
                          0.6};
constexpr const Option* kParameters[] = {&kPool, &kKeep};

double left_out(const Config& config) { return 1.0 - config.number(kPool) * config.number(kKeep); }

RuleReach reach(const Config& config) { return {left_out(config), left_out(config)}; }

double candidates(const PolicyInput& input) {
  return left_out(input.config) * static_cast<double>(input.size);
}

EpochRule select(const PolicyInput& input, double scale) {
  const Config& config = input.config;
  const auto epoch = static_cast<std::uint32_t>(input.epoch);
  const std::int64_t kept =
      input.size - floor_share(billionths(scale * left_out(config)), input.size);
  const std::int64_t pool = std::max(
      kept, input.size - floor_share(billionths(scale * (1.0 - config.number(kPool))), input.size));

  EpochRule rule;
  rule.classes = {KeepClass{}, KeepClass{0.0}};
  Classifier& classifier = rule.classifier;
  classifier.kind = Classifier::Kind::kRanks;
  classifier.key = Key::of(input.scores);
  classifier.pooled = true;
  classifier.pool = {select_smallest_draws(Classifier(),
                                           0,
                                           input.size,
                                           input.size,
                                           pool,
                                           config.seed,
                                           epoch,
                                           kStreamPool,
                                           input.team),
                     config.seed,
                     epoch,
                     /*outside=*/1};
  classifier.n_cuts = 1;
  const std::int64_t observed =
      count_keys(classifier.key, &classifier.pool, input.size, input.team);
  classifier.cuts[0] = select_rank(classifier.key,
                                   &classifier.pool,
                                   input.size,
                                   std::min(pool - kept, observed),
                                   config.seed,
                                   epoch,
                                   input.team);
  return rule;
}

constexpr PolicyCard card() {
  PolicyCard card{};
  card.name = "orderdp";
  card.summary =
      "Of a uniform pool of s * N samples, the fraction k with the largest losses is kept.";
  card.source = "OrderDP: ordered selection from a uniform pool, as its paper defines it";
  card.prunes = card.needs_scores = true;
  card.parameters = kParameters;
  return card;
}

}  // namespace
}  // namespace orderdp_rule

const Policy kOrderDpPolicy = {
    orderdp_rule::card(), orderdp_rule::reach, orderdp_rule::candidates, orderdp_rule::select};

}  // namespace infobatch
