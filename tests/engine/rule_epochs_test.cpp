#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

// Rule 15: how epochs follow one another without set_epoch.

using namespace infobatch;
using namespace infobatch::testing;

namespace {

const std::vector<float>& ones() {
  static const std::vector<float> losses(1000, 1.0f);
  return losses;
}

/// Asks everything that can be asked; none of it may change the run.
void ask(Session& session) {
  session.length();
  session.plan();
  session.epoch();
  session.statistics();
  session.position();
  session.progress();
}

}  // namespace

TEST_CASE("rule 15: epochs follow one another without set_epoch", "[engine][epochs]") {
  Session session(100, config_of(8), 1);
  for (int epoch = 0; epoch < 8; ++epoch) {
    REQUIRE(session.epoch() == epoch);
    run_epoch(session, 30);
    REQUIRE(session.epoch() == epoch + 1);
    REQUIRE(session.length() == session.plan()->size());
    REQUIRE(session.plan()->epoch() == epoch + 1);
  }
  REQUIRE(session.progress() == 1.0);
}

TEST_CASE("rule 15: set_epoch and automatic epochs give the same run", "[engine][epochs]") {
  Session automatic(500, config_of(8), 1);
  Session manual(500, config_of(8), 1);
  for (int epoch = 0; epoch < 8; ++epoch) {
    manual.set_epoch(epoch);
    manual.set_epoch(epoch);  // twice is once
    REQUIRE(manual.length() == automatic.length());
    REQUIRE(run_epoch(manual, 64) == run_epoch(automatic, 64));
  }
  REQUIRE(score_bits(manual) == score_bits(automatic));
}

TEST_CASE("rule 15: iterating or peeking without an update repeats the same plan",
          "[engine][epochs]") {
  Session session(200, config_of(8), 1);
  run_epoch(session, 50);
  session.begin();
  const PlanCopy first = copy_of(session.plan());
  session.begin();                        // Python's DataLoader may begin twice
  REQUIRE(session.next(50).count == 50);  // somebody looks at one batch
  session.begin();
  ask(session);
  REQUIRE(session.epoch() == 1);
  REQUIRE(run_epoch(session, 50, [](std::int64_t) { return 1.0f; }) == first);
}

TEST_CASE("rule 15: a loop that breaks off early begins the next epoch with what it saw",
          "[engine][epochs]") {
  Session session(100, config_of(8), 1);
  session.begin();
  const PlanCopy seen = run_batches(
      session, 10, [](std::int64_t) { return 2.0f; }, 3);
  session.next(10);  // delivered and not observed when the loop broke off
  REQUIRE(session.epoch() == 0);
  REQUIRE(session.position() == 30);
  session.begin();
  REQUIRE(session.epoch() == 1);
  std::int64_t observed = 0;
  for (std::int64_t id = 0; id < 100; ++id) observed += is_finite(session.scores()[id]) ? 1 : 0;
  REQUIRE(observed == 30);
  for (const std::int64_t id : seen.ids) REQUIRE(session.scores()[id] == 2.0f);
}

TEST_CASE("rule 15: a dropped tail of less than one batch ends the epoch too", "[engine][epochs]") {
  Session session(100, config_of(8), 1);
  session.begin();
  for (int batch = 0; batch < 3; ++batch) {
    session.next(30);
    session.observe(ones().data(), 30);
  }
  REQUIRE(session.epoch() == 0);          // not delivered to the end yet
  REQUIRE(session.next(30).count == 10);  // drop_last throws these away
  REQUIRE(session.epoch() == 1);
  REQUIRE(session.length() == session.plan()->size());
  session.begin();
  REQUIRE(session.plan()->epoch() == 1);
}

