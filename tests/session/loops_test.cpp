#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

// Random loops over a session, some of which lose a row, a part of a batch or a batch, break off,
// or are stopped and resumed. Every loss says which sample it is of, so a score that belongs to
// another sample is seen. What must hold (docs/rules.md, soundness):
//
//   - no score of another sample, ever;
//   - no weight of another sample behind the next delivery after a loss;
//   - no clean loop is refused, warned of, or loses a score.

using namespace infobatch;
using namespace infobatch::testing;

namespace {

enum class Fault { kNone, kRow, kPart, kBatch };

struct Setting {
  std::int64_t size = 1;
  bool rows = false;  // the loader takes rows, its batches are not known
  std::int64_t batch = 1;
  std::int64_t part = 1;   // samples of an update
  std::int64_t ahead = 0;  // batches that the loader prefetches
  bool drops = false;      // it drops a short last batch
  std::optional<bool> declared;
  Fault fault = Fault::kNone;
  std::int64_t fault_epoch = 0;
  std::int64_t fault_batch = 0;
  std::int64_t off_epoch = -1;  // the loop breaks off in this epoch, behind off_batch batches
  std::int64_t off_batch = 0;
  std::int64_t stop_epoch = -1;  // the run is stopped in this epoch behind stop_batch batches,
  std::int64_t stop_batch = 0;   // and resumed with the next three
  std::int64_t next_batch = 1;
  std::int64_t next_part = 1;
  std::int64_t next_ahead = 0;
};

constexpr std::int64_t kEpochs = 4;

/// A loss that names its sample and epoch, exactly.
float loss_of(std::int64_t id, std::int64_t epoch) {
  // Hard and easy samples, so that the plans prune: about half lie below the mean.
  return static_cast<float>(1 + id + 1024 * (4 * (id % 3) + epoch));
}
std::int64_t id_of(float loss) { return (static_cast<std::int64_t>(loss) - 1) % 1024; }

Setting draw(std::mt19937_64& random) {
  const auto upto = [&](std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>(0, most)(random);
  };
  Setting s;
  s.size = 1 + upto(200);
  s.rows = upto(3) == 0;
  const auto choose_part = [&](std::int64_t batch) {
    return s.rows || upto(1) == 0 ? batch : 1 + upto(batch - 1);
  };
  s.batch = 1 + upto(40);
  s.part = choose_part(s.batch);
  s.ahead = upto(4) < 2 ? 0 : upto(8);
  s.drops = upto(2) == 0;
  if (upto(1) == 0) s.declared = s.drops;
  if (upto(1) == 0) s.fault = static_cast<Fault>(1 + upto(2));
  s.fault_epoch = upto(kEpochs - 1);
  s.fault_batch = upto(s.size / s.batch);
  if (upto(5) == 0) {
    s.off_epoch = upto(kEpochs - 1);
    s.off_batch = upto(s.size / s.batch);
  }
  if (upto(2) == 0) {
    s.stop_epoch = upto(kEpochs - 1);
    s.stop_batch = upto(s.size / s.batch);
  }
  s.next_batch = upto(1) == 0 ? s.batch : 1 + upto(40);
  s.next_part = s.next_batch == s.batch ? s.part : choose_part(s.next_batch);
  s.next_ahead = s.ahead;
  return s;
}

std::string describe(const Setting& s) {
  char text[400];
  std::snprintf(text,
                sizeof text,
                "N=%lld rows=%d B=%lld m=%lld P=%lld drops=%d declared=%d fault=%d in %lld at %lld "
                "off %lld/%lld stop %lld/%lld then B=%lld m=%lld",
                (long long)s.size,
                s.rows,
                (long long)s.batch,
                (long long)s.part,
                (long long)s.ahead,
                s.drops,
                s.declared ? int(*s.declared) : -1,
                int(s.fault),
                (long long)s.fault_epoch,
                (long long)s.fault_batch,
                (long long)s.off_epoch,
                (long long)s.off_batch,
                (long long)s.stop_epoch,
                (long long)s.stop_batch,
                (long long)s.next_batch,
                (long long)s.next_part);
  return text;
}

class Loop {
 public:
  explicit Loop(const Setting& setting) : s_(setting) { renew(); }

  enum class End { kRan, kRefused };

