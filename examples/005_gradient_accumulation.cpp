// Gradient accumulation: one update a micro-batch, one optimizer step a batch.
//
// One learns: micro-batches are shorter slices, `update` is called once for each of them in order;
// with Reduction::kSum and a division by the whole batch, the gradient is that of the whole batch.
// Parts have one size, the last of a batch the rest: split(m), whatever the size of the last batch.

#include <samplers/infobatch.hpp>

#include <torch/torch.h>

#include <cstdint>
#include <cstdio>
#include <utility>
#include <vector>

namespace {

constexpr std::int64_t kSize = 640;
constexpr std::int64_t kBatch = 64;

/// Trains with batches cut into `parts`. @return the parameters and the number of updates.
std::pair<torch::Tensor, int> train(std::int64_t parts) {
  torch::manual_seed(1);
  const torch::Tensor x = torch::randn({kSize, 3});
  const torch::Tensor y = x.sum(1) + torch::randn({kSize}).pow(3);
  torch::nn::Linear model(3, 1);
  torch::optim::SGD optimizer(model->parameters(), 0.02);
  infobatch::InfoBatch ib(kSize, infobatch::Options(/*epochs=*/6).seed(3));
  infobatch::InfoBatchSampler sampler = ib.sampler();
  int updates = 0;
  for (int epoch = 0; epoch < 6; ++epoch) {
    sampler.reset();
    while (const auto ids = sampler.next(kBatch)) {
      const torch::Tensor rows = torch::tensor(std::vector<std::int64_t>(ids->begin(), ids->end()));
      optimizer.zero_grad();
      for (const torch::Tensor& part : rows.split(kBatch / parts)) {
        const torch::Tensor out = model(x.index_select(0, part)).squeeze(1);
        const torch::Tensor losses = (out - y.index_select(0, part)).square();
        const torch::Tensor sum = ib.update(losses, infobatch::Reduction::kSum);
        (sum / static_cast<double>(rows.size(0))).backward();  // gradients add up
        updates += 1;
      }
      optimizer.step();
    }
  }
  return {torch::cat({model->weight.detach().flatten(), model->bias.detach()}), updates};
}

}  // namespace

int main() {
  const auto [whole, whole_updates] = train(1);
  const auto [parts, part_updates] = train(4);
  const double difference = (whole - parts).abs().max().item<double>();
  std::printf("%d updates with whole batches, %d with micro-batches, parameters differ by %.1e\n",
              whole_updates,
              part_updates,
              difference);
  return part_updates > 3 * whole_updates && difference < 1e-4 ? 0 : 1;
}
