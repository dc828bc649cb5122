#include <infobatch/detail/annealing.hpp>
#include <infobatch/detail/options.hpp>
#include <infobatch/detail/streams.hpp>
#include <infobatch/policies/orderdp.hpp>

#include <algorithm>
#include <limits>

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

constexpr std::uint8_t kLeftOut = 1;

// How many samples of the pool were observed: those that a cut behind all scores covers.
std::int64_t observed_in(const PolicyInput& input, const Pool& pool) {
  Classifier classifier;
  classifier.kind = Classifier::Kind::kRanks;
  classifier.key = Key::of(input.scores);
  classifier.cuts[0].key = std::numeric_limits<float>::infinity();
  classifier.n_cuts = 1;
  classifier.pooled = true;
  classifier.pool = pool;
  classifier.pool.outside = 0;
  return input.workers.count(classifier, input.size)[1];
}

EpochRule select(const PolicyInput& input, double scale) {
  const Config& config = input.config;
  const auto epoch = static_cast<std::uint32_t>(input.epoch);
  const std::int64_t kept =
      input.size - floor_fraction(billionths(scale * left_out(config)), input.size);
  const std::int64_t pool = std::max(
      kept,
      input.size - floor_fraction(billionths(scale * (1.0 - config.number(kPool))), input.size));

  EpochRule rule;
  rule.classes = {KeepClass{}, KeepClass{0.0}};
  Classifier& classifier = rule.classifier;
  classifier.kind = Classifier::Kind::kRanks;
  classifier.key = Key::of(input.scores);
  detail::DrawTask draws;  // of all samples, which are class 0 of the classifier of everybody
  draws.size = draws.members = input.size;
  draws.wanted = pool;
  draws.seed = config.seed;
  draws.epoch = epoch;
  draws.stream = kStreamPool;
  classifier.pooled = true;
  classifier.pool = {input.workers.cut_draws(draws), config.seed, epoch, /*outside=*/kLeftOut};
  classifier.n_cuts = 1;

  detail::RankTask ranks;
  ranks.key = classifier.key;
  ranks.pooled = true;
  ranks.pool = classifier.pool;
  ranks.size = input.size;
  ranks.rank = std::min(pool - kept, observed_in(input, classifier.pool));
  ranks.seed = config.seed;
  ranks.epoch = epoch;
  classifier.cuts[0] = input.workers.cut_rank(ranks);
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

const Policy kOrderDpPolicy = {orderdp_rule::card(),
                               orderdp_rule::reach,
                               orderdp_rule::candidates,
                               orderdp_rule::select,
                               /*cuts_ranks=*/true};

}  // namespace infobatch
