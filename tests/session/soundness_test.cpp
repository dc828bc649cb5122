#include <infobatch/session/delivery.hpp>
#include <infobatch/session/soundness.hpp>
#include <tests/support/catch2_shim.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

// The soundness checks of docs/rules.md as a table of cases, written from the rules. Each case is a
// short story of one epoch, told in words:
//
//     b10     the loader asks for a batch of 10 and gets it (b10:4 gets 4, at the end of the plan)
//     again   it asks once more behind the end
//     r5      it takes 5 rows one by one: its batches are not known
//     u10     an update in order brings 10 losses
//     i10     10 positions are observed by ids
//     b10!    refused: samples are out that this loader does not use to have out (check a)
//     u10!    refused, by the words behind it: out, batch, part, rows
//
// and of what must hold at its end: whether the epoch is over, and how many losses enter the
// scores.

using namespace infobatch;
using namespace infobatch::detail;

namespace {

enum class Over { kOpen, kWhole, kTail };

struct Case {
  const char* why;
  std::int64_t kept;
  const char* story;
  Over over;
  std::int64_t enter;  // losses that enter the scores if the epoch is closed now
  std::optional<bool> drop_last = std::nullopt;
  std::int64_t known_lag = -1;  // how far the loader ran ahead in an earlier epoch observed whole
  bool lookahead = false;
  std::int64_t known_batch = 10;
};

constexpr auto kDrops = std::optional<bool>(true);
constexpr auto kKeeps = std::optional<bool>(false);
const std::optional<bool> kSilent = std::nullopt;

// clang-format off: a table
std::vector<Case> cases() {
  return {
      // Rule 15: the end of an epoch.
      {"nothing was delivered", 30, "", Over::kOpen, 0},
      {"all came back", 30, "b10 u10 b10 u10 b10 u10", Over::kWhole, 30},
      {"all came back, with a short last batch", 25, "b10 u10 b10 u10 b10:5 u5", Over::kWhole, 25},
      {"delivered to the end and not observed", 20, "b10 b10", Over::kOpen, 0},
      {"an empty plan is over when it has begun", 0, "again", Over::kWhole, 0},
      {"one batch is the whole plan", 10, "b10 u10", Over::kWhole, 10},
      {"by ids all was met", 20, "b10 b10 i20", Over::kWhole, 20},
      {"by ids some are missing", 20, "b10 b10 i19", Over::kOpen, 20},

      // Check d: the dropped tail.
      {"the short last batch is missing, nobody said why: it is the loader's",
       25,
       "b10 u10 b10 u10 b10:5",
       Over::kTail,
       20},
      {"it is declared", 25, "b10 u10 b10 u10 b10:5", Over::kTail, 20, kDrops},
      {"declared that it does not drop: the batch is pending",
       25,
       "b10 u10 b10 u10 b10:5",
       Over::kOpen,
       20,
       kKeeps},
      {"a batch that is not short is never dropped", 20, "b10 u10 b10", Over::kOpen, 10},
      {"a part of the short batch came: it was not dropped whole",
       25,
       "b10 u10 b10 u10 b10:5 u3! part",
       Over::kTail,
       20},
      {"batches were split, undeclared: a part may be pending",
       25,
       "b10 u5 u5 b10 u5 u5 b10:5",
       Over::kOpen,
       20},
      {"split and declared", 25, "b10 u5 u5 b10 u5 u5 b10:5", Over::kTail, 20, kDrops},
      {"split and declared, and a part of the short batch came: the rest of it is lost, not "
       "dropped",
       18,
       "b10 u5 u5 b10:8 u5",
       Over::kOpen,
       10,
       kDrops},
      {"a plan smaller than a batch, dropped", 7, "b10:7", Over::kTail, 0},
      {"the same, and the loader came back: it only looked", 7, "b10:7 again", Over::kOpen, 0},
      {"the same, declared", 7, "b10:7 again", Over::kTail, 0, kDrops},
      {"by ids no more is missing than a short last batch",
       25,
       "b10 b10 b10:5 i20",
       Over::kTail,
       25},
      {"by ids, and declared that nothing is dropped",
       25,
       "b10 b10 b10:5 i20",
       Over::kOpen,
       25,
       kKeeps},

      // Check a: lag.
      {"a batch was lost: the next delivery notices", 40, "b10 u10 b10 b10! u10", Over::kOpen, 20},
      {"the same at the last batch: nothing notices, nothing wrong enters",
       30,
       "b10 u10 b10 u10 b10",
       Over::kOpen,
       20},
      {"a loader two batches ahead",
       50,
       "b10 b10 b10 u10 b10 u10 b10 u10 u10 u10",
       Over::kWhole,
       50},
      {"two ahead, one more is too many", 60, "b10 b10 b10 u10 b10 b10!", Over::kOpen, 0},
      {"asking again behind the end is no delivery", 20, "b10 b10 u10 again u10", Over::kWhole, 20},
      {"a prefetcher that runs further ahead later, undeclared",
       60,
       "b10 u10 b10 b10!",
       Over::kOpen,
       10},
      {"the same, declared", 30, "b10 u10 b10 b10 u10 u10", Over::kWhole, 30, kSilent, -1, true},

      // Check b: batch ends and parts.
      {"more losses than samples out", 30, "b10 u11! out", Over::kOpen, 0},
      {"a second update on one batch", 30, "b10 u10 u10! out", Over::kOpen, 10},
      {"two batches in one update", 30, "b10 b10 u20! batch", Over::kOpen, 0},
      {"a row is missing behind a whole batch", 30, "b10 u10 b10 u9! part", Over::kOpen, 10},
      {"parts of four and a rest", 20, "b10 u4 u4 u2 b10 u4 u4 u2", Over::kWhole, 20},
      {"another part than the first", 20, "b10 u4 u3! part u4 u2", Over::kOpen, 10},
      {"the rest is no whole part", 20, "b10 u4 u4 u1! part u2", Over::kOpen, 10},
      {"a part was lost in the midst", 20, "b10 u4 u2! part", Over::kOpen, 0},
      {"a part was lost at the end of a batch", 20, "b10 u4 u4 b10!", Over::kOpen, 0},
      {"a short batch is one part", 13, "b10 u5 u5 b10:3 u3", Over::kWhole, 13},
      {"a short batch in as many equal parts as the others",
       13,
       "b10 u5 u5 b10:3 u2 u1",
       Over::kWhole,
       13},
      {"and no other rest then", 13, "b10 u5 u5 b10:3 u2 u2! out u1", Over::kWhole, 13},
      {"a short batch in more parts than the others",
       13,
       "b10 u5 u5 b10:3 u1! part u2 u1",
       Over::kWhole,
       13},
      {"four parts of three at most: of a short batch of seven, two at a time",
       17,
       "b10 u3 u3 u3 u1 b10:7 u2 u2 u2 u1",
       Over::kWhole,
       17},
      {"a whole batch that is not short keeps its parts",
       20,
       "b10 u5 u5 b10 u3! part u5 u5",
       Over::kWhole,
       20},
      {"a row of the short batch is missing: it is not whole, and does not enter",
       13,
       "b10 u5 u5 b10:3 u2",
       Over::kOpen,
       10},
      {"whole batches, then a part", 20, "b10 u10 b10 u5! part u10", Over::kWhole, 20},
      {"nothing is no update", 10, "b10 u0 u10", Over::kWhole, 10},

      // Check c: rows, batches unknown.
      {"rows in batches of 10", 30, "r10 u10 r10 u10 r10 u10", Over::kWhole, 30},
      {"with a short last batch", 25, "r10 u10 r10 u10 r5 u5", Over::kWhole, 25},
      {"the short last batch dropped", 25, "r10 u10 r10 u10 r5", Over::kTail, 20},
      {"declared that it is not dropped", 25, "r10 u10 r10 u10 r5", Over::kOpen, 20, kKeeps},
      {"a row is missing, before the second update shows the batch",
       40,
       "r10 u10 r10 u9! rows",
       Over::kOpen,
       0},
      {"a row is missing later", 40, "r10 u10 r10 u10 r10 u9! rows", Over::kOpen, 20},
      {"a row is missing in the first batch: the second shows it",
       40,
       "r10 u9 r10 u10! rows",
       Over::kOpen,
       0},
      {"a split batch needs a batch sampler", 40, "r10 u5 u5 r10 u5! rows", Over::kOpen, 0},
      {"two ahead", 50, "r30 u10 r10 u10 r10 u10 u10 u10", Over::kWhole, 50},
      {"a batch was lost: more was pulled than one batch",
       60,
       "r10 u10 r10 u10 r10 r10 u10! rows",
       Over::kOpen,
       20},
      {"two ahead and a batch lost", 80, "r30 u10 r10 u10 r10 r10 u10! rows", Over::kOpen, 0},
      {"with lookahead any number of rows may be pulled between two updates",
       60,
       "r10 u10 r20 u10 r10 u10 r20 u10 u10 u10",
       Over::kWhole,
       60,
       kSilent,
       -1,
       true},
      {"but an update brings as many as the first",
       60,
       "r10 u10 r20 u9! rows",
       Over::kOpen,
       0,
       kSilent,
       -1,
       true},
      {"rows one by one", 6, "r1 r1 r1 u3 r1 r1 r1 u3", Over::kWhole, 6},

      // Check d: a loop that broke off. Verified is what was observed up to the last delivery.
      {"broken off, never ahead: all is verified", 50, "b10 u10 b10 u10", Over::kOpen, 20},
      {"broken off with a batch in hand", 50, "b10 u10 b10 u10 b10", Over::kOpen, 20},
      {"one ahead, and two updates on one batch: nothing is out, and nothing is known",
       50,
       "b10 b10 u10 u10",
       Over::kOpen,
       0},
      {"the same later: what was verified enters at most",
       60,
       "b10 b10 u10 b10 u10 u10",
       Over::kOpen,
       0},
      {"one ahead, and no epoch yet that shows that it is one",
       50,
       "b10 b10 u10 b10 u10 b10",
       Over::kOpen,
       0},
      {"one ahead, as in an earlier epoch",
       50,
       "b10 b10 u10 b10 u10 b10",
       Over::kOpen,
       20,
       kSilent,
       10},
      {"one ahead as earlier, and two updates on one batch: verified up to there",
       90,
       "b10 b10 u10 b10 u10 b10 u10 u10 b10 b10 u10 b10",
       Over::kOpen,
       20,
       kSilent,
       10},
      {"further ahead than in an earlier epoch: a batch may be lost",
       50,
       "b10 b10 b10 u10 b10 u10 b10",
       Over::kOpen,
       0,
       kSilent,
       10},
      {"not as far ahead as earlier: it got shorter, or a batch is lost as well",
       50,
       "b10 b10 u10 b10 u10 b10",
       Over::kOpen,
       0,
       kSilent,
       30},
      {"as far ahead as earlier, but of other batches: nothing is known of those",
       50,
       "b5 b5 b5 u5 b5 u5 b5",
       Over::kOpen,
       0,
       kSilent,
       10},
      {"one ahead and a batch lost near the end: only what was verified enters",
       40,
       "b10 b10 u10 b10 u10 b10 u10",
       Over::kOpen,
       20,
       kSilent,
       10},
      {"with lookahead nothing is verified",
       50,
       "b10 u10 b10 u10 b10",
       Over::kOpen,
       0,
       kSilent,
       -1,
       true},
      {"with lookahead, all that was out came back",
       50,
       "b10 u10 b10 u10",
       Over::kOpen,
       20,
       kSilent,
       -1,
       true},
      {"broken off in the midst of a batch", 50, "b10 u5 u5 b10 u5", Over::kOpen, 10},
      {"by ids all that came enters", 50, "b10 b10 i20", Over::kOpen, 50},
  };
}

// clang-format on

class Epoch {
 public:
  explicit Epoch(const Case& of) {
    facts_.kept = of.kept;
    facts_.begun = true;
    facts_.drop_last = of.drop_last;
    facts_.known_lag = of.known_lag;
    facts_.known_batch = of.known_batch;
    facts_.lookahead = of.lookahead;
    delivery_.reserve();
    delivery_.start_at(facts_, 0);
  }

