#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// docs/rules.md, state: saved at any step, loaded into a new session, continued == never stopped.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr std::int64_t kSize = 90;
constexpr std::int64_t kEpochs = 5;
constexpr std::int64_t kBatch = 20;

/// Everything that a training loop gets to see of a run.
struct Trace {
  PlanCopy delivered;
  std::vector<std::int64_t> kept;
  std::vector<double> figures;

  bool operator==(const Trace& other) const {
    return delivered == other.delivered && kept == other.kept && figures == other.figures;
  }
};

struct Options {
  bool by_ids = false;
  bool set_epochs = false;
  bool look = false;  // asks for the length before each save
};

/// A loop over all epochs that is stopped after `stop` steps and goes on in a new session of `next`
/// threads. A negative stop: never.
Trace train(const Config& config, const Options& options, std::int64_t stop, int next = 1) {
  auto session = std::make_unique<Session>(kSize, config, 1);
  session->set_warning_handler([](const std::string&) {});
  Trace trace;
  std::int64_t steps = 0;
  const auto note = [&] {
    const Statistics s = session->statistics();
    for (const double figure : {double(s.epoch),
                                double(s.kept),
                                double(s.candidates),
                                s.prune_ratio,
                                double(s.observed),
                                s.observed > 0 ? s.mean_score : -1.0,
                                double(s.samples_full),
                                double(s.samples_planned),
                                s.saved,
                                s.actual_saved,
                                double(s.non_finite_epoch),
                                double(s.non_finite_total),
                                session->progress(),
                                double(session->position())}) {
      trace.figures.push_back(figure);
    }
  };
  const auto interrupt = [&] {
    if (options.look) session->length();
    const std::string state = session->serialize();
    session = std::make_unique<Session>(kSize, config, next);
    session->set_warning_handler([](const std::string&) {});
    session->deserialize(state);
    REQUIRE(session->serialize() == state);
  };
  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    bool finished = false;
    while (!finished) {  // a second round goes on with an interrupted epoch
      if (options.set_epochs) session->set_epoch(epoch);
      session->begin();
      trace.kept.push_back(session->plan()->size());
      finished = true;
      for (Slice s = session->next(kBatch); s.count > 0; s = session->next(kBatch)) {
        append(trace.delivered, s);
        auto losses = losses_of(s, [&](std::int64_t id) { return simulated_loss(id, epoch); });
        if (epoch == 1) losses[0] *= INFINITY;
        if (options.by_ids) {
          std::vector<float> weights(losses.size());
          session->observe_ids(losses.data(), s.ids(), s.count, weights.data());
        } else {
          session->observe(losses.data(), s.count);
        }
        note();
        if (++steps != stop) continue;
        interrupt();
        finished = session->epoch() != epoch;
        if (!finished) trace.kept.pop_back();
        break;
      }
    }
  }
  session->set_epoch(kEpochs);
  for (const std::uint32_t bits : score_bits(*session)) trace.figures.push_back(double(bits));
  trace.figures.push_back(double(steps));
  return trace;
}

std::vector<Config> configs() {
  std::vector<Config> all;
  for (const std::string policy : {"infobatch", "infobatch_quantile", "random", "full"}) {
    for (const std::string keep : {"bernoulli", "exact"}) {
      Config config = config_of(kEpochs);
      config.policy = policy;
      config.keep = keep;
      all.push_back(config);
      config.score_ema = 0.3;
      all.push_back(config);
      config.score_ema = 0.0;
      if (policy != "full") config.target_saved = 0.2;
      config.rescale = false;
      all.push_back(config);
    }
  }
  return all;
}

}  // namespace

TEST_CASE("a run stopped at any step and resumed equals one that never stopped",
          "[engine][resume]") {
  Options options;
  options.by_ids = GENERATE(false, true);
  options.set_epochs = GENERATE(false, true);
  options.look = GENERATE(false, true);
  for (const Config& config : configs()) {
    CAPTURE(config.to_json(), options.by_ids, options.set_epochs, options.look);
    const Trace whole = train(config, options, -1);
    REQUIRE(whole.kept.size() == kEpochs);
    const auto steps = static_cast<std::int64_t>(whole.figures.back());
    for (std::int64_t stop = 1; stop <= steps; ++stop) {
      CAPTURE(stop);
      REQUIRE(train(config, options, stop) == whole);
    }
  }
}

TEST_CASE("a run resumes with another number of threads", "[engine][resume][threads]") {
  REQUIRE(train(config_of(kEpochs), {}, 7, 4) == train(config_of(kEpochs), {}, -1));
}

TEST_CASE("a state saved before the first step begins the epoch anew", "[engine][resume]") {
  Session session(kSize, config_of(8), 1);
  run_epoch(session, kBatch);
  if (GENERATE(false, true)) session.begin();
  session.length();
  Session other(kSize, config_of(8), 1);
  other.deserialize(session.serialize());
  REQUIRE(other.epoch() == session.epoch());
  REQUIRE(run_epoch(other, kBatch) == run_epoch(session, kBatch));
}

