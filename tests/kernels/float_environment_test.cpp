#include <infobatch/config.hpp>
#include <infobatch/detail/backend.hpp>
#include <infobatch/detail/float_environment.hpp>
#include <infobatch/detail/owned_plan.hpp>
#include <infobatch/detail/plan_builder.hpp>
#include <infobatch/detail/planner.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/detail/threads.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cfenv>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

// Programs that run with denormal numbers flushed to zero, or with another rounding mode, get the
// plans that everybody gets, and keep their environment.

namespace infobatch::testing {
namespace {

/// Everything of the environment that can be looked at.
struct Environment {
  int rounding = std::fegetround();
  int flags = std::fetestexcept(FE_ALL_EXCEPT);
#if defined(__SSE__)
  unsigned control = _mm_getcsr();
#endif
};

bool operator==(const Environment& a, const Environment& b) {
#if defined(__SSE__)
  if (a.control != b.control) return false;
#endif
  return a.rounding == b.rounding && a.flags == b.flags;
}

struct Setting {
  std::string name;
  std::function<void()> set;
};

std::vector<Setting> settings() {
  std::vector<Setting> all = {{"upward", [] { std::fesetround(FE_UPWARD); }},
                              {"downward", [] { std::fesetround(FE_DOWNWARD); }},
                              {"toward zero", [] { std::fesetround(FE_TOWARDZERO); }},
                              {"a flag", [] { std::feraiseexcept(FE_OVERFLOW | FE_INVALID); }}};
#if defined(__SSE__)
  all.push_back({"flush to zero", [] { _mm_setcsr(_mm_getcsr() | 0x8040u); }});
  all.push_back({"flush to zero, upward", [] {
                   std::fesetround(FE_UPWARD);
                   _mm_setcsr(_mm_getcsr() | 0x8040u);
                 }});
#endif
#if defined(__GLIBC__) && defined(__SSE__)
  all.push_back({"traps", [] { feenableexcept(FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW); }});
#endif
  return all;
}

/// What `work` returns in that environment; `kept`: the environment is behind it as before.
template <typename Work>
auto in_environment(const Setting& setting, bool& kept, const Work& work) {
  std::fenv_t usual;
  std::fegetenv(&usual);
  setting.set();
  const Environment before;
  auto result = work();
  kept = before == Environment();
  std::fesetenv(&usual);
  return result;
}

/// A plan and the figures behind it, to the bit.
struct Planned {
  PlanCopy plan;
  std::uint64_t mean;
  std::uint64_t scale;
  std::uint32_t threshold;

