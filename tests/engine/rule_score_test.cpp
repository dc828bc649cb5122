#include <infobatch/score.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <vector>

// Rules 1, 2, 3 and 10: scores, threshold, candidates, non-finite losses.

using namespace infobatch;
using namespace infobatch::testing;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

/// Figures of the epoch that follows one with these losses.
Statistics after(const std::vector<float>& losses) {
  Session session(static_cast<std::int64_t>(losses.size()), config_of(10), 1);
  const Warnings quiet(session);
  set_scores(session, losses);
  session.plan();
  return session.statistics();
}

}  // namespace

TEST_CASE("rule 1: the score is the last observed loss, raw and unweighted", "[engine][score]") {
  Session session(1000, config_of(10), 1);
  std::map<std::int64_t, float> last;
  std::int64_t weighted = 0;
  for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
    const PlanCopy seen = run_epoch(session, 64);
    for (std::size_t i = 0; i < seen.ids.size(); ++i) {
      last[seen.ids[i]] = simulated_loss(seen.ids[i], epoch);
      weighted += bits_float(seen.weights[i]) != 1.0f ? 1 : 0;
    }
  }
  REQUIRE(weighted > 100);
  session.set_epoch(4);
  for (const auto& [id, loss] : last) REQUIRE(float_bits(session.scores()[id]) == float_bits(loss));
}

TEST_CASE("rule 1: samples that an epoch does not see keep their score", "[engine][score]") {
  Session session(100, config_of(10), 1);
  session.begin();
  const PlanCopy seen = run_batches(
      session, 32, [](std::int64_t id) { return float(id); }, 2);
  session.set_epoch(1);
  std::vector<std::uint32_t> expected(100, kNeverObservedBits);
  for (const std::int64_t id : seen.ids)
    expected[static_cast<std::size_t>(id)] = float_bits(float(id));
  REQUIRE(score_bits(session) == expected);

  // A later epoch that sees other samples leaves these alone.
  session.begin();
  const PlanCopy more = run_batches(
      session, 10, [](std::int64_t id) { return -float(id); }, 3);
  session.set_epoch(2);
  for (const std::int64_t id : more.ids)
    expected[static_cast<std::size_t>(id)] = float_bits(-float(id));
  REQUIRE(score_bits(session) == expected);
}

TEST_CASE("rule 1: never observed is a reserved pattern that no loss becomes", "[engine][score]") {
  Session session(4, config_of(10), 1);
  const Warnings quiet(session);
  REQUIRE(score_bits(session) == std::vector<std::uint32_t>(4, kNeverObservedBits));
  // 3, the magic first score of the official code, is a loss like any other; so is zero. NaN losses
  // cannot smuggle in the pattern of "not seen in this epoch".
  set_scores(session, {3.0f, 0.0f, unseen(), -0.0f});
  REQUIRE(score_bits(session) ==
          std::vector<std::uint32_t>{float_bits(3.0f), 0u, kNeverObservedBits, 0x80000000u});
}

TEST_CASE("rule 1: with score_ema the score is a moving average of the losses", "[engine][score]") {
  Config config = config_of(10);
  config.score_ema = 0.75;
  Session session(3, config, 1);
  const Warnings quiet(session);
  const auto pass = [&](float a, float b, float c) {
    const std::vector<float> losses = {a, b, c};
    session.begin();
    for (Slice s = session.next(3); s.count > 0; s = session.next(3)) {
      session.observe(losses_of(s, [&](std::int64_t id) { return losses[size_t(id)]; }).data(),
                      s.count);
    }
    session.set_epoch(0);   // the same, full epoch again, so that every sample is seen
    session.set_epoch(20);  // past the end: full too
  };
  pass(4.0f, kNan, 1.0f);
  REQUIRE(session.scores()[0] == 4.0f);
  REQUIRE(float_bits(session.scores()[1]) == kNeverObservedBits);
  pass(8.0f, 2.0f, kInf);
  REQUIRE(session.scores()[0] == 4.0f * 0.75f + 8.0f * 0.25f);
  REQUIRE(session.scores()[1] == 2.0f);  // the first finite loss is taken as it is
  REQUIRE(float_bits(session.scores()[2]) == kNeverObservedBits);
}

TEST_CASE("rule 2: the threshold is the exact mean of the observed scores", "[engine][mean]") {
  REQUIRE(after({3e38f, 1e-45f, 1e-45f, 0.0f}).candidates == 3);
  REQUIRE(after({-1.0f, -2.0f, -3.0f}).candidates == 1);
  // The sum is 1e-45: a mean that loses it judges nobody but the negative one below.
  REQUIRE(after({1e38f, 1e-45f, -1e38f, 0.0f}).candidates == 2);
  REQUIRE(after({1e38f, -1e38f, 0.0f}).candidates == 1);
  // The mean is 1 + 2^-25, between two float32: a rounded one would leave the ones out.
  const float next = std::nextafter(1.0f, 2.0f);
  REQUIRE(after({1.0f, 1.0f, 1.0f, next}).candidates == 3);
  const Statistics figures = after({1.0f, 2.0f, kNan, 6.0f});
  REQUIRE(figures.observed == 3);
  REQUIRE(figures.mean_score == 3.0);
}

