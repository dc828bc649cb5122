// The values and gradients of `update`, and what it must leave alone.

#include <tests/samplers/toy.hpp>

#include <cfenv>
#include <cmath>

namespace infobatch::testing {
namespace {

/// A run in epoch 1, whose plan has weights 1 and 2, with `count` samples delivered.
struct Handed {
  explicit Handed(std::int64_t count, std::int64_t size = 200) : ib(size, Options(10).seed(7)) {
    run_epoch(ib);
    InfoBatchSampler sampler = ib.sampler();
    sampler.reset();
    REQUIRE(sampler.next(static_cast<std::size_t>(count))->size() ==
            static_cast<std::size_t>(count));
    weights = torch::from_blob(const_cast<float*>(ib.plan()->weights()), {count}).clone();
    REQUIRE((weights == 1.0F).any().item<bool>());
    REQUIRE((weights == 2.0F).any().item<bool>());
  }
  InfoBatch ib;
  torch::Tensor weights;
};

TEST_CASE("a loss whose sign torch only keeps in mind is recorded with it", "[samplers][update]") {
  const torch::Tensor losses = torch::rand({12}) + 0.5F;
  const torch::Tensor lazy = at::_neg_view(-losses);
  REQUIRE(lazy.is_neg());
  Handed plain(12);
  Handed signs(12);
  const torch::Tensor expected = plain.ib.update(losses);
  REQUIRE(torch::equal(signs.ib.update(lazy), expected));
  REQUIRE(signs.ib.session()->serialize() == plain.ib.session()->serialize());
}

/// What `update` stands for, in plain tensor operations.
torch::Tensor expected(const torch::Tensor& losses, const torch::Tensor& weights, Reduction how) {
  const auto dtype = losses.scalar_type() == torch::kDouble ? torch::kDouble : torch::kFloat;
  std::vector<std::int64_t> shape(static_cast<std::size_t>(losses.dim()), 1);
  shape[0] = weights.size(0);
  const torch::Tensor w = weights.to(dtype).view(shape).expand(losses.sizes());
  const torch::Tensor weighted = losses.to(dtype) * w;
  if (how == Reduction::kMean) return weighted.mean();
  if (how == Reduction::kSum) return weighted.sum();
  if (how == Reduction::kWeightedMean) return weighted.sum() / w.sum();
  return weighted;
}

TEST_CASE("rule 6: every reduction equals its plain expression, in value and gradient",
          "[samplers][update]") {
  const auto how =
      GENERATE(Reduction::kMean, Reduction::kSum, Reduction::kNone, Reduction::kWeightedMean);
  const auto dtype = GENERATE(torch::kHalf, torch::kBFloat16, torch::kFloat, torch::kDouble);
  const int dims = GENERATE(1, 2, 3);
  const bool strided = GENERATE(false, true);
  const bool by_ids = GENERATE(false, true);
  CAPTURE(static_cast<int>(how), dtype, dims, strided, by_ids);
  Handed run(24);
  std::vector<std::int64_t> shape{24, 3, 2};
  shape.resize(static_cast<std::size_t>(dims));
  torch::Tensor source = torch::arange(1, 24 * 6 + 1, torch::kDouble).slice(0, 0, -1).cos();
  std::int64_t numel = 1;
  for (const std::int64_t extent : shape) numel *= extent;
  source = (torch::arange(numel, torch::kDouble).sin() + 1.5).view(shape).to(dtype);
  const auto make = [&] { return source.clone().requires_grad_(); };
  const auto view = [&](const torch::Tensor& leaf) {
    return strided ? leaf.repeat_interleave(2, 0).slice(0, 0, 48, 2) : leaf;
  };

  torch::Tensor mine = make();
  torch::Tensor plain = make();
  const torch::Tensor losses = view(mine);
  REQUIRE(losses.is_contiguous() != strided);
  torch::Tensor ids;
  if (by_ids) {
    ids = torch::from_blob(const_cast<std::int64_t*>(run.ib.plan()->ids()), {24}, torch::kInt64)
              .clone();
  }
  const torch::Tensor loss = run.ib.update(losses, ids, {}, how);
  const torch::Tensor wanted = expected(view(plain), run.weights, how);
  REQUIRE(loss.scalar_type() == wanted.scalar_type());
  REQUIRE(loss.sizes() == wanted.sizes());
  const double tolerance = dtype == torch::kDouble ? 1e-6 : 1e-5;  // weights are float32
  REQUIRE(torch::allclose(loss, wanted, tolerance));
  const torch::Tensor direction = wanted.detach().cos();
  loss.backward(direction);
  wanted.backward(direction);
  REQUIRE(mine.grad().scalar_type() == dtype);
  const double grad_tolerance = dtype == torch::kHalf       ? 2e-3
                                : dtype == torch::kBFloat16 ? 1e-2
                                                            : tolerance;
  REQUIRE(torch::allclose(mine.grad(), plain.grad(), grad_tolerance, 1e-7));
}

TEST_CASE("the gradient of update agrees with differences, and so does the second",
          "[samplers][update]") {
  const auto how = GENERATE(Reduction::kMean, Reduction::kSum, Reduction::kWeightedMean);
  Handed run(8);
  const torch::Tensor weights = run.weights;
  const auto f = [&](const torch::Tensor& x) { return weigh(x.pow(3), weights, how); };
  torch::Tensor x = torch::linspace(0.5, 2.0, 8, torch::kDouble).requires_grad_();
  const torch::Tensor first = torch::autograd::grad({f(x)}, {x}, {}, true, true)[0];
  const torch::Tensor second = torch::autograd::grad({first.sum()}, {x})[0];
  const double step = 1e-5;
  for (std::int64_t i = 0; i < 8; ++i) {
    torch::Tensor up = x.detach().clone();
    torch::Tensor down = x.detach().clone();
    up[i] += step;
    down[i] -= step;
    const double slope = (f(up) - f(down)).item<double>() / (2 * step);
    REQUIRE(std::abs(slope - first[i].item<double>()) < 1e-7);
    const double bend = (f(up) + f(down) - 2 * f(x.detach())).item<double>() / (step * step);
    REQUIRE(std::abs(bend - second[i].item<double>()) < 1e-3);
  }
}

TEST_CASE("a weighted sum of weighted losses can be differentiated twice through kNone",
          "[samplers][update]") {
  Handed run(8);
  torch::Tensor x = torch::linspace(0.5, 2.0, 8).requires_grad_();
  const torch::Tensor rows = run.ib.update(x.square(), Reduction::kNone);
  const torch::Tensor first = torch::autograd::grad({rows.square().sum()}, {x}, {}, true, true)[0];
  const torch::Tensor second = torch::autograd::grad({first.sum()}, {x})[0];
  const torch::Tensor w2 = run.weights.square();
  REQUIRE(torch::allclose(first, 4 * w2 * x.pow(3), 1e-5));
  REQUIRE(torch::allclose(second, 12 * w2 * x.square(), 1e-5));
}

TEST_CASE("defect 6: the caller's losses are never modified, whatever produced them",
          "[samplers][update]") {
  const std::string producer = GENERATE("exp", "sqrt", "tanh", "sigmoid", "leaf");
  Handed run(32);
  torch::Tensor x = torch::linspace(0.1, 3.0, 32).requires_grad_();
  torch::Tensor plain = x.detach().clone().requires_grad_();
  const auto produce = [&](const torch::Tensor& in) {
    if (producer == "exp") return in.exp();
    if (producer == "sqrt") return in.sqrt();
    if (producer == "tanh") return in.tanh();
    if (producer == "sigmoid") return in.sigmoid();
    return in;
  };
  torch::Tensor losses = produce(x);
  const torch::Tensor before = losses.detach().clone();
  const auto version = losses._version();
  torch::Tensor loss = run.ib.update(losses);
  REQUIRE(torch::equal(losses.detach(), before));
  REQUIRE(losses._version() == version);
  REQUIRE_FALSE(loss.is_alias_of(losses));
  loss.backward();  // exp and sqrt need their own, unmodified result
  (produce(plain) * run.weights).mean().backward();
  REQUIRE(torch::allclose(x.grad(), plain.grad(), 1e-5));
}

TEST_CASE("kNone returns new memory also where every weight is 1", "[samplers][update]") {
  InfoBatch ib(16, Options(4).seed(1));
  InfoBatchSampler sampler = ib.sampler();
  sampler.reset();
  sampler.next(16);
  const torch::Tensor losses = torch::rand({16});
  torch::Tensor rows = ib.update(losses, Reduction::kNone);
  REQUIRE(torch::equal(rows, losses));
  REQUIRE_FALSE(rows.is_alias_of(losses));
}

TEST_CASE("rule 9: a graph of an earlier epoch, or of a destroyed run, still has its weights",
          "[samplers][update]") {
  torch::Tensor x = torch::rand({40}).requires_grad_();
  torch::Tensor loss;
  torch::Tensor weights;
  {
    Handed run(40);
    weights = run.weights;
    loss = run.ib.update(x.exp(), Reduction::kSum);
    const auto session = run.ib.session();
    run.ib.discard_epoch();
    for (int epoch = 0; epoch < 4; ++epoch) run_epoch(run.ib);  // other plans, recycled memory
  }
  loss.backward();
  REQUIRE(torch::allclose(x.grad(), weights * x.detach().exp(), 1e-5));
}

TEST_CASE("writing to the weights that observe returned does not touch the frozen plan",
          "[samplers][update]") {
  Handed run(10);
  torch::Tensor weights = run.ib.observe(torch::rand({10}));
  REQUIRE(torch::equal(weights, run.weights));
  weights.fill_(99.0F);
  REQUIRE(bits(run.weights) ==
          bits(torch::from_blob(const_cast<float*>(run.ib.plan()->weights()), {10})));
}

TEST_CASE("rule 6: half-precision losses are weighted and summed in float32 or wider",
          "[samplers][update]") {
  const auto dtype = GENERATE(torch::kHalf, torch::kBFloat16);
  InfoBatch ib(4096, Options(4).seed(1));
  InfoBatchSampler sampler = ib.sampler();
  sampler.reset();
  sampler.next(4096);
  const torch::Tensor losses = torch::full({4096}, 100.0F).to(dtype);  // sum: 409600 > 65504
  const torch::Tensor loss = ib.update(losses, Reduction::kSum);
  REQUIRE(loss.scalar_type() == torch::kFloat);
  REQUIRE(loss.item<float>() == 409600.0F);
}

TEST_CASE("update works without gradients, in inference mode and under autocast",
          "[samplers][update]") {
  Handed run(30);
  {
    const torch::NoGradGuard no_grad;
    REQUIRE_FALSE(run.ib.update(torch::rand({10}).requires_grad_()).requires_grad());
  }
  {
    const c10::InferenceMode inference;
    REQUIRE(run.ib.update(torch::ones({10}), Reduction::kSum).item<float>() ==
            run.weights.slice(0, 10, 20).sum().item<float>());
  }
  REQUIRE_FALSE(run.ib.update(torch::rand({10})).requires_grad());
}

TEST_CASE("scores= are recorded instead of the losses", "[samplers][update]") {
  InfoBatch ib(4, Options(4).seed(1));
  InfoBatchSampler sampler = ib.sampler();
  sampler.reset();
  const auto ids = sampler.next(4).value();
  const torch::Tensor losses = torch::rand({4, 5}).requires_grad_();
  const torch::Tensor scores = torch::tensor({4.0, 3.0, 2.0, 1.0}, torch::kDouble);
  const torch::Tensor loss = ib.update(losses, {}, scores);
  REQUIRE(torch::allclose(loss, losses.mean()));
  ib.size();
  for (std::size_t i = 0; i < 4; ++i) {
    REQUIRE(ib.session()->scores()[ids[i]] == 4.0F - static_cast<float>(i));
  }
}

TEST_CASE("rule 2: scores of [B, T] and half-precision losses do not depend on the rounding mode",
          "[samplers][update]") {
  const torch::Tensor rows = torch::rand({8, 37}, torch::kDouble);
  const torch::Tensor half = torch::rand({8}).to(torch::kBFloat16);
  const auto scores_of = [](const torch::Tensor& losses, int mode) {
    InfoBatch ib(8, Options(3).seed(1));
    InfoBatchSampler sampler = ib.sampler();
    sampler.reset();
    sampler.next(8);
    std::fesetround(mode);
    ib.update(losses);
    std::fesetround(FE_TONEAREST);
    ib.set_epoch(1);
    const float* scores = ib.session()->scores();
    return std::vector<float>(scores, scores + 8);
  };
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    REQUIRE(scores_of(rows, mode) == scores_of(rows, FE_TONEAREST));
    REQUIRE(scores_of(half, mode) == scores_of(half, FE_TONEAREST));
  }
}

}  // namespace
}  // namespace infobatch::testing