  End run() {
    for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
      session_->set_epoch(epoch);
      while (true) {  // a second time where it is stopped and resumed
        const Pass pass = run_epoch(epoch);
        if (pass == Pass::kRefused) return End::kRefused;
        if (pass == Pass::kEnded) break;
      }
    }
    session_->set_epoch(kEpochs);
    return End::kRan;
  }

  const Session& session() const { return *session_; }
  bool hurt() const { return hurt_; }
  bool broke_off() const { return broke_off_; }
  bool wrong_weight() const { return wrong_weight_; }
  bool unknowable() const { return unknowable_; }
  bool warned() const { return *warned_; }
  /// Losses that truly came for each sample, the last one last.
  const std::map<std::int64_t, float>& given() const { return given_; }

 private:
  enum class Pass { kEnded, kStopped, kRefused };

  void renew() {
    Config config = config_of(kEpochs + 1);
    config.delta = 1.0;
    config.drop_last = s_.declared;
    session_ = std::make_unique<Session>(s_.size, config, 1);
    session_->set_warning_handler([warned = warned_](const std::string& text) {
      if (text.find("were dropped") != text.npos) *warned = true;
    });
  }

  bool pull() {
    const Slice slice = s_.rows ? session_->next_rows(s_.batch) : session_->next(s_.batch);
    if (slice.count == 0) return false;
    queue_.push_back({slice.ids(), slice.ids() + slice.count});
    ++deliveries_;
    return true;
  }

  void update(const std::vector<std::int64_t>& rows, std::int64_t epoch) {
    std::vector<float> losses;
    for (const std::int64_t id : rows) losses.push_back(loss_of(id, epoch));
    const Slice slice = session_->observe(losses.data(), std::int64_t(losses.size()));
    if (!std::equal(rows.begin(), rows.end(), slice.ids())) {
      // Only what is out when something is lost may get another's weight, and where the first
      // batches of an epoch are lost, which look like a loader that runs further ahead.
      const bool excused = hurt_ && (deliveries_ == deliveries_at_fault_ || !updated_before_fault_);
      if (!excused) wrong_weight_ = true;
    }
    updated_ = true;
    for (const std::int64_t id : rows) given_[id] = loss_of(id, epoch);
  }

  Pass run_epoch(std::int64_t epoch) {
    session_->begin();
    queue_.clear();
    updated_ = false;
    try {
      for (std::int64_t i = 0; i < s_.ahead; ++i) pull();
      for (;; ++batches_) {
        pull();
        if (queue_.empty()) break;
        std::vector<std::int64_t> rows = queue_.front();
        queue_.pop_front();
        const bool last = std::int64_t(rows.size()) < s_.batch;
        if (s_.drops && last) continue;
        if (epoch == s_.stop_epoch && batches_ >= s_.stop_batch && !stopped_) return stop(epoch);
        if (epoch == s_.off_epoch && batches_ >= s_.off_batch) {
          broke_off_ = true;
          break;
        }
        const bool here = epoch == s_.fault_epoch && batches_ == s_.fault_batch && !hurt_;
        const Fault fault = here ? s_.fault : Fault::kNone;
        if (fault != Fault::kNone) hurt(epoch);
        if (fault == Fault::kBatch) continue;
        if (fault == Fault::kRow) rows.erase(rows.begin() + std::int64_t(rows.size()) / 2);
        const std::int64_t parts = (std::int64_t(rows.size()) + s_.part - 1) / s_.part;
        for (std::int64_t p = 0; p < parts; ++p) {
          if (fault == Fault::kPart && p == parts / 2) continue;
          const std::int64_t from = p * s_.part;
          const std::int64_t to = std::min(from + s_.part, std::int64_t(rows.size()));
          update({rows.begin() + from, rows.begin() + to}, epoch);
        }
      }
    } catch (const StateError&) {
      return Pass::kRefused;
    }
    batches_ = 0;
    return Pass::kEnded;
  }

  void hurt(std::int64_t epoch) {
    hurt_ = true;
    hurt_epoch_ = epoch;
    deliveries_at_fault_ = deliveries_;
    updated_before_fault_ = updated_;
  }

  Pass stop(std::int64_t epoch) {
    stopped_ = true;
    const std::string state = session_->serialize();
    // What nobody can know: a batch that was lost before the first update of an epoch, or when no
    // delivery was to come, in an epoch that is stopped and resumed.
    if (hurt_ && hurt_epoch_ == epoch) {
      unknowable_ = !updated_before_fault_ || deliveries_ == deliveries_at_fault_;
    }
    renew();
    session_->deserialize(state);
    s_.batch = s_.next_batch;
    s_.part = s_.next_part;
    s_.ahead = s_.next_ahead;
    batches_ = 0;
    return Pass::kStopped;
  }

