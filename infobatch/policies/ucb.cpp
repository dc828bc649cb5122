#include <infobatch/detail/annealing.hpp>
#include <infobatch/detail/options.hpp>
#include <infobatch/policies/ucb.hpp>

namespace infobatch {
namespace ucb_rule {
namespace {

constexpr Option kWeight = {"ucb_weight",
                            OptionKind::kNumber,
                            "ucb: weight a of the newest loss in the mean and the variance",
                            left_open(0.0, 1.0),
                            0.8};
constexpr Option kC = {"ucb_c",
                       OptionKind::kNumber,
                       "ucb: factor c of the variance, beside the mean",
                       closed(0.0, 1e6),
                       1.0};
constexpr const Option* kParameters[] = {&kPruneRatio, &kWeight, &kC};
constexpr ColumnCard kColumns[] = {{"ema", FoldKind::kEma, "ucb_weight"},
                                   {"var", FoldKind::kVariance, "ucb_weight"}};

RuleReach reach(const Config&) { return {1.0, 1.0}; }

double candidates(const PolicyInput& input) { return static_cast<double>(input.sum.count()); }

EpochRule select(const PolicyInput& input, double scale) {
  EpochRule rule;
  rule.classes = {KeepClass{}, KeepClass{0.0}};
  Classifier& classifier = rule.classifier;
  classifier.kind = Classifier::Kind::kRanks;
  classifier.key.terms[0] = {input.columns[0], 1.0};
  classifier.key.terms[1] = {input.columns[1], input.config.number(kC)};
  classifier.key.count = 2;
  classifier.n_cuts = 1;
  detail::RankTask task;
  task.key = classifier.key;
  task.size = input.size;
  task.rank = floor_fraction(billionths(scale), input.sum.count());
  task.seed = input.config.seed;
  task.epoch = static_cast<std::uint32_t>(input.epoch);
  classifier.cuts[0] = input.workers.cut_rank(task);
  return rule;
}

constexpr PolicyCard card() {
  PolicyCard card{};
  card.name = "ucb";
  card.summary =
      "The fraction r with the smallest mean + c * variance of their losses is left out.";
  card.source = "Raju et al., Dynamic Data Pruning, 2021 (arXiv:2111.12621)";
  card.prunes = card.needs_scores = true;
  card.scale = kPruneRatio.name;
  card.parameters = kParameters;
  card.columns = kColumns;
  return card;
}

}  // namespace
}  // namespace ucb_rule

const Policy kUcbPolicy = {ucb_rule::card(),
                           ucb_rule::reach,
                           ucb_rule::candidates,
                           ucb_rule::select,
                           /*cuts_ranks=*/true};

}  // namespace infobatch
