// A fixed budget: ask for the share of samples to save, not for a prune ratio.
//
// One learns: with `target_saved` the prune ratio is solved for at the beginning of each epoch from
// what is left of the budget; `statistics()` shows promised against actual, and a share that cannot
// be reached is refused.

#include <samplers/infobatch.hpp>

#include <torch/torch.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

int main() {
  torch::manual_seed(1);
  constexpr std::int64_t kSize = 5000;
  constexpr std::int64_t kEpochs = 20;
  constexpr double kTarget = 0.25;
  const torch::Tensor hardness = torch::rand({kSize}).log().neg();  // skewed, as losses are

  infobatch::InfoBatch ib(kSize, infobatch::Options(kEpochs).target_saved(kTarget));
  infobatch::InfoBatchSampler sampler = ib.sampler();
  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    sampler.reset();
    const infobatch::Statistics figures = ib.statistics();
    std::printf("epoch %2d: prune ratio %.3f, %d samples, %.1f %% of the run saved\n",
                static_cast<int>(epoch),
                figures.prune_ratio,
                static_cast<int>(figures.kept),
                100 * figures.actual_saved);
    while (const auto ids = sampler.next(250)) {
      const torch::Tensor rows = torch::tensor(std::vector<std::int64_t>(ids->begin(), ids->end()));
      const double easier = 1.0 / (1.0 + 0.2 * static_cast<double>(epoch));
      ib.update(hardness.index_select(0, rows) * easier * (0.5 + torch::rand({rows.size(0)})));
    }
  }
  const infobatch::Statistics figures = ib.statistics();
  std::printf("promised %.3f, saved %.3f\n", *figures.promised_saved, figures.actual_saved);

  try {
    infobatch::InfoBatch(kSize, infobatch::Options(kEpochs).target_saved(0.95));
    return 1;
  } catch (const c10::ValueError& error) {
    std::printf("refused: %s\n", error.what_without_backtrace());
  }
  return std::abs(figures.actual_saved - kTarget) < 0.01 ? 0 : 1;
}
