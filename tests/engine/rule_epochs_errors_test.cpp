#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cmath>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

// Rule 15: what a loop gets wrong is refused or warned of, and how it is undone.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

const std::vector<float>& ones() {
  static const std::vector<float> losses(1000, 1.0f);
  return losses;
}

}  // namespace

TEST_CASE("rule 15: a second update on one batch raises at once and changes nothing",
          "[engine][epochs]") {
  Session session(100, config_of(8), 1);
  REQUIRE_THROWS_AS(session.observe(ones().data(), 1), StateError);  // nothing delivered
  session.begin();
  session.next(20);
  session.observe(ones().data(), 20);
  const std::string before = session.serialize();
  REQUIRE_THROWS_AS(session.observe(ones().data(), 20), StateError);
  REQUIRE_THROWS_WITH(
      session.observe(ones().data(), 20),
      ContainsSubstring("update: losses must belong to samples that were delivered") &&
          ContainsSubstring("got 20 losses for 0 such samples (epoch 0)") &&
          ContainsSubstring("a second update on one batch") &&
          ContainsSubstring("update(losses, ids)"));
  float out = 0.0f;
  REQUIRE_THROWS_AS(session.update(ones().data(), 20, Reduction::kMean, &out), StateError);
  REQUIRE(session.serialize() == before);
}

TEST_CASE("soundness: a skipped batch raises at the next delivery and names the cures",
          "[engine][epochs]") {
  Session session(100, config_of(8), 1);
  session.begin();
  session.next(25);
  session.observe(ones().data(), 25);
  session.next(25);  // this batch fails in the loop
  const std::string before = session.serialize();
  const std::string text = message_of<StateError>([&] { session.next(25); });
  for (const char* part : {"next: no more than 0 samples may be out",
                           "of epoch 0, got 25: a row or a batch was lost",
                           "update(losses, ids)",
                           "Indexed(dataset)",
                           "discard_epoch()",
                           "lookahead"}) {
    REQUIRE_THAT(text, ContainsSubstring(part));
  }
  REQUIRE(session.serialize() == before);
  REQUIRE_THROWS_AS(session.next(25), StateError);  // until something is done about it
  REQUIRE(session.epoch() == 0);

  SECTION("one cure: the epoch anew") {
    session.discard_epoch();
    REQUIRE(session.position() == 0);
    run_epoch(session, 25);
    REQUIRE(session.epoch() == 1);
  }
  SECTION("the boundary never raises; what was verified enters") {
    const std::shared_ptr<const Plan> plan = session.plan();
    session.begin();
    REQUIRE(session.epoch() == 1);
    for (std::int64_t p = 0; p < 100; ++p) {
      REQUIRE(is_finite(session.scores()[plan->ids()[p]]) == (p < 25));
    }
  }
}

TEST_CASE("soundness: losses that are missing in the midst of an epoch raise at once",
          "[engine][epochs]") {
  const std::int64_t size = GENERATE(256, 260);
  const std::int64_t lost = GENERATE(1, 4, 16, 63);
  CAPTURE(size, lost);
  Session session(size, config_of(8), 1);
  session.begin();
  session.next(64);
  session.observe(ones().data(), 64);
  session.next(64);
  REQUIRE_THROWS_WITH(session.observe(ones().data(), 64 - lost),
                      ContainsSubstring("whole, so 64 losses are pending, got"));
  REQUIRE(session.position() == 64);
  session.observe(ones().data(), 64);  // the call can be made again, as it should
  REQUIRE(session.position() == 128);
}

TEST_CASE("rule 15: discard_epoch undoes the steps of the running or just finished epoch",
          "[engine][epochs]") {
  const std::int64_t batches = GENERATE(0, 1, 3, 99);
  const bool look = GENERATE(false, true);
  Session session(100, config_of(8), 1);
  run_epoch(session, 30);
  session.begin();
  const std::string fresh = session.serialize();
  const PlanCopy plan = copy_of(session.plan());
  run_batches(
      session, 30, [](std::int64_t) { return 77.0f; }, batches);
  if (look) session.length();
  session.discard_epoch();
  REQUIRE(session.epoch() == 1);
  REQUIRE(session.position() == 0);
  REQUIRE(copy_of(session.plan()) == plan);
  REQUIRE(run_epoch(session, 30, [](std::int64_t) { return 1.0f; }) == plan);
  session.begin();
  for (std::int64_t id = 0; id < 100; ++id) REQUIRE(session.scores()[id] != 77.0f);
  session.discard_epoch();
  session.discard_epoch();  // twice is once
  REQUIRE(session.epoch() == 2);
  REQUIRE(fresh.size() > 400);
}

TEST_CASE("rule 15: a plan delivered to the end without an update warns once", "[engine][epochs]") {
  const bool with_set_epoch = GENERATE(false, true);
  Session session(50, config_of(8), 1);
  const Warnings warnings(session);
  for (int epoch = 0; epoch < 4; ++epoch) {
    if (with_set_epoch) session.set_epoch(epoch);
    session.begin();
    while (session.next(20).count > 0) {
    }
    REQUIRE(warnings.all().size() == (epoch == 0 ? 0u : 1u));
  }
  REQUIRE(warnings.count("all 50 samples of epoch 0 were delivered and no loss came back") == 1);
  REQUIRE(warnings.count("third line") == 1);
}

TEST_CASE("rule 15: an epoch smaller than a dropped batch is named as a cause of missing losses",
          "[engine][epochs]") {
  Session session(50, config_of(8), 1);
  const Warnings warnings(session);
  for (int epoch = 0; epoch < 2; ++epoch) {
    session.begin();
    session.next(64);
  }
  REQUIRE(warnings.count("drop_last with a batch of 64") == 1);
}

TEST_CASE("rule 13: a warning handler that throws loses nothing", "[engine][epochs]") {
  Session session(50, config_of(8), 1);
  Session calm(50, config_of(8), 1);
  session.set_warning_handler([](const std::string& text) { throw std::runtime_error(text); });
  calm.set_warning_handler([](const std::string&) {});
  const auto loss = [](std::int64_t id) { return id == 7 ? NAN : static_cast<float>(id); };
  run_epoch(session, 20, loss);
  run_epoch(calm, 20, loss);
  SECTION("at begin") { REQUIRE_THROWS_WITH(session.begin(), ContainsSubstring("NaN")); }
  SECTION("at plan") { REQUIRE_THROWS_WITH(session.plan(), ContainsSubstring("NaN")); }
  SECTION("at set_epoch") { REQUIRE_THROWS_WITH(session.set_epoch(1), ContainsSubstring("NaN")); }
  for (int epoch = 1; epoch < 4; ++epoch) REQUIRE(run_epoch(session, 20) == run_epoch(calm, 20));
  session.begin();
  calm.begin();
  REQUIRE(score_bits(session) == score_bits(calm));
  REQUIRE(session.statistics().non_finite_total == 1);
}

TEST_CASE("rule 15: looking at a batch, a discarded epoch or a correct loop warns of nothing",
          "[engine][epochs]") {
  Session session(50, config_of(8), 1);
  const Warnings warnings(session);
  session.begin();
  session.next(20);
  session.begin();
  run_batches(session, 20, [](std::int64_t) { return 1.0f; });
  session.discard_epoch();
  for (int epoch = 0; epoch < 8; ++epoch) {
    if (epoch % 2 == 0) session.set_epoch(epoch);
    run_epoch(session, 20);
  }
  REQUIRE(warnings.all().empty());
}
