#include <infobatch/detail/annealing.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

// The defects of the official package, each as a regression test where an engine can have it.
// Number 4 (pickling, attribute look-up) is one of Python alone.

using namespace infobatch;
using namespace infobatch::testing;

TEST_CASE("defect 1: beginning an iteration twice neither restarts for ever nor stops the pruning",
          "[engine][defects]") {
  Session session(1000, config_of(10), 1);
  std::int64_t pruned_epochs = 0;
  for (int epoch = 0; epoch < 10; ++epoch) {
    session.begin();
    session.begin();  // the batch sampler calls iter() on an iterator once more
    std::int64_t delivered = 0;
    while (delivered <= 1000) {
      const Slice s = session.next(64);
      if (s.count == 0) break;
      delivered += s.count;
      session.observe(
          losses_of(s, [&](std::int64_t id) { return simulated_loss(id, epoch); }).data(), s.count);
    }
    REQUIRE(delivered == session.statistics().kept);
    pruned_epochs += delivered < 1000 ? 1 : 0;
  }
  REQUIRE(pruned_epochs == 7);
}

TEST_CASE("defect 2: annealed epochs never train with the weights of a pruned one",
          "[engine][defects]") {
  const std::int64_t epochs = GENERATE(10, 30, 90, 100, 300);  // E * delta is no integer
  Session session(200, config_of(epochs), 1);
  for (std::int64_t epoch = 0; epoch < epochs; ++epoch) {
    const PlanCopy plan = run_epoch(session, 64);
    if (epoch < annealing_start(config_of(epochs))) continue;
    REQUIRE(plan.ids.size() == 200);
    for (const std::uint32_t bits : plan.weights) REQUIRE(bits_float(bits) == 1.0f);
  }
}

TEST_CASE("defect 3: a loader that looks ahead records every score where it belongs",
          "[engine][defects]") {
  Session session(64, config_of(10), 1);
  session.begin();
  Slice ahead = session.next(8);
  for (Slice next = session.next(8); ahead.count > 0; next = session.next(8)) {
    session.observe(losses_of(ahead, [](std::int64_t id) { return float(id); }).data(),
                    ahead.count);
    ahead = next;
  }
  session.begin();
  for (std::int64_t id = 0; id < 64; ++id) REQUIRE(session.scores()[id] == float(id));
}

TEST_CASE("defect 5: the length is that of the epoch that comes, from its start on",
          "[engine][defects]") {
  Session session(1000, config_of(10), 1);
  for (int epoch = 0; epoch < 10; ++epoch) {
    const std::int64_t promised = session.length();
    REQUIRE(run_epoch(session, 64).ids.size() == std::size_t(promised));
  }
}

TEST_CASE("defect 6: neither the losses nor the scores carry the weight", "[engine][defects]") {
  Session session(100, config_of(10, 0.9), 1);
  run_epoch(session, 100);
  session.begin();
  const Slice s = session.next(100);
  REQUIRE(*std::max_element(s.weights(), s.weights() + s.count) > 9.0f);
  const std::vector<float> losses(static_cast<std::size_t>(s.count), 0.5f);
  std::vector<float> logged = losses;
  float out = 0.0f;
  session.update(logged.data(), s.count, Reduction::kMean, &out);
  REQUIRE(logged == losses);
  session.begin();
  for (std::int64_t i = 0; i < s.count; ++i) REQUIRE(session.scores()[s.ids()[i]] == 0.5f);
}

TEST_CASE("defect 7: ids that no float can hold are told apart", "[engine][defects][slow]") {
  constexpr std::int64_t kSize = (std::int64_t{1} << 24) + 8;
  Session session(kSize, config_of(10), 1);
  // fp16 is exact to 2048, bf16 to 256, fp32 to 2^24.
  const std::vector<std::int64_t> ids = {256, 257, 2048, 2049, 1 << 24, (1 << 24) + 1, kSize - 1};
  std::vector<float> losses;
  for (std::size_t i = 0; i < ids.size(); ++i) losses.push_back(float(i) + 1.0f);
  std::vector<float> weights(ids.size());
  session.observe_ids(losses.data(), ids.data(), std::int64_t(ids.size()), weights.data());
  session.set_epoch(1);
  for (std::size_t i = 0; i < ids.size(); ++i) REQUIRE(session.scores()[ids[i]] == losses[i]);
  REQUIRE(float_bits(session.scores()[258]) == kNeverObservedBits);
  REQUIRE(float_bits(session.scores()[(1 << 24) + 2]) == kNeverObservedBits);
}

