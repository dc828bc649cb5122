#include <infobatch/policies/full.hpp>

namespace infobatch {
namespace full_rule {
namespace {

RuleReach reach(const Config&) { return {}; }

double candidates(const PolicyInput&) { return 0.0; }

EpochRule select(const PolicyInput&, double) {
  EpochRule rule;
  rule.classes = {KeepClass{}};
  return rule;
}

constexpr PolicyCard card() {
  PolicyCard card{};
  card.name = "full";
  card.summary = "Every sample in every epoch, weight 1.";
  card.source = "training without the library";
  card.rescales = true;
  return card;
}

}  // namespace
}  // namespace full_rule

const Policy kFullPolicy = {
    full_rule::card(), full_rule::reach, full_rule::candidates, full_rule::select};

}  // namespace infobatch