  bool operator==(const Planned& other) const {
    return plan == other.plan && mean == other.mean && scale == other.scale &&
           threshold == other.threshold;
  }
};

std::uint64_t bits_of(double value) {
  std::uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

Planned planned(const Config& config, const std::vector<float>& scores, int threads) {
  const auto size = static_cast<std::int64_t>(scores.size());
  const Policy& policy = *find_policy(config.policy);
  const std::vector<const float*> columns(std::size_t(policy.card.columns.size), scores.data());
  const detail::PlanRequest request{config,
                                    policy,
                                    2,
                                    size,
                                    scores.data(),
                                    columns.data(),
                                    {},
                                    nullptr,
                                    RunSoFar{size / 7},
                                    nullptr,
                                    threads,
                                    detail::cpu_backend()};
  detail::PlannedEpoch epoch = detail::plan_epoch(request, PlanArrays{});
  Team team(threads);
  return {copy_of(epoch.plan.lend()),
          bits_of(epoch.statistics.mean_score),
          bits_of(epoch.choice.scale),
          float_bits(sum_scores(scores.data(), size, team).threshold())};
}

/// Denormal scores of a few units; 3e38 beside 1e-45, so that the mean lies far from all of them;
/// losses as they occur, with denormal and never observed ones in between.
std::vector<std::vector<float>> tables(std::size_t size) {
  std::vector<std::vector<float>> all(3, std::vector<float>(size));
  for (std::size_t i = 0; i < size; ++i) {
    const double u = uniform(i, 5);
    all[0][i] = bits_float(static_cast<std::uint32_t>(1 + 40 * u));
    all[1][i] = i % 1000 == 17 ? 3e38f : bits_float(static_cast<std::uint32_t>(i % 3));
    all[2][i] = i % 11 == 3   ? never_observed()
                : i % 11 == 4 ? bits_float(0x007fffffu - static_cast<std::uint32_t>(i % 1000))
                              : static_cast<float>(u * u * 3.0);
  }
  return all;
}

std::vector<Config> configs() {
  std::vector<Config> all(4, config_of(10, 0.37));
  all[1].keep = "exact";
  all[2].policy = "infobatch_quantile";
  all[3].target_saved = 0.2137;
  return all;
}

}  // namespace

TEST_CASE("no rounding mode and no flushing to zero changes a plan", "[kernels][float]") {
  for (const int threads : {1, 2}) {
    const std::int64_t size = threads == 1 ? 6000 : 2 * kSamplesPerThread + 321;
    for (const std::vector<float>& scores : tables(static_cast<std::size_t>(size))) {
      for (const Config& config : configs()) {
        const Planned expected = planned(config, scores, threads);
        REQUIRE(planned(config, scores, 1) == expected);
        for (const Setting& setting : settings()) {
          CAPTURE(size, scores[0], config.to_json(), setting.name);
          bool kept = false;
          const Planned found =
              in_environment(setting, kept, [&] { return planned(config, scores, threads); });
          REQUIRE((found == expected));
          REQUIRE(kept);
        }
      }
    }
  }
}

TEST_CASE("every thread of a team works in the default environment", "[kernels][float][threads]") {
  for (const int threads : {1, 3}) {
    for (const Setting& setting : settings()) {
      CAPTURE(threads, setting.name);
      bool kept = false;
      const std::vector<Environment> seen = in_environment(setting, kept, [&] {
        Team team(threads);
        std::vector<Environment> environments(static_cast<std::size_t>(threads));
        team.run([&](int t) { environments[static_cast<std::size_t>(t)] = Environment(); });
        return environments;
      });
      REQUIRE(kept);
      for (const Environment& environment : seen) {
        REQUIRE(environment.rounding == FE_TONEAREST);
        REQUIRE(environment.flags == 0);
#if defined(__SSE__)
        REQUIRE(environment.control == 0x1f80u);
#endif
      }
    }
  }
}

TEST_CASE("a plan without a session, too, is made in the default environment", "[kernels][float]") {
  EpochRule rule;
  rule.classes = {{1.0, true}, {0.37, true}};
  rule.mode = KeepMode::kExact;
  std::vector<std::uint8_t> table(5000, 0);
  for (std::size_t i = 0; i < table.size(); i += 3) table[i] = 1;
  rule.classifier = Classifier::of_table(table.data());
  const auto made = [&] {
    PlanArrays arrays = detail::Workers(5000, 1).plan({5000, 3, 4, rule}, {});
    return copy_of(PlanRef(new detail::OwnedPlan(4, 5000, std::move(arrays))));
  };
  const PlanCopy expected = made();
  for (const Setting& setting : settings()) {
    CAPTURE(setting.name);
    bool kept = false;
    REQUIRE((in_environment(setting, kept, made) == expected));
    REQUIRE(kept);
  }
}

TEST_CASE("numbers of a config are read as everywhere", "[kernels][float]") {
  Config config = config_of(10, 0.1);
  config.delta = 0.7;
  config.target_saved = 0.3;
  for (const Setting& setting : settings()) {
    CAPTURE(setting.name);
    bool kept = false;
    const Config found =
        in_environment(setting, kept, [&] { return Config::from_json(config.to_json()); });
    REQUIRE(bits_of(found.prune_ratio) == bits_of(config.prune_ratio));
    REQUIRE(bits_of(found.delta) == bits_of(config.delta));
    REQUIRE(found == config);
    REQUIRE(kept);
  }
}

TEST_CASE("the default environment ends with the object", "[kernels][float]") {
  for (const Setting& setting : settings()) {
    CAPTURE(setting.name);
    bool kept = false;
    const Environment inside = in_environment(setting, kept, [] {
      const detail::DefaultFloatEnvironment environment;
      const detail::DefaultFloatEnvironment nested;
      std::fesetround(FE_UPWARD);
      std::feraiseexcept(FE_INEXACT);
      return Environment();
    });
    REQUIRE(inside.rounding == FE_UPWARD);
    REQUIRE(kept);
  }
}

TEST_CASE("rule 2: a healthy state loads, and plans go on, in whatever environment",
          "[kernels][float]") {
  Config config = config_of(8, 0.37);
  config.score_ema = 0.3;
  Session session(400, config, 1);
  run_epoch(session, 50);
  session.begin();
  std::vector<float> losses;  // made here: the model of the test rounds, too
  for (std::int64_t id = 0; id < 400; ++id) losses.push_back(simulated_loss(id, 1));
  const auto loss = [&](std::int64_t id) { return losses[static_cast<std::size_t>(id)]; };
  run_batches(session, 50, loss, 3);
  const std::string state = session.serialize();
  const auto rest = [&](Session& one) {
    one.begin();
    PlanCopy seen = run_batches(one, 50, loss);
    const PlanCopy next = run_epoch(one, 50, loss);
    seen.ids.insert(seen.ids.end(), next.ids.begin(), next.ids.end());
    return seen;
  };
  Session usual(400, config, 1);
  usual.deserialize(state);
  const PlanCopy expected = rest(usual);
  for (const int mode : {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    Session other(400, config, 1);
    std::fesetround(mode);
    std::string refused;
    PlanCopy seen;
    try {
      other.deserialize(state);
      seen = rest(other);
    } catch (const std::exception& error) {
      refused = error.what();
    }
    std::fesetround(FE_TONEAREST);
    CAPTURE(mode);
    REQUIRE(refused.empty());
    REQUIRE(seen.ids == expected.ids);
  }
}

}  // namespace infobatch::testing
