// Class weights and ignored targets: the criterion's own mean, from per-sample losses.
//
// One learns: such a criterion does not divide by the number of losses but by the sum of what
// counts; Reduction::kSum over that divisor is its mean, and `scores` keeps the score right.

#include <samplers/infobatch.hpp>

#include <torch/torch.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

namespace F = torch::nn::functional;
using infobatch::Reduction;

constexpr std::int64_t kSize = 6;
constexpr std::int64_t kClasses = 5;
constexpr std::int64_t kTokens = 7;

/// A run of which one batch, all samples in the order of the plan, was delivered.
struct OneBatch {
  OneBatch() : ib(kSize, infobatch::Options(/*epochs=*/5).seed(1)) {
    infobatch::InfoBatchSampler sampler = ib.sampler();
    sampler.reset();
    const auto ids = sampler.next(kSize).value();
    rows = torch::tensor(std::vector<std::int64_t>(ids.begin(), ids.end()));
  }
  infobatch::InfoBatch ib;
  torch::Tensor rows;
};

double difference(const torch::Tensor& a, const torch::Tensor& b) {
  return std::abs((a - b).item<double>());
}

/// Image classes with class weights: the criterion divides by the sum of the rows' class weights.
double class_weights() {
  const torch::Tensor class_weights = torch::rand({kClasses}) + 0.2;
  const torch::Tensor logits = torch::randn({kSize, kClasses});
  const torch::Tensor labels = torch::randint(0, kClasses, {kSize});

  OneBatch batch;
  const torch::Tensor out = logits.index_select(0, batch.rows);
  const torch::Tensor target = labels.index_select(0, batch.rows);
  const auto options = F::CrossEntropyFuncOptions().weight(class_weights);
  auto each = options;
  const torch::Tensor losses = F::cross_entropy(out, target, each.reduction(torch::kNone));
  const torch::Tensor divisor = class_weights.index_select(0, target).sum();
  const torch::Tensor loss = batch.ib.update(losses, Reduction::kSum) / divisor;
  return difference(loss, F::cross_entropy(out, target, options));
}

/// Tokens of which some are ignored: the criterion divides by the number of those that count.
double ignored_targets(double* score_difference) {
  const torch::Tensor logits = torch::randn({kSize, kClasses, kTokens});
  const torch::Tensor labels = torch::randint(0, kClasses, {kSize, kTokens});
  for (std::int64_t row = 0; row < kSize; ++row) labels[row].slice(0, row + 1).fill_(-100);

  OneBatch batch;
  const torch::Tensor out = logits.index_select(0, batch.rows);
  const torch::Tensor target = labels.index_select(0, batch.rows);
  const auto each = F::CrossEntropyFuncOptions().reduction(torch::kNone);
  const torch::Tensor losses = F::cross_entropy(out, target, each);  // ignore_index is -100
  const torch::Tensor mask = target.ne(-100);
  const torch::Tensor scores = losses.sum(1) / mask.sum(1);
  const torch::Tensor loss =
      batch.ib.update(losses, /*ids=*/{}, scores, Reduction::kSum) / mask.sum();

  batch.ib.set_epoch(1);  // the losses enter the scores
  const float* recorded = batch.ib.session()->scores();
  const std::int64_t first = batch.rows[0].item<std::int64_t>();
  *score_difference = std::abs(recorded[first] - scores[0].item<float>());
  return difference(loss, F::cross_entropy(out, target));
}

}  // namespace

int main() {
  torch::manual_seed(1);
  const double weighted = class_weights();
  double score = 0.0;
  const double masked = ignored_targets(&score);
  std::printf("difference from the criterion's own mean\n");
  std::printf("  class weights:   %.1e\n  ignored targets: %.1e\n", weighted, masked);
  return weighted < 1e-5 && masked < 1e-5 && score < 1e-6 ? 0 : 1;
}