TEST_CASE("a state saved between the last full batch and the tail delivers the tail",
          "[engine][resume]") {
  Session session(50, config_of(8), 1);
  session.begin();
  run_batches(
      session, 20, [](std::int64_t) { return 1.0f; }, 2);
  const Slice tail = session.next(20);  // delivered, not yet observed
  REQUIRE(tail.count == 10);
  session.length();
  Session other(50, config_of(8), 1);
  const LoadReport report = other.deserialize(session.serialize());
  REQUIRE(report.epoch == 0);
  REQUIRE(report.position == 40);
  other.begin();
  PlanCopy expected;
  append(expected, tail);
  REQUIRE(run_batches(other, 20, [](std::int64_t) { return 1.0f; }) == expected);
  other.begin();
  REQUIRE(other.epoch() == 1);
}

TEST_CASE("begin may be called twice after a load", "[engine][resume]") {
  Session session(50, config_of(8), 1);
  session.begin();
  run_batches(
      session, 20, [](std::int64_t) { return 1.0f; }, 1);
  Session other(50, config_of(8), 1);
  other.deserialize(session.serialize());
  other.begin();
  other.next(20);
  other.begin();
  REQUIRE(other.next(20).begin == 20);
  session.discard_epoch();
  other.discard_epoch();
  REQUIRE(other.next(20).begin == 0);
}

TEST_CASE("after a load by ids only what is not observed yet is delivered", "[engine][resume]") {
  Session session(50, config_of(8), 1);
  session.begin();
  const std::shared_ptr<const Plan> plan = session.plan();
  // Positions 0, 1, 7 and 30 .. 49 came back, in no order.
  std::vector<std::int64_t> ids = {plan->ids()[7], plan->ids()[1], plan->ids()[0]};
  for (std::int64_t p = 49; p >= 30; --p) ids.push_back(plan->ids()[p]);
  const std::vector<float> losses(ids.size(), 1.0f);
  std::vector<float> weights(ids.size());
  session.observe_ids(losses.data(), ids.data(), std::int64_t(ids.size()), weights.data());
  Session other(50, config_of(8), 1);
  REQUIRE(other.deserialize(session.serialize()).position == 23);
  other.begin();
  std::vector<std::int64_t> pending;
  for (Slice s = other.next(4); s.count > 0; s = other.next(4)) {
    for (std::int64_t p = s.begin; p < s.begin + s.count; ++p) pending.push_back(p);
    other.observe_ids(losses.data(), s.ids(), s.count, weights.data());
  }
  std::vector<std::int64_t> expected;
  for (std::int64_t p = 2; p < 30; ++p) {
    if (p != 7) expected.push_back(p);
  }
  REQUIRE(pending == expected);
  REQUIRE(other.epoch() == 1);
}

TEST_CASE("after a load by ids a refused delivery does not move over what was observed",
          "[engine][resume]") {
  Session session(11, config_of(8), 1);
  session.begin();
  const Slice first = session.next(4);
  const std::vector<float> losses(11, 1.0f);
  std::vector<float> weights(11);
  session.observe_ids(losses.data(), first.ids(), 4, weights.data());
  session.deserialize(session.serialize());
  session.begin();
  REQUIRE(session.next(4).begin == 4);
  const EpochArrays arrays = session.epoch_arrays();
  session.observe_ids(
      losses.data(), arrays.ids + 4, 7, weights.data());  // with what is not out yet
  const std::int64_t epoch = session.epoch();
  const double progress = session.progress();
  REQUIRE_THROWS_AS(session.next_rows(3), StateError);  // rows after batches
  REQUIRE(session.epoch() == epoch);
  REQUIRE(session.progress() == progress);
  REQUIRE(session.next(4).count == 0);
  REQUIRE(session.epoch() == epoch + 1);
}

TEST_CASE("E and delta may change: the load says so and the running plan stays",
          "[engine][resume]") {
  Session session(kSize, config_of(10), 1);
  run_epoch(session, kBatch);
  session.begin();
  session.next(kBatch);
  const std::vector<float> losses(kBatch, 0.2f);
  session.observe(losses.data(), kBatch);
  Config longer = config_of(3);
  longer.delta = 0.1;  // epoch 1 would be full
  Session other(kSize, longer, 1);
  const Warnings quiet(other);
  const LoadReport report = other.deserialize(session.serialize());
  REQUIRE(report.changes == std::vector<std::string>{"epochs: 10 -> 3", "delta: 0.875 -> 0.1"});
  REQUIRE(report.epoch == 1);
  REQUIRE(report.position == kBatch);
  REQUIRE(copy_of(other.plan()) == copy_of(session.plan()));
  REQUIRE(other.statistics().prunes);
  other.begin();
  run_batches(other, kBatch, [](std::int64_t id) { return simulated_loss(id, 1); });
  REQUIRE(other.length() == kSize);  // the next epoch goes by the new delta
  Session same(kSize, config_of(10), 1);
  REQUIRE(same.deserialize(session.serialize()).changes.empty());
}