  /// Tells the story; every refusal must be where it says so, and nowhere else.
  void live(const std::string& story) {
    std::istringstream words(story);
    for (std::string word; words >> word;) {
      INFO(word);
      const bool refused = word.back() == '!';
      if (refused) word.pop_back();
      if (word == "again") {
        delivery_.deliver(facts_, 10, 0);
        continue;
      }
      const char kind = word[0];
      const std::int64_t count = std::atoll(word.c_str() + 1);
      const std::size_t colon = word.find(':');
      if (kind == 'b') {
        const std::int64_t got = colon == std::string::npos ? count : std::atoll(&word[colon + 1]);
        REQUIRE(facts_.delivered + got <= facts_.kept);
        REQUIRE(lost_before_delivery(facts_) == refused);
        if (refused) continue;
        delivery_.reserve();
        delivery_.deliver(facts_, count, got);
      } else if (kind == 'r') {
        const bool begins = facts_.batch > 0 && delivery_.pulled() == 0;
        REQUIRE((begins && lost_before_delivery(facts_)) == refused);
        if (!refused) delivery_.deliver_rows(facts_, count);
      } else if (kind == 'u') {
        std::string reason;
        if (refused) words >> reason;
        update(count, reason);
      } else {
        REQUIRE(kind == 'i');
        delivery_.observed_by_ids(facts_, count);
      }
    }
  }

