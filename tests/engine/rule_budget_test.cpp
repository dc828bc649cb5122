#include <infobatch/detail/budget.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

// Rule 14: a fixed budget of samples to save.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr std::int64_t kSize = 5000;

Config budget(const std::string& policy, const std::string& keep, double target) {
  Config config = config_of(40);
  config.policy = policy;
  config.keep = keep;
  config.target_saved = target;
  return config;
}

}  // namespace

// H0: what a run saves is the promise plus the Bernoulli noise of its last pruned epoch, because
// each epoch makes good what the ones before it missed: sigma <= sqrt(N) / 2 of E * N samples.
// alpha = 1e-6 two-sided => 4.89 sigma.
TEST_CASE("rule 14: a run saves the promised share", "[engine][budget][statistical]") {
  const std::string policy = GENERATE("random", "infobatch", "infobatch_quantile");
  const std::string keep = GENERATE("bernoulli", "exact");
  const double target = GENERATE(0.05, 0.3, 0.4);
  CAPTURE(policy, keep, target);
  Session session(kSize, budget(policy, keep, target), 1);
  const Warnings warnings(session);
  std::int64_t trained = 0;
  for (int epoch = 0; epoch < 40; ++epoch) {
    trained += static_cast<std::int64_t>(run_epoch(session, 500).ids.size());
    const Statistics figures = session.statistics();
    REQUIRE(figures.samples_planned == trained);
    REQUIRE(figures.samples_full == (epoch + 1) * kSize);
    REQUIRE(figures.promised_saved == target);
    REQUIRE(figures.actual_saved ==
            Catch::Approx(static_cast<double>(figures.samples_full - trained) / (40.0 * kSize)));
    // Ratios solved for stay within their bound, and move with the scores.
    if (figures.prunes) REQUIRE(figures.prune_ratio > 0.0);
    if (policy != "infobatch_quantile") REQUIRE(figures.prune_ratio <= 0.9);
  }
  const double saved = 1.0 - static_cast<double>(trained) / (40.0 * kSize);
  const double sigma = std::sqrt(double(kSize)) / 2.0 / (40.0 * kSize);
  REQUIRE(std::abs(saved - target) < 4.89 * sigma + 1.0 / kSize);
  REQUIRE(session.statistics().saved == Catch::Approx(saved));
  REQUIRE(warnings.all().empty());
}

TEST_CASE("rule 14: the ratio is solved for, not the one configured", "[engine][budget]") {
  Config config = budget("infobatch", "bernoulli", 0.2);
  config.prune_ratio = 0.0;
  Session session(kSize, config, 1);
  run_epoch(session, 500);
  run_epoch(session, 500);
  const Statistics figures = session.statistics();
  const double share = 0.2 * 40.0 / 34.0;  // of each of the pruned epochs 1 .. 34
  REQUIRE(figures.prune_ratio == Catch::Approx(share * kSize / double(figures.candidates)));
}

TEST_CASE("rule 14: a target of zero prunes nothing", "[engine][budget]") {
  Session session(kSize, budget("infobatch", "bernoulli", 0.0), 1);
  const Warnings warnings(session);
  for (int epoch = 0; epoch < 40; ++epoch) REQUIRE(run_epoch(session, 500).ids.size() == kSize);
  REQUIRE(warnings.all().empty());
}

TEST_CASE("rule 14: a share that cannot be reached is refused, with what can be",
          "[engine][budget]") {
  // 34 of 40 epochs prune, at most 0.9 of the samples each: 0.765.
  REQUIRE(budget("infobatch", "bernoulli", 0.765).problems().empty());
  REQUIRE_THROWS_WITH(Session(kSize, budget("infobatch", "bernoulli", 0.77), 1),
                      ContainsSubstring("target_saved must be at most 0.765") &&
                          ContainsSubstring("34 of 40 epochs") && ContainsSubstring("got 0.77"));
  REQUIRE_THROWS_AS(Session(kSize, budget("full", "bernoulli", 0.1), 1), InvalidArgument);
  Config config = budget("random", "bernoulli", 0.5);
  config.max_prune_ratio = 0.5;
  REQUIRE_THROWS_WITH(config.validate(), ContainsSubstring("max_prune_ratio 0.5"));
  config.epochs = 2;  // never prunes
  REQUIRE_THROWS_AS(config.validate(), InvalidArgument);
}

TEST_CASE("rule 14: exactly the share that can be reached is taken", "[engine][budget]") {
  Config config;
  config.epochs = 3;
  config.delta = 0.8;
  config.policy = "random";
  config.max_prune_ratio = 0.3;
  config.target_saved = 0.1;  // 0.3 of one epoch in three, which doubles make 0.0999...
  REQUIRE(config.problems().empty());
  config.target_saved = 0.100000002;
  REQUIRE(config.problems().size() == 1);
}

