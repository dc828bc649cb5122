// The three operators, called through the dispatcher by name.

#include <tests/samplers/toy.hpp>

#include <ATen/core/dispatch/Dispatcher.h>

#include <cmath>

namespace infobatch::testing {
namespace {

using Catch::Matchers::ContainsSubstring;

c10::OperatorHandle op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
}

void observe(torch::Tensor& scores, const torch::Tensor& losses, std::int64_t position) {
  op("infobatch::observe_")
      .typed<void(torch::Tensor&, const torch::Tensor&, std::int64_t)>()
      .call(scores, losses, position);
}

torch::Tensor weigh_op(const torch::Tensor& losses,
                       const torch::Tensor& weights,
                       std::int64_t reduction) {
  return op("infobatch::weigh")
      .typed<torch::Tensor(const torch::Tensor&, const torch::Tensor&, std::int64_t)>()
      .call(losses, weights, reduction);
}

torch::Tensor scale(const torch::Tensor& x, const torch::Tensor& weights) {
  return op("infobatch::scale_gradient")
      .typed<torch::Tensor(const torch::Tensor&, const torch::Tensor&)>()
      .call(x, weights);
}

TEST_CASE("the schemas say what is written and what aliases", "[samplers][ops]") {
  const auto text = [](const char* name) { return toString(op(name).schema()); };
  REQUIRE(text("infobatch::observe_") ==
          "infobatch::observe_(Tensor(a!) scores, Tensor losses, int position=0) -> ()");
  REQUIRE(text("infobatch::weigh") ==
          "infobatch::weigh(Tensor losses, Tensor weights, int reduction=0) -> Tensor");
  REQUIRE(text("infobatch::scale_gradient") ==
          "infobatch::scale_gradient(Tensor(a) x, Tensor weights) -> Tensor(a)");
}

TEST_CASE("observe_ writes row means at the position and nothing else", "[samplers][ops]") {
  const auto dtype = GENERATE(torch::kHalf, torch::kBFloat16, torch::kFloat, torch::kDouble);
  torch::Tensor scores = torch::full({10}, -7.0F);
  const torch::Tensor losses =
      torch::tensor({{1.0F, 2.0F}, {3.0F, 5.0F}, {INFINITY, 1.0F}}).to(dtype);
  const auto version = scores._version();
  observe(scores, losses, 4);
  REQUIRE(scores._version() == version + 1);
  REQUIRE(scores[4].item<float>() == 1.5F);
  REQUIRE(scores[5].item<float>() == 4.0F);
  REQUIRE(std::isnan(scores[6].item<float>()));  // rule 10
  REQUIRE(torch::equal(scores.slice(0, 0, 4), torch::full({4}, -7.0F)));
  REQUIRE(torch::equal(scores.slice(0, 7, 10), torch::full({3}, -7.0F)));
  observe(scores, torch::empty({0}), 10);
  observe_(scores, torch::full({10}, 1e300, torch::kDouble));  // beyond float32
  REQUIRE(scores.isnan().all().item<bool>());
}

TEST_CASE("the row mean is the exact sum in float64, rounded once", "[samplers][ops]") {
  torch::Tensor scores = torch::zeros({1});
  observe(scores, torch::tensor({{16777216.0F, 1.0F, 1.0F, -16777216.0F}}), 0);
  REQUIRE(scores[0].item<float>() == 0.5F);
}

TEST_CASE("weigh equals its expression on batches around every block edge", "[samplers][ops]") {
  const std::int64_t batch = GENERATE(1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1023, 1024);
  const torch::Tensor losses = torch::arange(batch, torch::kFloat).sin() + 2.0F;
  const torch::Tensor weights = 1.0F + (torch::arange(batch, torch::kFloat) * 0.7F).cos().abs();
  const double sum = (losses.to(torch::kDouble) * weights.to(torch::kDouble)).sum().item<double>();
  const double total = weights.to(torch::kDouble).sum().item<double>();
  const auto value = [&](std::int64_t how) { return weigh_op(losses, weights, how).item<float>(); };
  const auto near = [](double wanted) { return Catch::Matchers::WithinRel(float(wanted), 1e-7F); };
  REQUIRE_THAT(value(0), near(sum / static_cast<double>(batch)));
  REQUIRE_THAT(value(1), near(sum));
  REQUIRE_THAT(value(3), near(sum / total));
  REQUIRE(torch::equal(weigh_op(losses, weights, 2), losses * weights));
}

TEST_CASE("Meta tensors give shapes and types without data", "[samplers][ops]") {
  const auto meta = [](at::IntArrayRef sizes, torch::Dtype dtype) {
    return torch::empty(sizes, torch::dtype(dtype).device(torch::kMeta));
  };
  const torch::Tensor weights = meta({6}, torch::kFloat);
  for (const auto dtype : {torch::kHalf, torch::kBFloat16, torch::kFloat, torch::kDouble}) {
    const auto wide = dtype == torch::kDouble ? torch::kDouble : torch::kFloat;
    for (const std::int64_t how : {0, 1, 2, 3}) {
      const torch::Tensor out = weigh_op(meta({6, 3}, dtype), weights, how);
      REQUIRE(out.is_meta());
      REQUIRE(out.scalar_type() == wide);
      REQUIRE(out.sizes() == (how == 2 ? at::IntArrayRef{6, 3} : at::IntArrayRef{}));
    }
    const torch::Tensor leaf = meta({6, 3}, dtype).requires_grad_();
    weigh_op(leaf, weights, 0).backward();
    REQUIRE(leaf.grad().sizes() == leaf.sizes());
    REQUIRE(scale(meta({6, 3}, dtype), weights).sizes() == at::IntArrayRef{6, 3});
  }
  torch::Tensor scores = meta({10}, torch::kFloat);
  REQUIRE_NOTHROW(observe(scores, meta({6}, torch::kHalf), 4));
  REQUIRE_THROWS_AS(observe(scores, meta({6}, torch::kHalf), 5), c10::ValueError);
}

TEST_CASE("scale_gradient gives the parameters the gradient of the weighted loss",
          "[samplers][ops]") {
  const auto dtype = GENERATE(torch::kFloat, torch::kDouble);
  const ToyData data(24);
  std::vector<std::size_t> request(24);
  for (std::size_t i = 0; i < 24; ++i) request[i] = i;
  const ToyBatch batch = ToyData(data).get_batch(request);
  const torch::Tensor weights = 1.0F + (torch::arange(24, torch::kFloat) % 3);
  const auto gradient = [&](bool scaled) {
    torch::nn::Linear model = toy_model();
    model->to(dtype);
    torch::Tensor out = model->forward(batch.x.to(dtype));
    const torch::Tensor target = batch.y.to(dtype);
    if (scaled) {
      torch::mse_loss(scale(out, weights), target).backward();  // a reduced criterion
    } else {
      weigh((out - target).square().mean(1), weights).backward();
    }
    return model->weight.grad();
  };
  REQUIRE(torch::allclose(gradient(true), gradient(false), 1e-5));
}

TEST_CASE("scale_gradient is the identity, its gradient can be differentiated again",
          "[samplers][ops]") {
  const torch::Tensor weights = torch::tensor({1.0F, 2.0F, 4.0F});
  torch::Tensor x = torch::tensor({{1.0F, 2.0F}, {3.0F, 4.0F}, {5.0F, 6.0F}}).requires_grad_();
  torch::Tensor y = scale_gradient(x, weights);
  REQUIRE(torch::equal(y, x));
  const torch::Tensor first = torch::autograd::grad({y.pow(3).sum()}, {x}, {}, true, true)[0];
  REQUIRE(torch::allclose(first, 3 * x.square() * weights.unsqueeze(1)));
  const torch::Tensor second = torch::autograd::grad({first.sum()}, {x})[0];
  REQUIRE(torch::allclose(second, 6 * x * weights.square().unsqueeze(1)));
}

TEST_CASE("scale_gradient multiplies half-precision gradients in float32", "[samplers][ops]") {
  torch::Tensor x = torch::ones({2, 2}, torch::kBFloat16).requires_grad_();
  const torch::Tensor weights = torch::tensor({1.0F, 3.0F});
  scale_gradient(x, weights).sum().backward();
  REQUIRE(x.grad().scalar_type() == torch::kBFloat16);
  REQUIRE(torch::equal(x.grad().to(torch::kFloat), torch::tensor({{1.0F, 1.0F}, {3.0F, 3.0F}})));
}

TEST_CASE("writing to what scale_gradient returned cannot falsify a gradient silently",
          "[samplers][ops]") {
  torch::Tensor leaf = torch::tensor({0.5F, 1.0F}).requires_grad_();
  torch::Tensor x = leaf.exp();  // exp keeps its result for the backward pass
  torch::Tensor y = scale_gradient(x, torch::tensor({1.0F, 2.0F}));
  REQUIRE_THROWS_AS(
      [&] {
        y.mul_(3.0F);
        y.sum().backward();
      }(),
      c10::Error);
}

TEST_CASE("the weights that a graph saved must not be written to", "[samplers][ops]") {
  torch::Tensor x = torch::rand({4}).requires_grad_();
  torch::Tensor weights = torch::ones({4});
  const torch::Tensor loss = weigh(x, weights);
  weights.fill_(5.0F);
  REQUIRE_THROWS_WITH(loss.backward(), ContainsSubstring("modified by an inplace operation"));
}

TEST_CASE("the operators refuse what does not fit and write nothing", "[samplers][ops]") {
  const torch::Tensor losses = torch::rand({4});
  const torch::Tensor weights = torch::ones({4});
  REQUIRE_THROWS_WITH(weigh_op(torch::rand({}), weights, 0),
                      ContainsSubstring("weigh: losses must be per sample"));
  REQUIRE_THROWS_AS(weigh_op(torch::ones({4}, torch::kInt64), weights, 0), c10::TypeError);
  REQUIRE_THROWS_WITH(weigh_op(losses, torch::ones({5}), 0),
                      ContainsSubstring("weigh: weights must be [4], got [5]"));
  REQUIRE_THROWS_WITH(weigh_op(losses, weights.to(torch::kDouble), 0),
                      ContainsSubstring("weigh: weights must be float32, got Double"));
  REQUIRE_THROWS_WITH(weigh_op(losses, weights, 4), ContainsSubstring("got 4"));
  REQUIRE_THROWS_WITH(weigh_op(losses, weights, -1), ContainsSubstring("got -1"));
  REQUIRE_THROWS_WITH(scale(torch::rand({4, 2}), torch::ones({3})),
                      ContainsSubstring("scale_gradient: weights must be [4], got [3]"));
  REQUIRE_THROWS_AS(scale(torch::ones({4}, torch::kInt64), weights), c10::TypeError);
  torch::Tensor scores = torch::zeros({4});
  for (const std::int64_t position : {std::int64_t{-1}, std::int64_t{1}, INT64_MAX}) {
    REQUIRE_THROWS_WITH(observe(scores, losses, position),
                        ContainsSubstring("observe_: position must be in [0, 4 - 4]"));
  }
  torch::Tensor strided = torch::zeros({8}).slice(0, 0, 8, 2);
  REQUIRE_THROWS_WITH(observe(strided, losses, 0), ContainsSubstring("contiguous vector"));
  torch::Tensor wide = torch::zeros({4}, torch::kDouble);
  REQUIRE_THROWS_AS(observe(wide, losses, 0), c10::TypeError);
  REQUIRE_THROWS_WITH(
      observe(scores, torch::empty({4}, torch::kMeta), 0),
      ContainsSubstring("observe_: scores must be on meta") && ContainsSubstring("got cpu"));
  const torch::Tensor sparse = torch::ones({4}).to_sparse();
  REQUIRE_THROWS_WITH(weigh(sparse, weights), ContainsSubstring("weigh: losses must be dense"));
  REQUIRE_THROWS_WITH(weigh(losses, sparse), ContainsSubstring("weights must be dense"));
  REQUIRE_THROWS_WITH(scale_gradient(sparse, weights),
                      ContainsSubstring("scale_gradient: x must be dense"));
  REQUIRE(torch::equal(scores, torch::zeros({4})));
}

TEST_CASE("an undefined tensor is refused by the name of function and argument",
          "[samplers][ops]") {
  const torch::Tensor good = torch::rand({4});
  torch::Tensor scores = torch::zeros({4});
  torch::Tensor none;
  REQUIRE_THROWS_WITH(observe_(scores, none), ContainsSubstring("observe_: losses must be"));
  REQUIRE_THROWS_WITH(observe_(none, good), ContainsSubstring("observe_: scores must be"));
  REQUIRE_THROWS_WITH(weigh(none, good), ContainsSubstring("weigh: losses must be"));
  REQUIRE_THROWS_WITH(weigh(good, none), ContainsSubstring("weigh: weights must be"));
  REQUIRE_THROWS_WITH(scale_gradient(none, good), ContainsSubstring("scale_gradient: x must be"));
  REQUIRE_THROWS_WITH(scale_gradient(good, none),
                      ContainsSubstring("scale_gradient: weights must be"));
}

TEST_CASE("observe_ reads losses that lie in the scores before it writes", "[samplers][ops]") {
  torch::Tensor scores = torch::arange(8, torch::kFloat);
  observe_(scores, scores.slice(0, 0, 6), 2);
  REQUIRE(torch::equal(scores, torch::tensor({0.0F, 1.0F, 0.0F, 1.0F, 2.0F, 3.0F, 4.0F, 5.0F})));
}

}  // namespace
}  // namespace infobatch::testing
