#include <infobatch/detail/limits.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

// Rule 13: what is refused, in which words, and that nothing changes.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// The message of the InvalidArgument that `call` throws.
std::string refusal(const std::function<void()>& call) { return message_of<InvalidArgument>(call); }

struct BadConfig {
  std::function<void(Config&)> spoil;
  std::string message;
};

}  // namespace

TEST_CASE("rule 13: every broken option is refused with its name, its rule and its value",
          "[engine][input]") {
  const std::vector<BadConfig> table = {
      {[](Config& c) { c.epochs = 0; }, "epochs must be in [1, 4294967295], got 0"},
      {[](Config& c) { c.epochs = -3; }, "got -3"},
      {[](Config& c) { c.epochs = kMaxEpochs + 1; }, "got 4294967296"},
      {[](Config& c) { c.prune_ratio = -0.1; }, "prune_ratio must be in [0, 1), got -0.1"},
      {[](Config& c) { c.prune_ratio = 1.0; }, "prune_ratio must be in [0, 1), got 1"},
      {[](Config& c) { c.prune_ratio = 1.0 - 1e-12; }, "prune_ratio"},
      {[](Config& c) { c.prune_ratio = kNan; }, "prune_ratio must be in [0, 1), got nan"},
      {[](Config& c) { c.delta = 0.0; }, "delta must be in (0, 1], got 0"},
      {[](Config& c) { c.delta = 1.5; }, "delta must be in (0, 1], got 1.5"},
      {[](Config& c) { c.delta = kNan; }, "delta"},
      {[](Config& c) { c.warmup = 0; }, "warmup must be in [1, 4294967295], got 0"},
      {[](Config& c) { c.policy = "best"; },
       "policy must be one of full, random, infobatch, infobatch_quantile, ucb, orderdp; got "
       "\"best\""},
      {[](Config& c) { c.keep = "some"; }, "keep must be one of bernoulli, exact; got \"some\""},
      {[](Config& c) { c.score_ema = 1.0; }, "score_ema must be in [0, 1), got 1"},
      {[](Config& c) { c.score_ema = kNan; }, "score_ema"},
      {[](Config& c) { c.max_prune_ratio = 1.0; }, "max_prune_ratio must be in (0, 1), got 1"},
      {[](Config& c) { c.target_saved = 1.0; }, "target_saved must be in [0, 1), got 1"},
      {[](Config& c) { c.target_saved = -0.5; }, "target_saved must be in [0, 1), got -0.5"},
      {[](Config& c) {
         c.quantiles = {};
         c.quantile_keep = {};
       },
       "1 to 14 values, got 0"},
      {[](Config& c) {
         c.quantiles = {0.5, 0.5};
       },
       "quantiles must increase, got 0.5 after 0.5"},
      {[](Config& c) {
         c.quantiles = {0.5, 1.0};
       },
       "quantiles must be in (0, 1), got 1"},
      {[](Config& c) {
         c.quantiles = {0.5, 1.0 - 1e-12};
       },
       "quantiles must be in (0, 1), got 0.99"},
      {[](Config& c) {
         c.quantiles = {1e-12, 0.5};
       },
       "quantiles must be in (0, 1), got 1e-12, which is 0 billionths"},
      {[](Config& c) {
         c.quantiles = {kNan, 0.9};
       },
       "quantiles must be in (0, 1), got nan"},
      {[](Config& c) { c.quantile_keep = {0.5}; }, "one value per quantile, got 1 for 2"},
      {[](Config& c) {
         c.quantile_keep = {0.0, 0.5};
       },
       "quantile_keep must be in [1e-09, 1], got 0"},
      {[](Config& c) {
         c.quantile_keep = {0.5, 1.5};
       },
       "got 1.5"},
  };
  for (const BadConfig& row : table) {
    Config config = config_of(100);
    row.spoil(config);
    REQUIRE(config.problems().size() == 1);
    REQUIRE_THAT(refusal([&] { config.validate(); }), ContainsSubstring("Config: "));
    REQUIRE_THAT(refusal([&] { config.validate(); }), ContainsSubstring(row.message));
    REQUIRE_THAT(refusal([&] { Session session(10, config, 1); }), ContainsSubstring("Session: "));
    REQUIRE_THAT(refusal([&] { Session session(10, config, 1); }), ContainsSubstring(row.message));
  }
  REQUIRE(config_of(100).problems().empty());
}

TEST_CASE("rule 13: all problems are listed at once", "[engine][input]") {
  Config config = config_of(0, 2.0);
  config.delta = -1.0;
  config.keep = "maybe";
  const std::string text = refusal([&] { Session session(-5, config, -2); });
  for (const char* part : {"size must be in [0, 2147483648], got -5",
                           "threads must be at least 0, got -2",
                           "epochs must be in",
                           "prune_ratio must be in",
                           "delta must be in",
                           "got \"maybe\""}) {
    REQUIRE_THAT(text, ContainsSubstring(part));
  }
}

