#include <infobatch/score.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

// Soundness across a save and a load: what a state has to remember of the loop that wrote it. Every
// loss names its sample, so that a score of another sample is seen.

using namespace infobatch;
using namespace infobatch::testing;

namespace {

constexpr std::int64_t kBatch = 8;

float loss_of(std::int64_t id, std::int64_t epoch) {
  return static_cast<float>(1 + id + 1000 * epoch);
}

/// A session that can be stopped and go on in a new one.
class Run {
 public:
  explicit Run(std::int64_t size, bool lookahead = false) : size_(size) {
    config_ = config_of(10, 0.0);
    config_.lookahead = lookahead;
    renew();
  }

  void stop_and_resume() {
    const std::string state = session_->serialize();
    renew();
    session_->deserialize(state);
  }

  /// Iterates over the running epoch with a loader that is `ahead` batches ahead; the batch `lost`
  /// is skipped, and the loop ends behind `steps` batches. Counted from 1.
  void iterate(std::int64_t ahead, int lost = 0, int steps = 1000, bool begin = true) {
    if (begin) session_->begin();
    const std::int64_t epoch = session_->statistics().epoch;
    std::deque<Slice> out;
    bool more = true;
    for (int step = 1; step <= steps; ++step) {
      while (more && static_cast<std::int64_t>(out.size()) <= ahead) {
        const Slice slice = session_->next(kBatch);
        more = slice.count > 0;
        if (more) out.push_back(slice);
      }
      if (out.empty()) return;
      const Slice slice = out.front();
      out.pop_front();
      if (step == lost) continue;
      session_->observe(
          losses_of(slice, [&](std::int64_t id) { return loss_of(id, epoch); }).data(),
          slice.count);
    }
  }

  /// Scores that are of another sample.
  std::int64_t wrong() const {
    std::int64_t count = 0;
    for (std::int64_t id = 0; id < size_; ++id) {
      const float score = session_->scores()[id];
      count += is_finite(score) && (static_cast<std::int64_t>(score) - 1) % 1000 != id ? 1 : 0;
    }
    return count;
  }
  /// Scores of this epoch.
  std::int64_t of_epoch(std::int64_t epoch) const {
    std::int64_t count = 0;
    for (std::int64_t id = 0; id < size_; ++id) {
      count += session_->scores()[id] == loss_of(id, epoch) ? 1 : 0;
    }
    return count;
  }

  Session& session() { return *session_; }

 private:
  void renew() {
    session_ = std::make_unique<Session>(size_, config_, 1);
    session_->set_warning_handler([](const std::string&) {});
  }

  std::int64_t size_;
  Config config_;
  std::unique_ptr<Session> session_;
};

}  // namespace

TEST_CASE("soundness: an epoch that is left behind a load enters as if never stopped",
          "[session][soundness][resume]") {
  const bool loses = GENERATE(false, true);  // else the loop just breaks off
  const bool stops = GENERATE(false, true);
  const std::int64_t ahead = GENERATE(0, 2);
  CAPTURE(loses, stops, ahead);
  const auto scores = [&](bool stop) {
    auto run = std::make_unique<Run>(64);
    run->iterate(ahead);
    // A batch is lost behind the last delivery, or the loop ends with batches in hand.
    if (loses) {
      run->iterate(ahead, /*lost=*/ahead == 0 ? 8 : 6);
    } else {
      run->iterate(ahead, 0, /*steps=*/5);
    }
    if (stop) run->stop_and_resume();
    run->session().set_epoch(2);
    REQUIRE(run->wrong() == 0);
    return score_bits(run->session());
  };
  REQUIRE(scores(stops) == scores(false));
}

TEST_CASE("soundness: a doubt that was found behind a load outlives the next save",
          "[session][soundness][resume]") {
  const bool at_the_end = GENERATE(false, true);
  Run run(128);
  run.iterate(
      2, /*lost=*/1, /*steps=*/5);  // the first batch of all is lost: it looks one further ahead
  run.stop_and_resume();
  run.iterate(2, 0, at_the_end ? 1000 : 8);
  run.stop_and_resume();
  run.iterate(2, 0, at_the_end ? 0 : 1000, /*begin=*/!at_the_end);
  run.session().set_epoch(1);
  REQUIRE(run.wrong() == 0);
  REQUIRE(run.session().statistics().dropped_total == 32);
}

TEST_CASE("soundness: a loader that runs less far ahead than it did proves nothing",
          "[session][soundness]") {
  Run run(128);
  run.iterate(4);
  run.iterate(2, /*lost=*/1, /*steps=*/9);  // a new loader loses its first batch, and breaks off
  run.session().next(kBatch);
  run.session().begin();
  REQUIRE(run.wrong() == 0);
}

TEST_CASE("soundness: a prefetcher that is declared may run as it likes behind a load",
          "[session][soundness][resume]") {
  Run run(128, /*lookahead=*/true);
  run.iterate(4, 0, 6);
  run.stop_and_resume();
  run.iterate(1);
  run.session().set_epoch(1);
  REQUIRE(run.of_epoch(0) == 128);
  REQUIRE(run.session().statistics().dropped_total == 0);
}