  const EpochFacts& facts() const { return facts_; }

 private:
  void update(std::int64_t count, const std::string& reason) {
    const UpdateFault fault = facts_.rows ? check_rows_update(facts_, count, delivery_.pulled())
                                          : check_update(facts_, count, delivery_.oldest());
    if (count == 0) return;
    REQUIRE(word_for(fault) == reason);
    if (fault == UpdateFault::kNone) delivery_.observed(facts_, count);
  }

  static std::string word_for(UpdateFault fault) {
    switch (fault) {
      case UpdateFault::kNone:
        return "";
      case UpdateFault::kNotDelivered:
        return "out";
      case UpdateFault::kBeyondBatch:
        return "batch";
      case UpdateFault::kOtherPart:
        return "part";
      case UpdateFault::kOtherBatch:
      case UpdateFault::kOtherSize:
        return "rows";
    }
    return "?";
  }

  EpochFacts facts_;
  Delivery delivery_;
};

Over over(const EpochFacts& facts) {
  switch (ending_of(facts)) {
    case Ending::kOpen:
      return Over::kOpen;
    case Ending::kWhole:
      return Over::kWhole;
    case Ending::kTailDropped:
      return Over::kTail;
  }
  return Over::kOpen;
}

}  // namespace

TEST_CASE("soundness: the table of cases and their verdicts", "[session][soundness]") {
  const bool print = std::getenv("INFOBATCH_PRINT_CASES") != nullptr;
  for (const Case& of : cases()) {
    INFO(of.why << ": K = " << of.kept << ": " << of.story);
    Epoch epoch(of);
    epoch.live(of.story);
    const Over verdict = over(epoch.facts());
    const std::int64_t enter = trusted_of(epoch.facts()).count();
    if (print) {
      std::printf("| %s | %lld | %s | %s | %lld |\n",
                  of.why,
                  static_cast<long long>(of.kept),
                  of.story,
                  verdict == Over::kOpen    ? "no"
                  : verdict == Over::kWhole ? "whole"
                                            : "tail dropped",
                  static_cast<long long>(enter));
    }
    REQUIRE(verdict == of.over);
    REQUIRE(enter == of.enter);
  }
}

