#include <infobatch/detail/options.hpp>
#include <infobatch/policies/infobatch.hpp>

namespace infobatch {
namespace infobatch_rule {
namespace {

Classifier below_mean(const PolicyInput& input) {
  return Classifier::below(Key::of(input.scores), input.threshold);
}

// Nearly every sample can be below the mean, when a single loss is large enough.
RuleReach reach(const Config&) { return {1.0, 1.0}; }

double candidates(const PolicyInput& input) {
  return static_cast<double>(input.workers.count(below_mean(input), input.size)[1]);
}

EpochRule select(const PolicyInput& input, double scale) {
  EpochRule rule;
  rule.classes = {KeepClass{}, KeepClass{1.0 - scale, input.config.rescale}};
  rule.mode = keep_mode(input.config);
  rule.classifier = below_mean(input);
  return rule;
}

constexpr const Option* kParameters[] = {&kPruneRatio};

constexpr PolicyCard card() {
  PolicyCard card{};
  card.name = "infobatch";
  card.summary = "Samples whose last loss is below the mean are left out with probability r.";
  card.source = "Qin et al., InfoBatch, ICLR 2024 (arXiv:2303.04947), section 2.2";
  card.prunes = card.needs_scores = card.rescales = card.anneals = card.draws = true;
  card.scale = kPruneRatio.name;
  card.parameters = kParameters;
  return card;
}

}  // namespace
}  // namespace infobatch_rule

const Policy kInfoBatchPolicy = {infobatch_rule::card(),
                                 infobatch_rule::reach,
                                 infobatch_rule::candidates,
                                 infobatch_rule::select};

}  // namespace infobatch