TEST_CASE("set_epoch behind a load goes on in the midst, also when it is saved again",
          "[session][resume]") {
  Run run(64);
  run.iterate(0, 0, 4);
  run.stop_and_resume();
  run.session().set_epoch(0);
  run.stop_and_resume();
  run.session().set_epoch(0);
  REQUIRE(run.session().position() == 32);
  run.session().begin();
  REQUIRE(run.session().next(kBatch).begin == 32);
}

TEST_CASE("stage keeps what it was given, whoever holds the array", "[session][lent_arrays]") {
  Run run(64);
  Session& session = run.session();
  session.begin();
  std::vector<std::int64_t> ids;
  SECTION("an own array, the lent one was never asked for") {}
  SECTION("the array was lent, and the epoch discarded") {
    session.epoch_arrays();
    session.discard_epoch();
    session.begin();
  }
  SECTION("the array was lent, and the iteration began anew") {
    session.epoch_arrays();
    session.begin();
  }
  for (Slice s = session.next(kBatch); s.count > 0; s = session.next(kBatch)) {
    ids.insert(ids.end(), s.ids(), s.ids() + s.count);
  }
  std::vector<float> losses;
  for (const std::int64_t id : ids) losses.push_back(loss_of(id, 0));
  for (std::int64_t begin = 0; begin < 64; begin += 16) {
    session.stage(losses.data() + begin, begin, 16);
    REQUIRE(session.position() == begin + 16);
  }
  session.set_epoch(1);
  REQUIRE(run.of_epoch(0) == 64);
}

TEST_CASE(
    "what is written to a lent array behind a look enters, and a discard gives back the scores",
    "[session][lent_arrays]") {
  const bool early = GENERATE(false, true);  // written before the look, and once more behind it
  Run run(64);
  run.iterate(0);
  Session& session = run.session();
  session.begin();
  const std::vector<std::uint32_t> before = score_bits(session);
  const EpochArrays arrays = session.epoch_arrays();
  const auto write = [&] {
    for (std::int64_t p = 0; p < arrays.size; ++p) arrays.losses[p] = loss_of(arrays.ids[p], 1);
  };
  while (session.next(kBatch).count > 0) session.advance(kBatch);
  if (early) write();
  const std::string saved = session.serialize();
  session.length();  // looks at the next epoch
  write();
  if (early) REQUIRE(session.serialize() == saved);
  SECTION("it enters") {
    session.begin();
    REQUIRE(run.of_epoch(1) == 64);
  }
  SECTION("it is discarded") {
    session.discard_epoch();
    REQUIRE(score_bits(session) == before);
  }
}

TEST_CASE("rows resumed near the end: the short batch that the loader drops is known as one",
          "[session][resume]") {
  // 42 rows in batches of 8, the last two dropped. Stopped behind each whole batch.
  for (const int ahead : {0, 2}) {
    for (const bool declared : {false, true}) {
      for (int stop = 1; stop <= 5; ++stop) {
        CAPTURE(ahead, declared, stop);
        Config config = config_of(10, 0.0);
        if (declared) config.drop_last = true;
        auto session = std::make_unique<Session>(42, config, 1);
        session->begin();
        std::int64_t delivered = 0;
        for (int step = 1; step <= stop; ++step) {
          while (delivered < 42 && delivered < (step + ahead) * kBatch) {
            delivered += session->next_rows(std::min<std::int64_t>(kBatch, 42 - delivered)).count;
          }
          session->observe(std::vector<float>(kBatch, 1.0f).data(), kBatch);
        }
        const std::string state = session->serialize();
        session = std::make_unique<Session>(42, config, 1);
        session->deserialize(state);
        // The rest, as often as a loop asks for an epoch's batches.
        for (int turn = 0; turn < 3 && session->epoch() == 0; ++turn) {
          session->begin();
          std::int64_t out = 0;
          while (true) {
            const std::int64_t count = session->next_rows(kBatch).count;
            out += count;
            if (count < kBatch) break;
          }
          for (; out >= kBatch; out -= kBatch) {
            session->observe(std::vector<float>(kBatch, 1.0f).data(), kBatch);
          }
        }
        REQUIRE(session->epoch() == 1);
        session->begin();
        REQUIRE(session->statistics().dropped_total == 0);
      }
    }
  }
}

TEST_CASE("an epoch whose tail is declared to be dropped is done without it", "[session]") {
  Config config = config_of(10, 0.0);
  config.drop_last = true;
  Session session(42, config, 1);
  session.begin();
  for (Slice slice = session.next(kBatch); slice.count == kBatch; slice = session.next(kBatch)) {
    session.observe(std::vector<float>(kBatch, 1.0f).data(), kBatch);
  }
  REQUIRE(session.epoch() == 1);
  REQUIRE(session.progress() == 0.1);
}

TEST_CASE("a part of a tail that was declared to be dropped takes no progress back", "[session]") {
  Config config = config_of(10, 0.0);
  config.drop_last = true;
  Session session(45, config, 1);
  const std::vector<float> losses(kBatch, 1.0f);
  session.begin();
  for (int batch = 0; batch < 5; ++batch) {
    session.next(kBatch);
    session.observe(losses.data(), kBatch / 2);
    session.observe(losses.data(), kBatch / 2);
  }
  const Slice tail = session.next(kBatch);
  REQUIRE(tail.count > 1);
  REQUIRE(session.progress() == 0.1);
  session.observe(losses.data(), tail.count - 1);
  REQUIRE(session.progress() == 0.1);
}
