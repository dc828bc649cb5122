// OneCycle on progress(): a schedule that fits epochs of any length.
//
// One learns: epochs have fewer steps when samples are skipped, so the learning rate is a function
// of `ib.progress()` (the fraction of the run that is done), not of a step count fixed in advance.

#include <samplers/infobatch.hpp>

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

/// PyTorch's OneCycleLR with cosine annealing, as a function of the fraction of the run.
double one_cycle(double progress, double max_lr) {
  constexpr double kWarm = 0.3;
  constexpr double kStart = 1.0 / 25.0;  // of max_lr
  constexpr double kEnd = kStart / 1e4;
  const auto cosine = [](double from, double to, double share) {
    return to + 0.5 * (from - to) * (1.0 + std::cos(std::acos(-1.0) * share));
  };
  return max_lr * (progress < kWarm ? cosine(kStart, 1.0, progress / kWarm)
                                    : cosine(1.0, kEnd, (progress - kWarm) / (1.0 - kWarm)));
}

}  // namespace

int main() {
  torch::manual_seed(1);
  constexpr std::int64_t kSize = 2000;
  constexpr std::int64_t kBatch = 50;
  constexpr std::int64_t kEpochs = 10;
  const torch::Tensor x = torch::randn({kSize, 3});
  const torch::Tensor y = x.sum(1) + 0.3 * torch::randn({kSize}).pow(3);
  torch::nn::Linear model(3, 1);
  torch::optim::SGD optimizer(model->parameters(), 0.1);
  infobatch::InfoBatch ib(kSize, infobatch::Options(kEpochs));
  infobatch::InfoBatchSampler sampler = ib.sampler();

  std::int64_t steps = 0;
  double peak = 0.0;
  double rate = 0.0;
  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    sampler.reset();
    while (const auto ids = sampler.next(kBatch)) {
      rate = one_cycle(ib.progress(), 0.1);
      static_cast<torch::optim::SGDOptions&>(optimizer.param_groups()[0].options()).lr(rate);
      const torch::Tensor rows = torch::tensor(std::vector<std::int64_t>(ids->begin(), ids->end()));
      optimizer.zero_grad();
      const torch::Tensor out = model(x.index_select(0, rows)).squeeze(1);
      ib.update((out - y.index_select(0, rows)).square()).backward();
      optimizer.step();
      steps += 1;
      peak = std::max(peak, rate);
    }
    std::printf("epoch %d: progress %.2f, learning rate %.4f\n",
                static_cast<int>(epoch),
                ib.progress(),
                rate);
  }
  std::printf(
      "%d steps of at most %d\n", static_cast<int>(steps), static_cast<int>(ib.max_steps(kBatch)));
  const bool whole_cycle = peak > 0.0999 && rate < 0.0002 && ib.progress() == 1.0;
  return whole_cycle && steps < ib.max_steps(kBatch) ? 0 : 1;
}
