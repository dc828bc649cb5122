#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

// Rule 6: the reductions of `update`, and what is unbiased.

using namespace infobatch;
using namespace infobatch::testing;

namespace {

constexpr std::int64_t kSize = 500;

/// A session in its second epoch, with weights other than 1, and 40 samples delivered.
struct Prepared {
  Prepared() : session(kSize, config_of(10), 1) {
    run_epoch(session, 50);
    session.begin();
    slice = session.next(40);
    losses = losses_of(slice, [](std::int64_t id) { return simulated_loss(id, 1); });
    for (std::int64_t i = 0; i < 40; ++i) {
      const double w = slice.weights()[i];
      sum += w * double(losses[std::size_t(i)]);
      weights += w;
    }
  }

  Session session;
  Slice slice;
  std::vector<float> losses;
  double sum = 0.0;
  double weights = 0.0;
};

/// Gradients with respect to four parameters; they go with the loss, so that a bias shows.
std::array<double, 4> gradient(std::int64_t id) {
  const double loss = simulated_loss(id, 0);
  const auto key = static_cast<std::uint64_t>(id);
  return {loss, loss * (uniform(key, 900) - 0.2), 1.0 + uniform(key, 901), std::exp(-loss)};
}

/// |z| of the average over many plans of sum(w * g) against the sum of g over all samples, the
/// largest of the four parameters.
double deviation(Config config, bool force_weights_to_one) {
  constexpr std::int64_t kPlans = 1200;
  config.epochs = 4 * kPlans;
  config.delta = 1.0;
  Session session(kSize, config, 1);
  run_epoch(session, kSize, [](std::int64_t id) { return simulated_loss(id, 0); });
  std::array<double, 4> mean{};
  std::array<double, 4> square{};
  for (std::int64_t epoch = 1; epoch <= kPlans; ++epoch) {
    session.set_epoch(epoch);
    const std::shared_ptr<const Plan> plan = session.plan();
    std::array<double, 4> sum{};
    for (std::int64_t p = 0; p < plan->size(); ++p) {
      const double weight = force_weights_to_one ? 1.0 : double(plan->weights()[p]);
      const std::array<double, 4> g = gradient(plan->ids()[p]);
      for (std::size_t k = 0; k < 4; ++k) sum[k] += weight * g[k];
    }
    for (std::size_t k = 0; k < 4; ++k) {
      mean[k] += sum[k] / kPlans;
      square[k] += sum[k] * sum[k] / kPlans;
    }
  }
  std::array<double, 4> all{};
  for (std::int64_t id = 0; id < kSize; ++id) {
    for (std::size_t k = 0; k < 4; ++k) all[k] += gradient(id)[k];
  }
  double largest = 0.0;
  for (std::size_t k = 0; k < 4; ++k) {
    const double sigma = std::sqrt((square[k] - mean[k] * mean[k]) / kPlans);
    largest = std::max(largest, std::abs(mean[k] - all[k]) / sigma);
  }
  return largest;
}

// alpha = 1e-6 two-sided over 4 parameters (Bonferroni) and a standard deviation estimated from
// 2000 plans => |z| < 5.2.
constexpr double kLimit = 5.2;

}  // namespace

TEST_CASE("rule 6: mean divides the weighted sum by the batch size", "[engine][loss]") {
  Prepared p;
  float out = 0.0f;
  p.session.update(p.losses.data(), 40, Reduction::kMean, &out);
  REQUIRE(double(out) == Catch::Approx(p.sum / 40.0).epsilon(1e-6));
}

TEST_CASE("rule 6: sum, weighted_mean and none", "[engine][loss]") {
  Prepared p;
  float out = 0.0f;
  SECTION("sum") {
    p.session.update(p.losses.data(), 40, Reduction::kSum, &out);
    REQUIRE(double(out) == Catch::Approx(p.sum).epsilon(1e-6));
  }
  SECTION("weighted_mean divides by the sum of the weights") {
    REQUIRE(p.weights != 40.0);
    p.session.update(p.losses.data(), 40, Reduction::kWeightedMean, &out);
    REQUIRE(double(out) == Catch::Approx(p.sum / p.weights).epsilon(1e-6));
  }
  SECTION("none, also in place") {
    std::vector<float> each(40);
    const std::vector<float> before = p.losses;
    if (GENERATE(true, false)) {
      p.session.update(p.losses.data(), 40, Reduction::kNone, p.losses.data());
      each = p.losses;
    } else {
      p.session.update(p.losses.data(), 40, Reduction::kNone, each.data());
      REQUIRE(p.losses == before);
    }
    for (std::size_t i = 0; i < 40; ++i) REQUIRE(each[i] == p.slice.weights()[i] * before[i]);
    // What is recorded is the raw loss, wherever the result went.
    p.session.set_epoch(2);
    for (std::size_t i = 0; i < 40; ++i) {
      REQUIRE(p.session.scores()[p.slice.ids()[i]] == before[i]);
    }
  }
}

TEST_CASE("rule 6: sums are in float64, so a large batch loses nothing", "[engine][loss]") {
  constexpr std::int64_t kMany = 100001;
  Session session(kMany, config_of(3), 1);
  session.begin();
  session.next(kMany);
  std::vector<float> losses(kMany, 1e-4f);
  losses[0] = 3e8f;
  float out = 0.0f;
  session.update(losses.data(), kMany, Reduction::kSum, &out);
  REQUIRE(out == static_cast<float>(3e8 + 1e5 * double(1e-4f)));
}

TEST_CASE("rule 6: the caller's losses are never modified", "[engine][loss]") {
  Prepared p;
  const std::vector<float> before = p.losses;
  float out = 0.0f;
  p.session.update(p.losses.data(), 40, Reduction::kMean, &out);
  REQUIRE(p.losses == before);
}

TEST_CASE("rule 6: the mean of no losses is NaN and records nothing", "[engine][loss]") {
  Prepared p;
  float out = 0.0f;
  p.session.update(nullptr, 0, Reduction::kMean, &out);
  REQUIRE(std::isnan(out));
  REQUIRE(p.session.position() == 0);
}

// H0: E[sum over the plan of w * g] = sum over all samples of g, at fixed parameters.
TEST_CASE("rule 6: the expected weighted gradient of a plan is the full gradient",
          "[engine][loss][statistical]") {
  Config config = config_of(10, GENERATE(0.5, 0.9));
  config.policy = GENERATE("infobatch", "infobatch_quantile", "random");
  config.keep = GENERATE("bernoulli", "exact");
  CAPTURE(config.policy, config.keep, config.prune_ratio);
  REQUIRE(deviation(config, false) < kLimit);
}

TEST_CASE("rule 6: the test of unbiasedness notices weights forced to 1",
          "[engine][loss][statistical]") {
  Config config = config_of(10);
  config.policy = GENERATE("infobatch", "infobatch_quantile", "random");
  REQUIRE(deviation(config, true) > 10.0 * kLimit);
  config.rescale = false;
  REQUIRE(deviation(config, false) > 10.0 * kLimit);
}
