// Rule 6 on a real model: at fixed parameters the expectation of a pruned epoch's summed, rescaled
// gradients is the full-data gradient.

#include <tests/samplers/toy.hpp>

#include <cmath>

namespace infobatch::testing {
namespace {

constexpr std::int64_t kSamples = 300;
constexpr std::int64_t kPlans = 1000;
constexpr double kAlpha = 1e-6;

struct Classifier : torch::nn::Module {
  Classifier() {
    first = register_module("first", torch::nn::Linear(4, 6));
    second = register_module("second", torch::nn::Linear(6, 3));
    const torch::NoGradGuard no_grad;
    double phase = 0.3;
    for (torch::Tensor& p : parameters()) {
      p.copy_((torch::arange(p.numel(), torch::kFloat) * 1.7 + phase).sin().view_as(p));
      phase += 1.1;
    }
  }
  /// Cross entropy of each row, [B].
  torch::Tensor losses(const torch::Tensor& x, const torch::Tensor& labels) {
    return torch::nn::functional::cross_entropy(
        second(torch::tanh(first(x))),
        labels,
        torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kNone));
  }
  /// All gradients in one vector, float64; they are reset.
  torch::Tensor take_gradient() {
    std::vector<torch::Tensor> parts;
    for (torch::Tensor& p : parameters()) parts.push_back(p.grad().flatten().to(torch::kDouble));
    zero_grad();
    return torch::cat(parts);
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
};

/// The inverse of the standard normal's upper tail, by bisection.
double normal_bound(double tail) {
  double low = 0.0;
  double high = 40.0;
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    (0.5 * std::erfc(middle / std::sqrt(2.0)) > tail ? low : high) = middle;
  }
  return high;
}

struct Outcome {
  double largest_z;  // over the coordinates
  double bound;      // two-sided, alpha = kAlpha over all coordinates (Bonferroni)
  double saved;
};

/// Sums of `kPlans` epochs' gradients against the full-data gradient.
Outcome compare(const std::string& keep, bool rescale, bool by_scaling) {
  Classifier model;
  std::vector<std::size_t> all(kSamples);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  const torch::Tensor x = ToyData(kSamples).get_batch(all).x;
  const torch::Tensor labels =
      (torch::arange(kSamples, torch::kFloat) * 2.3).sin().mul(10).to(torch::kInt64).remainder(3);

  // The exact variance of a plan's sum, from the gradient of each sample.
  const torch::Tensor all_losses = model.losses(x, labels);
  all_losses.sum().backward({}, /*retain_graph=*/true);
  const torch::Tensor full = model.take_gradient();
  const double threshold = all_losses.to(torch::kDouble).mean().item<double>();
  torch::Tensor candidates = torch::zeros_like(full);  // sum of g
  torch::Tensor squares = torch::zeros_like(full);     // sum of g * g
  double n = 0.0;
  for (std::int64_t i = 0; i < kSamples; ++i) {
    if (all_losses[i].item<double>() >= threshold) continue;
    all_losses[i].backward({}, /*retain_graph=*/true);
    const torch::Tensor g = model.take_gradient();
    candidates += g;
    squares += g.square();
    n += 1.0;
  }
  torch::Tensor variance = squares;  // bernoulli: g^2 * r / (1 - r), r = .5
  if (keep == "exact") {
    const double m = std::floor(n / 2);  // m of n without replacement, weight n / m
    variance = (n / m) * (n - m) / (n - 1.0) * (squares - candidates.square() / n);
  }

  InfoBatch ib(kSamples,
               Options(kPlans + 1).delta(1.0).seed(6).keep(keep).rescale(rescale).threads(1));
  InfoBatchSampler sampler = ib.sampler();
  torch::Tensor sum = torch::zeros_like(full);
  for (std::int64_t epoch = 0; epoch <= kPlans; ++epoch) {
    sampler.reset();
    while (const auto request = sampler.next(200)) {
      const torch::Tensor ids =
          torch::tensor(std::vector<std::int64_t>(request->begin(), request->end()));
      torch::Tensor losses = model.losses(x.index_select(0, ids), labels.index_select(0, ids));
      if (by_scaling) {
        const torch::Tensor weights = ib.observe(losses.detach());
        losses = scale_gradient(losses, weights);
        losses.sum().backward();
      } else {
        ib.update(losses, Reduction::kSum).backward();
      }
    }
    const torch::Tensor gradient = model.take_gradient();
    if (epoch == 0) {
      REQUIRE(torch::allclose(gradient, full, 1e-4, 1e-4));  // a full epoch is the full gradient
    } else {
      sum += gradient;
    }
  }
  const torch::Tensor z =
      (sum / static_cast<double>(kPlans) - full) / (variance / static_cast<double>(kPlans)).sqrt();
  const auto coordinates = static_cast<double>(full.numel());
  return {
      z.abs().max().item<double>(), normal_bound(kAlpha / 2 / coordinates), ib.statistics().saved};
}

// H0: E[sum over the plan of w * g] = sum over all samples of g, coordinate by coordinate.
TEST_CASE("rule 6: the rescaled gradients of a real model are unbiased over 1000 plans",
          "[samplers][statistical]") {
  const std::string keep = GENERATE("bernoulli", "exact");
  const Outcome outcome = compare(keep, /*rescale=*/true, /*by_scaling=*/false);
  CAPTURE(keep, outcome.largest_z, outcome.bound, outcome.saved);
  REQUIRE(outcome.saved > 0.2);
  REQUIRE(outcome.largest_z < outcome.bound);
  REQUIRE(outcome.largest_z > 0.5);  // a statistic that moves at all
}

TEST_CASE("rule 6: observe and scale_gradient are unbiased in the same way",
          "[samplers][statistical]") {
  const Outcome outcome = compare("bernoulli", true, /*by_scaling=*/true);
  CAPTURE(outcome.largest_z, outcome.bound);
  REQUIRE(outcome.largest_z < outcome.bound);
}

TEST_CASE("rule 6: the same statistic finds out weights that are forced to 1",
          "[samplers][statistical]") {
  const Outcome outcome = compare("bernoulli", /*rescale=*/false, /*by_scaling=*/false);
  CAPTURE(outcome.largest_z, outcome.bound);
  REQUIRE(outcome.largest_z > 2 * outcome.bound);
}

}  // namespace
}  // namespace infobatch::testing
