// A user's training loop: the three lines of the README in a program of its own.
#include <samplers/infobatch.hpp>

#include <torch/torch.h>

#include <iostream>

int main() {
  torch::manual_seed(1);
  const auto inputs = torch::randn({512, 4});
  const auto targets = inputs.sum(1).gt(0).to(torch::kInt64);
  torch::nn::Linear model(4, 2);
  torch::optim::SGD optimizer(model->parameters(), /*lr=*/0.1);

  constexpr std::int64_t kEpochs = 8;
  infobatch::InfoBatch ib(inputs.size(0), infobatch::Options(kEpochs).prune_ratio(0.5));
  auto sampler = ib.sampler();
  std::int64_t trained = 0;
  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    sampler.reset();
    while (auto batch = sampler.next(32)) {
      const auto ids = torch::tensor(std::vector<std::int64_t>(batch->begin(), batch->end()));
      const auto logits = model->forward(inputs.index_select(0, ids));
      const auto losses = torch::nn::functional::cross_entropy(
          logits,
          targets.index_select(0, ids),
          torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kNone));
      optimizer.zero_grad();
      ib.update(losses).backward();
      optimizer.step();
      trained += ids.size(0);
    }
  }
  std::cout << trained << " of " << kEpochs * inputs.size(0) << " samples\n";
  return trained < kEpochs * inputs.size(0) && trained > 0 ? 0 : 1;
}