  Setting s_;
  std::unique_ptr<Session> session_;
  std::shared_ptr<bool> warned_ = std::make_shared<bool>(false);
  std::deque<std::vector<std::int64_t>> queue_;
  std::map<std::int64_t, float> given_;
  std::int64_t batches_ = 0;
  std::int64_t deliveries_ = 0;
  std::int64_t deliveries_at_fault_ = -1;
  std::int64_t hurt_epoch_ = -1;
  bool updated_ = false;
  bool updated_before_fault_ = false;
  bool hurt_ = false;
  bool broke_off_ = false;
  bool stopped_ = false;
  bool wrong_weight_ = false;
  bool unknowable_ = false;
};

struct Tally {
  std::int64_t clean = 0, refused = 0, dropped = 0, right = 0, broke_off = 0, unknowable = 0;
};

void require_no_wrong_score(std::int64_t runs) {
  std::mt19937_64 random(2026);
  Tally tally;
  for (std::int64_t run = 0; run < runs; ++run) {
    const Setting setting = draw(random);
    Loop loop(setting);
    const Loop::End end = loop.run();
    const auto fail = [&](const char* what) {
      INFO(what << ": " << describe(setting));
      FAIL();
    };
    if (loop.wrong_weight()) fail("a weight of another sample");
    if (loop.unknowable()) {
      ++tally.unknowable;
      continue;
    }
    std::int64_t lost = 0;
    for (std::int64_t id = 0; id < setting.size; ++id) {
      const float score = loop.session().scores()[id];
      const auto given = loop.given().find(id);
      if (is_finite(score) && id_of(score) != id) fail("a score of another sample");
      if (given != loop.given().end() && score != given->second) ++lost;
    }
    const bool clean = !loop.hurt() && !loop.broke_off();
    if (clean && end == Loop::End::kRefused) fail("a clean loop was refused");
    // A loader that drops its last batch after it split others has to say so.
    const bool split = setting.part != setting.batch || setting.next_part != setting.next_batch;
    // Of rows, a batch is known once two of them came back before the end of the plan.
    const bool unknown = setting.rows && (setting.stop_epoch >= 0 ||
                                          setting.size < 3 * (setting.ahead + 3) * setting.batch ||
                                          !setting.declared);
    const bool undeclared = setting.drops && ((split && !setting.declared) || unknown);
    if (clean && !undeclared && lost > 0) fail("a clean loop lost scores");
    if (clean && !undeclared && loop.warned()) fail("a clean loop was warned of");
    if (clean) {
      ++tally.clean;
    } else if (end == Loop::End::kRefused) {
      ++tally.refused;
    } else if (loop.hurt()) {
      ++(loop.warned() ? tally.dropped : tally.right);
    } else {
      ++tally.broke_off;
    }
  }
  // The settings lead into every corner.
  CAPTURE(
      tally.clean, tally.refused, tally.dropped, tally.right, tally.broke_off, tally.unknowable);
  REQUIRE(tally.clean > runs / 4);
  REQUIRE(tally.refused > runs / 12);
  REQUIRE(tally.dropped > runs / 120);
  REQUIRE(tally.right > runs / 400);
  REQUIRE(tally.broke_off > runs / 40);
  REQUIRE(tally.unknowable < runs / 20);
  if (std::getenv("INFOBATCH_PRINT_CASES") != nullptr) {
    std::printf(
        "%lld loops: %lld clean, %lld refused, %lld with losses dropped and warned of, %lld "
        "hurt without harm, %lld broken off, %lld that nobody can judge; no wrong score\n",
        (long long)runs,
        (long long)tally.clean,
        (long long)tally.refused,
        (long long)tally.dropped,
        (long long)tally.right,
        (long long)tally.broke_off,
        (long long)tally.unknowable);
  }
}

}  // namespace

TEST_CASE("soundness: random loops never leave a score with another sample", "[session][loops]") {
  require_no_wrong_score(4000);
}

TEST_CASE("soundness: a great many random loops never leave a score with another sample",
          "[session][loops][slow]") {
  require_no_wrong_score(120'000);
}
