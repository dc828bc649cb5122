#include <infobatch/detail/options.hpp>
#include <infobatch/policies/random.hpp>

namespace infobatch {
namespace random_rule {
namespace {

RuleReach reach(const Config&) { return {1.0, 1.0}; }

double candidates(const PolicyInput& input) { return static_cast<double>(input.size); }

EpochRule select(const PolicyInput& input, double scale) {
  EpochRule rule;
  rule.classes = {KeepClass{1.0 - scale, input.config.rescale}};
  rule.mode = keep_mode(input.config);
  return rule;
}

constexpr const Option* kParameters[] = {&kPruneRatio};

constexpr PolicyCard card() {
  PolicyCard card{};
  card.name = "random";
  card.summary = "Every sample is left out with probability r, whatever its loss.";
  card.source = "Qin et al., InfoBatch, ICLR 2024 (arXiv:2303.04947), Table 5";
  card.prunes = card.rescales = card.anneals = card.draws = true;
  card.scale = kPruneRatio.name;
  card.parameters = kParameters;
  return card;
}

}  // namespace
}  // namespace random_rule

const Policy kRandomPolicy = {
    random_rule::card(), random_rule::reach, random_rule::candidates, random_rule::select};

}  // namespace infobatch