TEST_CASE("defect 8: one NaN does not switch pruning off, one Inf makes nobody a candidate",
          "[engine][defects]") {
  const float bad =
      GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  const auto candidates = [](float first) {
    Session session(1000, config_of(10), 1);
    const Warnings quiet(session);
    run_epoch(
        session, 100, [&](std::int64_t id) { return id == 0 ? first : simulated_loss(id, 0); });
    session.plan();
    session.begin();
    return session.statistics().candidates;
  };
  const std::int64_t usual = candidates(0.9f);
  REQUIRE(usual > 500);
  REQUIRE(std::abs(candidates(bad) - usual) < 20);
}

TEST_CASE("defect 8: no number of equal losses is judged below its own mean", "[engine][defects]") {
  for (std::int64_t size = 1; size < 1500; size += 1 + size / 50) {
    for (const float loss : {3.0f, 0.1f, 2.3025851f}) {
      Session session(size, config_of(10), 1);
      run_epoch(session, size, [&](std::int64_t) { return loss; });
      session.begin();
      REQUIRE(session.statistics().candidates == 0);
      REQUIRE(session.length() == size);
    }
  }
}

TEST_CASE("defect 9: seeds prune differently, and no global generator is touched",
          "[engine][defects]") {
  const auto second_plan = [](std::uint64_t seed) {
    Config config = config_of(10);
    config.seed = seed;
    Session session(500, config, 1);
    run_epoch(session, 50);
    PlanCopy plan = run_epoch(session, 50);
    std::sort(plan.ids.begin(), plan.ids.end());
    return plan.ids;
  };
  std::srand(3);
  const int expected = std::rand();
  std::srand(3);
  REQUIRE(second_plan(1) != second_plan(2));
  REQUIRE(std::rand() == expected);
}

TEST_CASE("defect 10: peeking does not advance the epoch", "[engine][defects]") {
  Session session(100, config_of(10), 1);
  for (int i = 0; i < 5; ++i) {
    session.begin();
    session.next(10);
    session.plan();
    session.length();
    REQUIRE(session.epoch() == 0);
  }
  run_epoch(session, 10);
  for (int i = 0; i < 5; ++i) {
    session.length();
    REQUIRE(session.epoch() == 1);
  }
}

TEST_CASE("defect 11: scores, epoch and position are in a checkpoint", "[engine][defects]") {
  Session session(100, config_of(10), 1);
  run_epoch(session, 10);
  session.begin();
  run_batches(
      session, 10, [](std::int64_t) { return 0.5f; }, 3);
  Session other(100, config_of(10), 1);
  other.deserialize(session.serialize());
  REQUIRE(other.epoch() == 1);
  REQUIRE(other.position() == 30);
  REQUIRE(score_bits(other) == score_bits(session));
}

TEST_CASE("defect 12: micro-batches work, and a second loss is refused in words",
          "[engine][defects]") {
  Session session(100, config_of(10), 1);
  session.begin();
  session.next(10);
  const std::vector<float> losses(10, 1.0f);
  for (const std::int64_t part : {4, 4, 2}) session.observe(losses.data(), part);
  const std::string text = message_of<StateError>([&] { session.observe(losses.data(), 10); });
  REQUIRE(text.find("a second update on one batch") != text.npos);
  REQUIRE(session.position() == 10);
}

TEST_CASE("defect 13: batches of any size, the tail included, are recorded", "[engine][defects]") {
  Session session(100, config_of(10), 1);
  session.begin();
  std::int64_t size = 1;
  for (Slice s = session.next(size); s.count > 0; s = session.next(++size)) {
    session.observe(losses_of(s, [](std::int64_t id) { return float(id); }).data(), s.count);
  }
  session.begin();
  for (std::int64_t id = 0; id < 100; ++id) REQUIRE(session.scores()[id] == float(id));
}

TEST_CASE("defect 14: nobody is drawn twice, and the selection is not an epoch stale",
          "[engine][defects]") {
  Config config = config_of(10);
  config.keep = "exact";
  Session session(100, config, 1);
  run_epoch(session, 100, [](std::int64_t id) { return id < 50 ? 0.0f : 1.0f; });
  run_epoch(session, 100, [](std::int64_t id) { return id < 50 ? 1.0f : 0.0f; });
  // The first half, where it was seen, and the rest changed sides: epoch 2 knows.
  session.begin();
  PlanCopy plan = copy_of(session.plan());
  for (std::size_t p = 0; p < plan.ids.size(); ++p) {
    if (bits_float(plan.weights[p]) != 1.0f) {
      REQUIRE(session.scores()[plan.ids[p]] == 0.0f);
    } else {
      REQUIRE(session.scores()[plan.ids[p]] == 1.0f);
    }
  }
  std::sort(plan.ids.begin(), plan.ids.end());
  REQUIRE(std::adjacent_find(plan.ids.begin(), plan.ids.end()) == plan.ids.end());
  REQUIRE(session.statistics().candidates == 75);
}