TEST_CASE("soundness: a load remembers a lag that nothing has proven", "[session][soundness]") {
  // Two batches of 10 observed in the first epoch, by a loader that seemed to be one batch ahead:
  // either it is, or the first batch was lost.
  Epoch before({"", 60, "", Over::kOpen, 0});
  before.live("b10 b10 u10 b10 u10 b10");
  REQUIRE(proven_of(before.facts()) == 0);
  REQUIRE(unproven_lag_batches(before.facts()) == 1);

  const auto resumed = [&](const std::string& story) {
    EpochFacts facts;
    facts.kept = 60;
    facts.begun = true;
    facts.by = ObservedBy::kOrder;
    facts.observed = 20;
    facts.lag_batches_before = 1;
    Delivery delivery;
    delivery.start_at(facts, 20);
    std::istringstream words(story);
    for (std::string word; words >> word;) {
      const std::int64_t count = std::atoll(word.c_str() + 1);
      delivery.reserve();
      if (word[0] == 'b') {
        delivery.deliver(facts, count, count);
      } else {
        delivery.observed(facts, count);
      }
    }
    return trusted_of(facts);
  };
  SECTION("the same loader is one ahead again: all enters") {
    const Trusted trusted = resumed("b10 b10 u10 b10 u10 b10 u10 u10");
    REQUIRE(trusted.count() == 60);
  }
  SECTION("it is not: what came before the load may be shifted") {
    const Trusted trusted = resumed("b10 u10 b10 u10 b10 u10 b10 u10");
    REQUIRE(trusted.end == 60);
    REQUIRE(trusted.gap_begin == 0);
    REQUIRE(trusted.gap_end == 20);
  }
  SECTION("batches of twice the size, one ahead: the same in batches") {
    const Trusted trusted = resumed("b20 b20 u20 u20");
    REQUIRE(trusted.count() == 60);
  }
  SECTION("all that was left was out before the first update: nothing can be told, all enters") {
    const Trusted trusted = resumed("b40 u40");
    REQUIRE(trusted.count() == 60);
  }
}

TEST_CASE("soundness: what is proven when it is saved", "[session][soundness]") {
  const auto proven = [](const char* story, std::int64_t known_lag) {
    Epoch epoch({"", 50, "", Over::kOpen, 0, std::nullopt, known_lag});
    epoch.live(story);
    return proven_of(epoch.facts());
  };
  REQUIRE(proven("b10 u10 b10 u10", -1) == 10);      // never ahead: up to the last delivery
  REQUIRE(proven("b10 b10 u10 b10 u10", -1) == 0);   // one ahead, unproven
  REQUIRE(proven("b10 b10 u10 b10 u10", 10) == 10);  // one ahead, as in an earlier epoch
  REQUIRE(proven("b10 u10 b10 u10 b10 u10 b10 u10 b10 u10", -1) == 50);  // whole
}
