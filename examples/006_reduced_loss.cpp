// A criterion that only returns a reduced loss: observe the scores, scale the gradient.
//
// One learns: `observe(scores)` records any per-sample figure and returns the weights, and
// `scale_gradient(outputs, weights)` between model and criterion gives the parameters the gradient
// of the weighted loss. The value of the loss stays the criterion's own.

#include <samplers/infobatch.hpp>

#include <torch/torch.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

int main() {
  torch::manual_seed(1);
  constexpr std::int64_t kSize = 1000;
  const torch::Tensor x = torch::randn({kSize, 4});
  const torch::Tensor y = x.sum(1, true) + torch::randn({kSize, 1}).pow(3);
  torch::nn::Linear model(4, 1);
  torch::optim::SGD optimizer(model->parameters(), 0.05);
  const torch::nn::MSELoss criterion;  // reduces to a scalar

  infobatch::InfoBatch ib(kSize, infobatch::Options(/*epochs=*/8));
  infobatch::InfoBatchSampler sampler = ib.sampler();
  double largest_difference = 0.0;
  for (int epoch = 0; epoch < 8; ++epoch) {
    sampler.reset();
    while (const auto ids = sampler.next(100)) {
      const torch::Tensor rows = torch::tensor(std::vector<std::int64_t>(ids->begin(), ids->end()));
      const torch::Tensor target = y.index_select(0, rows);
      const torch::Tensor outputs = model(x.index_select(0, rows));

      const torch::Tensor scores = (outputs.detach() - target).square().squeeze(1);
      const torch::Tensor weights = ib.observe(scores);
      auto reduce = criterion;
      const torch::Tensor loss = reduce(infobatch::scale_gradient(outputs, weights), target);

      optimizer.zero_grad();
      loss.backward(/*gradient=*/{}, /*retain_graph=*/true);
      const torch::Tensor gradient = model->weight.grad().clone();
      // The same by hand, for comparison.
      const torch::Tensor by_hand = (weights * (outputs - target).square().squeeze(1)).mean();
      const torch::Tensor wanted = torch::autograd::grad({by_hand}, {model->weight})[0];
      largest_difference =
          std::max(largest_difference, (gradient - wanted).abs().max().item<double>());
      optimizer.step();
    }
  }
  const double saved = ib.statistics().saved;
  std::printf("%.1f %% of the samples saved; gradients differ from the weighted loss's by %.1e\n",
              100 * saved,
              largest_difference);
  return saved > 0.1 && largest_difference < 1e-4 ? 0 : 1;
}
