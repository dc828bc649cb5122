// The three lines in a libtorch loop: a logistic regression that skips what it has learned.
//
// One learns: where the three lines go, that the criterion gives one loss per sample (kNone), and
// that epochs get shorter while the last ones see every sample again.

#include <samplers/infobatch.hpp>

#include <torch/torch.h>

#include <cstdint>
#include <cstdio>
#include <utility>
#include <vector>

namespace {

/// Points of two overlapping clouds and the cloud of each.
struct Clouds : torch::data::datasets::BatchDataset<Clouds, torch::data::Example<>> {
  explicit Clouds(std::int64_t size) {
    labels = torch::randint(0, 2, {size}, torch::kFloat);
    points = torch::randn({size, 2}) + 2.0 * labels.unsqueeze(1);
  }
  torch::data::Example<> get_batch(c10::ArrayRef<std::size_t> ids) override {
    const torch::Tensor rows = torch::tensor(std::vector<std::int64_t>(ids.begin(), ids.end()));
    return {points.index_select(0, rows), labels.index_select(0, rows)};
  }
  std::optional<std::size_t> size() const override { return labels.size(0); }
  torch::Tensor points, labels;
};

}  // namespace

int main() {
  torch::manual_seed(1);
  constexpr std::int64_t kSize = 5000;
  constexpr std::int64_t kEpochs = 10;
  const Clouds data(kSize);
  torch::nn::Linear model(2, 1);
  torch::optim::SGD optimizer(model->parameters(), 0.5);

  infobatch::InfoBatch ib(kSize, infobatch::Options(kEpochs).prune_ratio(0.5));  // line 1
  auto loader = torch::data::make_data_loader(data, ib.sampler(), 100);          // line 2

  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    std::printf("epoch %d: %d samples\n", static_cast<int>(epoch), static_cast<int>(ib.size()));
    for (auto& batch : *loader) {
      optimizer.zero_grad();
      const torch::Tensor losses = torch::binary_cross_entropy_with_logits(
          model(batch.data).squeeze(1), batch.target, {}, {}, torch::Reduction::None);
      torch::Tensor loss = ib.update(losses);  // line 3
      loss.backward();
      optimizer.step();
    }
  }

  const torch::Tensor right = (model(data.points).squeeze(1) > 0) == (data.labels > 0.5);
  const double accuracy = right.to(torch::kFloat).mean().item<double>();
  const double saved = ib.statistics().saved;
  std::printf("accuracy %.3f with %.1f %% of the samples saved\n", accuracy, 100 * saved);
  return accuracy > 0.9 && saved > 0.1 ? 0 : 1;
}
