#include <infobatch/options.hpp>
#include <infobatch/policies/infobatch.hpp>
#include <infobatch/select.hpp>

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

namespace infobatch {
namespace infobatch_rule {
namespace {

/// Number of scores below the mean.
std::int64_t count_below(const PolicyInput& input) {
  constexpr std::int64_t kBlock = 4096;
  const int threads = input.team.size();
  std::vector<std::int64_t> counts(static_cast<std::size_t>(threads), 0);
  input.team.run([&](int thread) {
    const std::int64_t end = input.size * (thread + 1) / threads;
    std::array<std::uint8_t, kBlock> below;
    std::int64_t count = 0;
    for (std::int64_t begin = input.size * thread / threads; begin < end; begin += kBlock) {
      const std::int64_t size = std::min(kBlock, end - begin);
      classify_below(input.scores + begin, size, input.threshold, below.data());
      count = std::accumulate(below.begin(), below.begin() + size, count);
    }
    counts[static_cast<std::size_t>(thread)] = count;
  });
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

// Nearly every sample can be below the mean, when a single loss is large enough.
RuleReach reach(const Config&) { return {1.0, 1.0}; }

double candidates(const PolicyInput& input) { return static_cast<double>(count_below(input)); }

EpochRule select(const PolicyInput& input, double scale) {
  EpochRule rule;
  rule.classes = {KeepClass{}, KeepClass{1.0 - scale, input.config.rescale}};
  rule.mode = keep_mode(input.config);
  rule.classifier = Classifier::below(Key::of(input.scores), input.threshold);
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