TEST_CASE("rule 13: sizes and epochs over the limit are refused before memory is asked for",
          "[engine][input]") {
  REQUIRE_THAT(
      refusal([] { Session session(kMaxSize + 1, config_of(10), 1); }),
      ContainsSubstring("size must be in [0, 2147483648], as many samples as 32 bits hold") &&
          ContainsSubstring("got 2147483649: split the data set by id range"));
  // Three classes take two bits of an item, fifteen four.
  Config config = config_of(10);
  config.policy = "infobatch_quantile";
  REQUIRE_THAT(refusal([&] { Session session((1LL << 30) + 1, config, 1); }),
               ContainsSubstring("size must be in [0, 1073741824]"));
  config.quantiles.assign(1, 0.0);
  for (int q = 1; q < 14; ++q) config.quantiles.push_back(q * 0.05);
  config.quantiles[0] = 0.01;
  config.quantile_keep.assign(14, 0.5);
  REQUIRE_THAT(refusal([&] { Session session((1LL << 28) + 1, config, 1); }),
               ContainsSubstring("size must be in [0, 268435456]"));
  REQUIRE_THAT(refusal([] { Session session(kMaxSize, config_of(kMaxEpochs), 1); }),
               ContainsSubstring("epochs * size must be at most 2^61"));
}

TEST_CASE("rule 13: a size whose plan the memory of this process cannot hold is refused in words",
          "[engine][input]") {
  const std::int64_t memory = detail::memory_limit().bytes;
  REQUIRE(memory > 100'000'000);
  const std::int64_t held = std::min(memory / 32, kMaxSize);
  REQUIRE(Session::problems(held, 0).empty());
  if (held >= kMaxSize) return;
  REQUIRE(Session::problems(held + 1, 0).size() == 1);
  REQUIRE_THAT(refusal([&] { Session session(kMaxSize, config_of(10), -1); }),
               ContainsSubstring("size must leave room for scores, plan and losses, 32 bytes a "
                                 "sample, in " +
                                 std::to_string(memory) + " bytes of memory (the limit of the ") &&
                   ContainsSubstring("got 2147483648") && ContainsSubstring("threads"));
}

TEST_CASE("rule 13: the last epoch that has a number can be saved, and none follows it",
          "[engine][input]") {
  Session session(20, config_of(10), 1);
  session.set_epoch(kMaxEpochs - 1);
  run_epoch(session, 20);
  run_epoch(session, 20);
  Session other(20, config_of(10), 1);
  REQUIRE(other.deserialize(session.serialize()).epoch == kMaxEpochs);
  REQUIRE_THROWS_WITH(session.begin(), ContainsSubstring("begin: epochs must be at most"));
  REQUIRE(session.epoch() == kMaxEpochs + 1);
  REQUIRE(session.plan()->epoch() == kMaxEpochs);
}

TEST_CASE("rule 13: bad calls are refused and change nothing", "[engine][input]") {
  Session session(100, config_of(10), 1);
  run_epoch(session, 32);
  session.begin();
  session.next(32);
  const std::vector<float> losses(32, 0.5f);
  session.observe(losses.data(), 16);
  const std::string before = session.serialize();
  float out[32] = {};
  const std::int64_t id = session.plan()->ids()[0];
  const struct {
    std::function<void()> call;
    const char* message;
  } table[] = {
      {[&] { session.next(0); }, "next: count must be at least 1, got 0"},
      {[&] { session.next(-7); }, "next: count must be at least 1, got -7"},
      {[&] { session.set_epoch(-1); }, "set_epoch: epoch must be in [0, 4294967295], got -1"},
      {[&] { session.set_epoch(kMaxEpochs + 1); }, "got 4294967296"},
      {[&] { session.observe(losses.data(), -1); }, "update: count must be at least 0, got -1"},
      {[&] { session.observe(nullptr, 4); }, "update: losses must not be null"},
      {[&] { session.update(losses.data(), 4, Reduction::kMean, nullptr); },
       "update: out must not be null"},
      {[&] { session.observe_ids(nullptr, &id, 1, out); }, "losses must not be null"},
      {[&] { session.observe_ids(losses.data(), nullptr, 1, out); }, "ids must not be null"},
      {[&] { session.observe_ids(losses.data(), &id, 1, nullptr); }, "weights must not be null"},
      {[&] { session.observe_ids(losses.data(), &id, -1, out); }, "got -1"},
      {[&] { session.max_steps(0); }, "max_steps: batch_size must be at least 1, got 0"},
  };
  for (const auto& row : table) {
    REQUIRE_THAT(refusal(row.call), ContainsSubstring(row.message));
    REQUIRE(session.serialize() == before);
  }
  // The run goes on as if nothing had been tried.
  session.observe(losses.data(), 16);
  REQUIRE(session.position() == 32);
}

TEST_CASE("rule 13: counts up to the largest integer do not overflow", "[engine][input]") {
  constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();
  Session session(100, config_of(10), 1);
  session.begin();
  REQUIRE(session.next(10).count == 10);
  const Slice rest = session.next(kLargest);
  REQUIRE(rest.begin == 10);
  REQUIRE(rest.count == 90);
  REQUIRE(session.next(kLargest).count == 0);
  const float loss = 0.0f;
  session.observe(&loss, 1);
  REQUIRE_THROWS_AS(session.observe(&loss, kLargest), StateError);
  REQUIRE(session.position() == 1);
  REQUIRE(session.max_steps(kLargest) == 10);
}