TEST_CASE("rule 14: a shortfall is reported and warned of once", "[engine][budget]") {
  // Only a fifth of the samples is below the mean, so r_max = 0.9 saves 0.18 of an epoch at most.
  Config config = budget("infobatch", "bernoulli", 0.5);
  config.delta = GENERATE(0.875, 1.0);
  Session session(kSize, config, 1);
  const Warnings warnings(session);
  for (int epoch = 0; epoch < 40; ++epoch) {
    run_epoch(session, 500, [](std::int64_t id) { return id < kSize / 5 ? 0.0f : 1.0f; });
    const Statistics figures = session.statistics();
    if (figures.prunes) REQUIRE(figures.prune_ratio == 0.9);
  }
  session.begin();
  REQUIRE(warnings.all().size() == 1);
  REQUIRE(warnings.count("target_saved: promised 0.5 of the run's samples, got 0.1") == 1);
  REQUIRE(warnings.count("max_prune_ratio = 0.9") == 1);
  REQUIRE(session.statistics().actual_saved < 0.19);
  REQUIRE(session.statistics().promised_saved == 0.5);
}

TEST_CASE("rule 14: a shortfall of a few samples is one, where chance has no part in it",
          "[engine][budget]") {
  // Nine tenths of 1800 candidates are 1620 of the 2000 samples, in each of 34 epochs.
  const bool reachable = GENERATE(false, true);
  Config config = budget("infobatch", "exact", (reachable ? 1620.0 : 1620.1) * 34.0 / 80000.0);
  Session session(2000, config, 1);
  const Warnings warnings(session);
  for (int epoch = 0; epoch < 40; ++epoch) {
    run_epoch(session, 500, [](std::int64_t id) { return id < 1800 ? 0.0f : 1.0f; });
  }
  CAPTURE(session.statistics().actual_saved);
  REQUIRE(warnings.all().size() == (reachable ? 0u : 1u));
}

TEST_CASE("rule 14: a run without candidates falls short, and says so", "[engine][budget]") {
  const std::string keep = GENERATE("bernoulli", "exact");
  Config config = config_of(3);
  config.keep = keep;
  config.target_saved = 0.02;
  Session session(1000, config, 1);
  const Warnings warnings(session);
  for (int epoch = 0; epoch < 3; ++epoch) {
    run_epoch(session, 100, [](std::int64_t) { return 1.0f; });  // nobody is below the mean
  }
  REQUIRE(session.statistics().actual_saved == 0.0);
  REQUIRE(warnings.count("target_saved: promised 0.02 of the run's samples, got 0") == 1);
}

TEST_CASE("rule 14: chance excuses a shortfall only where chance decides", "[engine][budget]") {
  const std::int64_t size = 2000;
  const auto short_by = [&](const char* keep, std::int64_t missing, bool limited) {
    const Config config = budget("infobatch", keep, 0.3);
    return falls_short(config, size, RunSoFar{promised_samples(config, size) - missing}, limited);
  };
  // 3 sqrt(2000) = 134 draws of the last pruned epoch.
  REQUIRE_FALSE(short_by("bernoulli", 134, false));
  REQUIRE(short_by("bernoulli", 136, false));
  REQUIRE(short_by("bernoulli", 1, true));
  REQUIRE_FALSE(short_by("bernoulli", 0, true));
  REQUIRE_FALSE(short_by("exact", 1, false));
  REQUIRE(short_by("exact", 2, false));
  REQUIRE(short_by("exact", 1, true));
}

TEST_CASE("rule 14: the ratio of the running epoch is in the state", "[engine][budget]") {
  Session session(kSize, budget("infobatch", "bernoulli", 0.3), 1);
  for (int epoch = 0; epoch < 3; ++epoch) run_epoch(session, 500);
  session.begin();
  session.next(500);
  const std::vector<float> losses(500, 0.1f);
  session.observe(losses.data(), 500);
  Session other(kSize, budget("infobatch", "bernoulli", 0.3), 1);
  other.deserialize(session.serialize());
  REQUIRE(other.statistics().prune_ratio == session.statistics().prune_ratio);
  REQUIRE(other.statistics().prune_ratio > 0.3);
  REQUIRE(other.statistics().actual_saved == session.statistics().actual_saved);
  session.discard_epoch();
  other.discard_epoch();
  for (int epoch = 3; epoch < 8; ++epoch) {
    REQUIRE(run_epoch(session, 500) == run_epoch(other, 500));
    REQUIRE(other.statistics().prune_ratio == session.statistics().prune_ratio);
  }
}

TEST_CASE("rule 14: what is left is spread over the pruned epochs that are left",
          "[engine][budget]") {
  Config config = config_of(10);
  config.target_saved = 0.35;
  REQUIRE(promised_samples(config, 1000) == 3500);
  REQUIRE(fraction_to_prune(config, 1000, 1, RunSoFar{0}) == Catch::Approx(0.5));  // epochs 1 .. 7
  REQUIRE(fraction_to_prune(config, 1000, 7, RunSoFar{3000}) == Catch::Approx(0.5));
  REQUIRE(fraction_to_prune(config, 1000, 7, RunSoFar{3500}) == 0.0);
  REQUIRE(fraction_to_prune(config, 1000, 7, RunSoFar{4000}) == 0.0);
  REQUIRE(fraction_to_prune(config, 1000, 8, RunSoFar{0}) == 0.0);
  REQUIRE(fraction_to_prune(config, 0, 1, RunSoFar{0}) == 0.0);
}