TEST_CASE("rule 2: all scores equal: nobody is below", "[engine][mean]") {
  const float value = GENERATE(0.1f, 1e-45f, 3e38f, -7.3f, 0.0f, 2.3025851f);
  const std::size_t size = GENERATE(1u, 3u, 64u, 1000u, 4097u);
  const Statistics figures = after(std::vector<float>(size, value));
  REQUIRE(figures.prunes);
  REQUIRE(figures.candidates == 0);
  REQUIRE(figures.pruned == 0);
}

TEST_CASE("rule 3: candidates are observed and strictly below, all others are kept with weight 1",
          "[engine][candidates]") {
  const std::int64_t size = 2000;
  Session session(size, config_of(10, 0.9), 1);
  session.begin();
  run_batches(
      session, 100, [](std::int64_t id) { return simulated_loss(id, 0); }, 15);
  session.set_epoch(1);
  double sum = 0.0;
  for (std::int64_t i = 0; i < size; ++i)
    sum += is_finite(session.scores()[i]) ? session.scores()[i] : 0.0;
  const double mean = sum / 1500.0;
  const PlanCopy plan = copy_of(session.plan());
  std::vector<float> weight(static_cast<std::size_t>(size), 0.0f);
  for (std::size_t p = 0; p < plan.ids.size(); ++p)
    weight[size_t(plan.ids[p])] = bits_float(plan.weights[p]);
  std::int64_t candidates = 0;
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    const float score = session.scores()[i];
    if (is_finite(score) && score < mean) {
      ++candidates;
      kept += weight[size_t(i)] > 0.0f ? 1 : 0;
      REQUIRE((weight[size_t(i)] == 0.0f || weight[size_t(i)] > 9.9f));
    } else {
      REQUIRE(weight[size_t(i)] == 1.0f);
    }
  }
  REQUIRE(session.statistics().candidates == candidates);
  REQUIRE(kept > 0);
  REQUIRE(kept < candidates / 2);
}

TEST_CASE("rule 3: no score yet: nothing is pruned", "[engine][candidates]") {
  const std::string policy = GENERATE("infobatch", "infobatch_quantile");
  Config config = config_of(10);
  config.policy = policy;
  Session session(100, config, 1);
  session.set_epoch(3);
  REQUIRE(session.length() == 100);
  REQUIRE_FALSE(session.statistics().prunes);
  for (const std::uint32_t bits : copy_of(session.plan()).weights)
    REQUIRE(bits == float_bits(1.0f));
}

TEST_CASE("rule 10: a non-finite loss makes its sample never observed, counted, warned of once",
          "[engine][nonfinite]") {
  Session session(8, config_of(20), 1);
  const Warnings warnings(session);
  set_scores(session, {0.1f, kNan, 0.1f, kInf, 0.1f, -kInf, 9.0f, 0.1f});
  REQUIRE(warnings.count("3 losses of epoch 0 were NaN or infinite") == 1);
  REQUIRE(session.statistics().non_finite_total == 3);
  const std::shared_ptr<const Plan> plan = session.plan();
  REQUIRE(session.statistics().observed == 5);
  REQUIRE(session.statistics().candidates == 4);  // pruning is neither off nor over everything
  std::vector<float> weight(8, 0.0f);
  for (std::int64_t p = 0; p < plan->size(); ++p)
    weight[size_t(plan->ids()[p])] = plan->weights()[p];
  for (const std::size_t id : {1u, 3u, 5u, 6u}) REQUIRE(weight[id] == 1.0f);

  // The next ones only show in the statistics; a finite loss makes the sample observed again.
  run_epoch(session, 8, [](std::int64_t id) { return id == 3 ? kNan : 0.5f; });
  REQUIRE(session.statistics().non_finite_epoch == 1);
  session.set_epoch(2);
  REQUIRE(warnings.all().size() == 1);
  REQUIRE(session.statistics().non_finite_total == 4);
  REQUIRE(session.scores()[1] == 0.5f);
  REQUIRE(float_bits(session.scores()[3]) == kNeverObservedBits);
}

TEST_CASE("rule 10: the warning comes at the boundary, and the returned loss is not masked",
          "[engine][nonfinite]") {
  Session session(4, config_of(20), 1);
  const Warnings warnings(session);
  session.begin();
  session.next(4);
  const std::vector<float> losses = {1.0f, kInf, 1.0f, 1.0f};
  float mean = 0.0f;
  session.update(losses.data(), 4, Reduction::kMean, &mean);
  REQUIRE(mean == kInf);
  REQUIRE(warnings.all().empty());
  session.begin();
  REQUIRE(warnings.all().size() == 1);
}

TEST_CASE("rule 10: a table without one finite loss prunes nothing", "[engine][nonfinite]") {
  const Statistics figures = after({kNan, kInf, -kInf});
  REQUIRE_FALSE(figures.prunes);
  REQUIRE(figures.kept == 3);
  REQUIRE(std::isnan(figures.mean_score));
}