TEST_CASE("rule 15: an epoch that is dropped as one short batch is over", "[engine][epochs]") {
  // Every epoch is smaller than a batch, or only those that leave samples out.
  const std::int64_t batch = GENERATE(64, 45);
  Session session(50, config_of(8), 1);
  session.set_warning_handler([](const std::string&) {});
  int iterations = 0;
  std::vector<std::int64_t> trained;
  for (; session.epoch() < 8 && iterations < 100; ++iterations) {
    const std::int64_t epoch = session.epoch();
    session.begin();
    REQUIRE(session.epoch() == epoch);
    for (Slice s = session.next(batch); s.count == batch; s = session.next(batch)) {
      session.observe(
          losses_of(s, [&](std::int64_t id) { return simulated_loss(id, epoch); }).data(), s.count);
      trained.push_back(epoch);
    }
  }
  REQUIRE(iterations == 8);
  if (batch == 64) REQUIRE(trained.empty());
  if (batch == 45) REQUIRE(trained == std::vector<std::int64_t>{0, 7});
}

TEST_CASE("rule 15: a whole epoch of one batch that is only looked at comes again",
          "[engine][epochs]") {
  Session session(50, config_of(8), 1);
  session.set_warning_handler([](const std::string&) {});
  for (int look = 0; look < 3; ++look) {
    session.begin();
    while (session.next(64).count > 0) {
    }
    REQUIRE(session.epoch() == 0);
    REQUIRE(session.length() == 50);
  }
  session.discard_epoch();
  REQUIRE(run_epoch(session, 64).ids.size() == 50);
  REQUIRE(session.epoch() == 1);
}

TEST_CASE("rule 15: who takes the whole plan at once has dropped nothing", "[engine][epochs]") {
  Session session(100, config_of(8), 1);
  session.set_warning_handler([](const std::string&) {});
  session.begin();
  REQUIRE(session.next(100).count == 100);
  for (int part = 0; part < 3; ++part) {
    session.observe(ones().data(), 30);
    REQUIRE(session.epoch() == 0);
  }
  // Ten are missing, which may be a part that was lost: the epoch is not over.
  Session other(100, config_of(8), 1);
  other.deserialize(session.serialize());
  other.begin();
  REQUIRE(other.next(100).count == 10);
  other.observe(ones().data(), 10);
  REQUIRE(other.epoch() == 1);
  session.observe(ones().data(), 10);
  REQUIRE(session.epoch() == 1);
}

TEST_CASE("rule 15: length may be asked at any moment", "[engine][epochs]") {
  // One of the two sessions is asked between all calls, above all between the last full batch and
  // the tail, when the epoch may or may not be over.
  const std::int64_t batch = GENERATE(1, 7, 32, 64, 100, 1000);
  Session quiet(100, config_of(8), 1);
  Session asked(100, config_of(8), 1);
  for (int epoch = 0; epoch < 8; ++epoch) {
    ask(asked);
    quiet.begin();
    asked.begin();
    ask(asked);
    while (true) {
      const Slice expected = quiet.next(batch);
      const Slice slice = asked.next(batch);
      ask(asked);
      REQUIRE(slice.count == expected.count);
      REQUIRE(slice.begin == expected.begin);
      if (slice.count == 0) break;
      PlanCopy a;
      PlanCopy b;
      append(a, slice);
      append(b, expected);
      REQUIRE(a == b);
      const auto losses =
          losses_of(slice, [&](std::int64_t id) { return simulated_loss(id, epoch); });
      quiet.observe(losses.data(), slice.count);
      asked.observe(losses.data(), slice.count);
      REQUIRE(asked.position() == quiet.position());
      ask(asked);
      REQUIRE(asked.progress() == quiet.progress());
      REQUIRE(asked.epoch() == quiet.epoch());
    }
  }
  quiet.begin();
  asked.begin();
  REQUIRE(score_bits(asked) == score_bits(quiet));
}

TEST_CASE("rule 15: asking for the next length does not make the running loop endless",
          "[engine][epochs]") {
  Session session(64, config_of(8), 1);
  session.begin();
  std::int64_t delivered = 0;
  for (Slice s = session.next(16); s.count > 0 && delivered < 1000; s = session.next(16)) {
    delivered += s.count;
    session.observe(ones().data(), s.count);
    session.length();  // a progress bar
  }
  REQUIRE(delivered == 64);
  REQUIRE(session.next(16).count == 0);
  REQUIRE(session.epoch() == 1);
}