TEST_CASE("the state of another run is refused with every difference, and nothing changes",
          "[engine][resume]") {
  Session session(kSize, config_of(10), 1);
  run_epoch(session, kBatch);
  Config config = config_of(12, 0.25);
  config.seed = 7;
  config.policy = "random";
  config.keep = "exact";
  Session other(kSize + 1, config, 1);
  run_epoch(other, kBatch);
  const std::string before = other.serialize();
  const std::string text =
      message_of<InvalidArgument>([&] { other.deserialize(session.serialize()); });
  for (const char* part : {"load: the state must be of the same run",
                           "size: 90 -> 91",
                           "prune_ratio: 0.5 -> 0.25",
                           "seed: 520857540 -> 7",
                           "policy: \"infobatch\" -> \"random\"",
                           "keep: \"bernoulli\" -> \"exact\""}) {
    REQUIRE_THAT(text, ContainsSubstring(part));
  }
  REQUIRE(text.find("epochs") == text.find("epochs, delta, drop_last"));  // named only as allowed
  REQUIRE(other.serialize() == before);
}

TEST_CASE("states of edge sizes load", "[engine][resume]") {
  const std::int64_t size = GENERATE(0, 1, 2, 63, 64, 65);
  Session session(size, config_of(6), 1);
  Session other(size, config_of(6), 1);
  for (int epoch = 0; epoch < 4; ++epoch) {
    run_epoch(session, 32);
    other.deserialize(session.serialize());
    REQUIRE(other.serialize() == session.serialize());
    REQUIRE(other.epoch() == session.epoch());
  }
}

TEST_CASE("a run resumed after an epoch that was dropped as one short batch saves as much",
          "[engine][resume]") {
  // Each pruned epoch is less than a batch, so that nothing of it is observed; what it left out
  // counts for the budget, whether or not the run was stopped behind it.
  Config config = config_of(6);
  config.policy = "random";
  config.target_saved = 0.4;
  config.delta = 1.0;
  const auto run = [](Session& session, std::int64_t epoch) {
    session.set_epoch(epoch);
    session.begin();
    const std::int64_t kept = session.plan()->size();
    for (Slice s = session.next(64); s.count == 64; s = session.next(64)) {
      session.observe(losses_of(s, [](std::int64_t) { return 1.0f; }).data(), s.count);
    }
    return kept;
  };
  Session whole(100, config, 1);
  auto resumed = std::make_unique<Session>(100, config, 1);
  whole.set_warning_handler([](const std::string&) {});
  std::int64_t dropped = 0;
  for (std::int64_t epoch = 0; epoch < 6; ++epoch) {
    CAPTURE(epoch);
    resumed->set_warning_handler([](const std::string&) {});
    const std::int64_t kept = run(whole, epoch);
    REQUIRE(run(*resumed, epoch) == kept);
    dropped += kept < 64 ? 1 : 0;
    const std::string state = resumed->serialize();
    resumed = std::make_unique<Session>(100, config, 1);
    resumed->deserialize(state);
    REQUIRE(resumed->serialize() == state);
  }
  REQUIRE(dropped > 2);
  whole.set_epoch(6);
  resumed->set_epoch(6);
  REQUIRE(resumed->statistics().samples_full == whole.statistics().samples_full);
  REQUIRE(resumed->statistics().actual_saved == whole.statistics().actual_saved);
}

TEST_CASE("saving does not take back a look at the next epoch", "[engine][resume]") {
  Session session(100, config_of(8), 1);
  run_epoch(session, 30, [](std::int64_t id) { return static_cast<float>(id); });
  const std::string before = session.serialize();
  const PlanCopy next = copy_of(session.plan());
  const std::vector<std::uint32_t> scores = score_bits(session);
  REQUIRE(session.scores()[7] == 7.0f);
  const double progress = session.progress();
  REQUIRE(session.serialize() == before);
  REQUIRE(score_bits(session) == scores);
  REQUIRE(session.progress() == progress);
  REQUIRE(copy_of(session.plan()) == next);
  REQUIRE(run_epoch(session, 30) == next);
}

TEST_CASE("set_epoch of the running epoch is part of the state", "[engine][resume]") {
  Session session(100, config_of(8), 1);
  session.begin();
  run_batches(
      session, 30, [](std::int64_t) { return 1.0f; }, 1);
  session.set_epoch(0);  // once more from its start
  Session other(100, config_of(8), 1);
  other.deserialize(session.serialize());
  other.begin();
  session.begin();
  REQUIRE(other.next(30).begin == 0);
  REQUIRE(session.next(30).begin == 0);
}
