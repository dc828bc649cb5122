#include <infobatch/policies/infobatch.hpp>
#include <infobatch/select.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <vector>

namespace infobatch {
namespace {

/// Number of scores below the cutoff.
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
      classify_below(input.scores + begin, size, input.cutoff, below.data());
      count = std::accumulate(below.begin(), below.begin() + size, count);
    }
    counts[static_cast<std::size_t>(thread)] = count;
  });
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

}  // namespace

double InfoBatchPolicy::configured_strength(const Config& config) const {
  return config.prune_ratio;
}
double InfoBatchPolicy::largest_strength(const Config& config) const {
  return config.max_prune_ratio;
}
// Nearly every sample can be below the mean, when a single loss is large enough.
double InfoBatchPolicy::largest_share(const Config& config) const { return config.max_prune_ratio; }

double InfoBatchPolicy::solve_strength(const PolicyInput& input, double share) const {
  const std::int64_t candidates = count_below(input);
  if (share <= 0.0) return 0.0;
  if (candidates == 0) return std::numeric_limits<double>::infinity();  // no ratio will do
  return share * static_cast<double>(input.size) / static_cast<double>(candidates);
}

EpochRule InfoBatchPolicy::rule(const PolicyInput& input, double strength) const {
  EpochRule rule;
  rule.classes = {KeepClass{}, KeepClass{1.0 - strength, input.config.rescale}};
  rule.mode = input.config.keep == "exact" ? KeepMode::kExact : KeepMode::kBernoulli;
  rule.classify = [scores = input.scores, cutoff = input.cutoff](
                      std::int64_t begin, std::int64_t end, std::uint8_t* klass) {
    classify_below(scores + begin, end - begin, cutoff, klass);
  };
  return rule;
}

}  // namespace infobatch