TEST_CASE("rule 15: prefetching far ahead is fine, also to the end", "[engine][epochs]") {
  Session ahead(100, config_of(8), 1);
  Session in_step(100, config_of(8), 1);
  for (int epoch = 0; epoch < 6; ++epoch) {
    ahead.begin();
    std::vector<Slice> queue;
    for (Slice s = ahead.next(9); s.count > 0; s = ahead.next(9)) queue.push_back(s);
    REQUIRE(ahead.epoch() == epoch);  // all delivered, nothing observed
    PlanCopy seen;
    for (const Slice& s : queue) {
      append(seen, s);
      ahead.observe(losses_of(s, [&](std::int64_t id) { return simulated_loss(id, epoch); }).data(),
                    s.count);
    }
    REQUIRE(seen == run_epoch(in_step, 9));
  }
}

TEST_CASE("rule 15: micro-batches are shorter slices", "[engine][epochs]") {
  Session whole(90, config_of(8), 1);
  Session parts(90, config_of(8), 1);
  for (int epoch = 0; epoch < 6; ++epoch) {
    const PlanCopy expected = run_epoch(whole, 20);
    parts.begin();
    PlanCopy seen;
    for (Slice s = parts.next(20); s.count > 0; s = parts.next(20)) {
      const auto losses = losses_of(s, [&](std::int64_t id) { return simulated_loss(id, epoch); });
      for (std::int64_t begin = 0; begin < s.count; begin += 6) {
        const std::int64_t count = std::min<std::int64_t>(6, s.count - begin);
        append(seen, parts.observe(losses.data() + begin, count));
      }
    }
    REQUIRE(seen == expected);
  }
  whole.begin();
  parts.begin();
  REQUIRE(score_bits(parts) == score_bits(whole));
}

TEST_CASE("rule 15: set_epoch may go back, repeat and jump", "[engine][epochs]") {
  Session session(100, config_of(10), 1);
  for (const std::int64_t epoch : {3, 3, 0, 7, 2}) {
    session.set_epoch(epoch);
    REQUIRE(session.epoch() == epoch);
    REQUIRE(session.plan()->epoch() == epoch);
    run_epoch(session, 40);
    REQUIRE(session.epoch() == epoch + 1);
  }
  // Once more the epoch that just ended: the same plan, also after a look at the next one.
  const PlanCopy last = [&] {
    session.set_epoch(5);
    return run_epoch(session, 40);
  }();
  session.length();
  session.set_epoch(5);
  REQUIRE(session.epoch() == 5);
  REQUIRE(run_epoch(session, 40) == last);
}

TEST_CASE("rule 15: empty data sets run through their epochs", "[engine][epochs]") {
  Session session(0, config_of(5), 1);
  for (int epoch = 0; epoch < 5; ++epoch) {
    REQUIRE(session.epoch() == epoch);
    REQUIRE(session.length() == 0);
    session.begin();
    REQUIRE(session.next(32).count == 0);
    REQUIRE(session.epoch() == epoch + 1);
  }
  REQUIRE(session.progress() == 1.0);
  REQUIRE(session.max_steps(32) == 0);
  REQUIRE(session.statistics().saved == 0.0);
}

TEST_CASE("rule 15: progress and max_steps follow the samples", "[engine][epochs]") {
  Session session(100, config_of(4), 1);
  REQUIRE(session.progress() == 0.0);
  REQUIRE(session.max_steps(30) == 16);
  REQUIRE(session.max_steps(100) == 4);
  session.begin();
  session.next(50);
  session.observe(ones().data(), 25);
  REQUIRE(session.progress() == 0.25 / 4.0);
  session.observe(ones().data(), 25);
  session.next(50);
  session.observe(ones().data(), 25);
  session.observe(ones().data(), 25);
  REQUIRE(session.progress() == 0.25);
  session.length();
  REQUIRE(session.progress() == 0.25);
  session.set_epoch(9);
  REQUIRE(session.progress() == 1.0);
}
