#include <infobatch/session/delivery.hpp>
#include <tests/support/catch2_shim.hpp>

#include <cstdint>
#include <deque>
#include <random>
#include <utility>
#include <vector>

// What the figures of delivery are along sequences written by hand.

using infobatch::detail::Delivery;
using infobatch::detail::EpochFacts;
using infobatch::detail::kWholeBatch;
using infobatch::detail::ObservedBy;

namespace {

enum class What { kHand, kRows, kObserve, kIds, kEnd };

/// A call, and the figures behind it.
struct Step {
  What what;
  std::int64_t count;  // samples; kIds: positions covered
  std::int64_t oldest;
  std::int64_t offset;
  std::int64_t delivered;
  std::int64_t last;
  std::int64_t lag;
  std::int64_t verified;
};

struct Table {
  std::int64_t kept;
  std::int64_t asked;  // size of the batches asked for
  bool lookahead;
  std::vector<Step> steps;
};

struct Sequence {
  EpochFacts facts;
  Delivery delivery;

  explicit Sequence(std::int64_t kept, std::int64_t start = 0) {
    facts.kept = kept;
    delivery.start_at(facts, start);
  }
  void hand(std::int64_t asked, std::int64_t count) {
    delivery.reserve();
    delivery.deliver(facts, asked, count);
  }
};

Sequence follow(const Table& table) {
  Sequence run(table.kept);
  run.facts.lookahead = table.lookahead;
  std::int64_t observed = 0;
  for (std::size_t i = 0; i < table.steps.size(); ++i) {
    const Step& step = table.steps[i];
    CAPTURE(i);
    switch (step.what) {
      case What::kHand:
      case What::kEnd:
        run.hand(table.asked, step.count);
        break;
      case What::kRows:
        run.delivery.deliver_rows(run.facts, step.count);
        break;
      case What::kObserve:
        run.delivery.observed(run.facts, step.count);
        observed += step.count;
        REQUIRE(run.facts.by == ObservedBy::kOrder);
        break;
      case What::kIds:
        run.delivery.observed_by_ids(run.facts, step.count);
        observed = step.count;
        REQUIRE(run.facts.by == ObservedBy::kIds);
        break;
    }
    REQUIRE(run.delivery.oldest() == step.oldest);
    REQUIRE(run.facts.offset == step.offset);
    REQUIRE(run.facts.delivered == step.delivered);
    REQUIRE(run.facts.observed == observed);
    REQUIRE(run.facts.last == step.last);
    REQUIRE(run.facts.lag == step.lag);
    REQUIRE(run.facts.verified == step.verified);
    REQUIRE(run.facts.came_back == (step.what == What::kEnd));
  }
  return run;
}

}  // namespace

TEST_CASE("a loop without a loader: batch, update, batch, update", "[session][delivery]") {
  const Sequence run = follow({10,
                               4,
                               false,
                               // what, count, oldest, offset, delivered, last, lag, verified
                               {{What::kHand, 4, 4, 0, 4, 4, 0, 0},
                                {What::kObserve, 4, 0, 0, 4, 4, 0, 0},
                                {What::kHand, 4, 4, 0, 8, 4, 0, 4},
                                {What::kObserve, 4, 0, 0, 8, 4, 0, 4},
                                {What::kHand, 2, 2, 0, 10, 2, 0, 8},
                                {What::kObserve, 2, 0, 0, 10, 2, 0, 8},
                                {What::kEnd, 0, 0, 0, 10, 2, 0, 8}}});
  REQUIRE(run.facts.updates == 3);
  REQUIRE(run.facts.batch == 4);
  REQUIRE(run.facts.part == kWholeBatch);
  REQUIRE_FALSE(run.facts.split);
  REQUIRE_FALSE(run.facts.lag_cut);
}

TEST_CASE("a loader that runs ahead: the lag is what was out before a batch",
          "[session][delivery]") {
  const Sequence run = follow({14,
                               4,
                               false,
                               {{What::kHand, 4, 4, 0, 4, 4, 0, 0},
                                {What::kHand, 4, 4, 0, 8, 4, 4, 0},
                                {What::kObserve, 4, 4, 0, 8, 4, 4, 0},
                                {What::kHand, 4, 4, 0, 12, 4, 4, 4},
                                {What::kObserve, 4, 4, 0, 12, 4, 4, 4},
                                {What::kHand, 2, 4, 0, 14, 2, 4, 8},
                                {What::kEnd, 0, 4, 0, 14, 2, 4, 8}}});
  REQUIRE(run.facts.updates == 2);
  REQUIRE_FALSE(run.facts.lag_cut);
}

TEST_CASE("all delivered before the first update: the lag is cut", "[session][delivery]") {
  const Sequence run = follow({10,
                               4,
                               false,
                               {{What::kHand, 4, 4, 0, 4, 4, 0, 0},
                                {What::kHand, 4, 4, 0, 8, 4, 4, 0},
                                {What::kHand, 2, 4, 0, 10, 2, 8, 0},
                                {What::kObserve, 4, 4, 0, 10, 2, 8, 0},
                                {What::kObserve, 4, 2, 0, 10, 2, 8, 0},
                                {What::kObserve, 2, 0, 0, 10, 2, 8, 0}}});
  REQUIRE(run.facts.lag_cut);
  REQUIRE(run.facts.verified == 0);
}

TEST_CASE("batches in parts: the offset is what of the oldest came back", "[session][delivery]") {
  const Sequence run = follow({12,
                               5,
                               false,
                               {{What::kHand, 5, 5, 0, 5, 5, 0, 0},
                                {What::kObserve, 2, 5, 2, 5, 5, 0, 0},
                                {What::kObserve, 2, 5, 4, 5, 5, 0, 0},
                                {What::kObserve, 1, 0, 0, 5, 5, 0, 0},
                                {What::kHand, 5, 5, 0, 10, 5, 0, 5},
                                {What::kObserve, 2, 5, 2, 10, 5, 0, 5},
                                {What::kHand, 2, 5, 2, 12, 2, 0, 7},
                                {What::kObserve, 2, 5, 4, 12, 2, 0, 7},
                                {What::kObserve, 1, 2, 0, 12, 2, 0, 7},
                                {What::kObserve, 2, 0, 0, 12, 2, 0, 7}}});
  REQUIRE(run.facts.part == 2);
  REQUIRE(run.facts.split);
}

TEST_CASE("with lookahead nothing is verified", "[session][delivery]") {
  follow({12,
          4,
          true,
          {{What::kHand, 4, 4, 0, 4, 4, 0, 0},
           {What::kObserve, 4, 0, 0, 4, 4, 0, 0},
           {What::kHand, 4, 4, 0, 8, 4, 0, 0},
           {What::kHand, 4, 4, 0, 12, 4, 0, 0},
           {What::kObserve, 4, 4, 0, 12, 4, 0, 0},
           {What::kObserve, 4, 0, 0, 12, 4, 0, 0}}});
}

TEST_CASE("by ids nothing is verified, and any number may be covered", "[session][delivery]") {
  follow({12,
          4,
          false,
          {{What::kHand, 4, 4, 0, 4, 4, 0, 0},
           {What::kIds, 3, 4, 0, 4, 4, 0, 0},
           {What::kHand, 4, 4, 0, 8, 4, 0, 0},
           {What::kIds, 3, 4, 0, 8, 4, 0, 0},
           {What::kIds, 11, 4, 0, 8, 4, 0, 0}}});
}

TEST_CASE("rows: a batch is what is pulled between two updates", "[session][delivery]") {
  const Sequence run = follow({11,
                               0,
                               false,
                               {{What::kRows, 1, 0, 0, 1, 0, 0, 0},
                                {What::kRows, 3, 0, 0, 4, 0, 0, 0},
                                {What::kObserve, 4, 0, 0, 4, 0, 0, 0},
                                {What::kRows, 2, 0, 0, 6, 0, 0, 0},
                                {What::kRows, 2, 0, 0, 8, 0, 0, 0},
                                {What::kObserve, 4, 0, 0, 8, 0, 0, 0},
                                {What::kRows, 1, 0, 0, 9, 0, 0, 8},
                                {What::kRows, 2, 0, 0, 11, 0, 0, 8},
                                {What::kObserve, 3, 0, 0, 11, 0, 0, 8},
                                {What::kEnd, 0, 0, 0, 11, 0, 0, 8}}});
  REQUIRE(run.facts.rows);
  REQUIRE(run.facts.batch == 4);
  REQUIRE(run.facts.part == 4);
}

TEST_CASE("rows that run ahead: the lag is what was out at the first update, less a batch",
          "[session][delivery]") {
  const Sequence run = follow({20,
                               0,
                               false,
                               {{What::kRows, 12, 0, 0, 12, 0, 0, 0},
                                {What::kObserve, 4, 0, 0, 12, 0, 0, 0},
                                {What::kRows, 4, 0, 0, 16, 0, 0, 0},
                                {What::kObserve, 4, 0, 0, 16, 0, 8, 0},
                                {What::kRows, 4, 0, 0, 20, 0, 8, 8},
                                {What::kObserve, 4, 0, 0, 20, 0, 8, 8}}});
  REQUIRE(run.facts.batch == 4);
  REQUIRE(run.delivery.pulled() == 0);
}

TEST_CASE("delivery starts anew anywhere, with no batch out", "[session][delivery]") {
  Sequence run(20);
  run.facts.proven = 6;
  run.facts.verified = 6;
  run.facts.known_lag = 3;
  run.hand(4, 4);
  run.hand(4, 4);
  run.delivery.observed(run.facts, 3);
  for (const std::int64_t start : {8, 0}) {
    run.delivery.start_at(run.facts, start);
    REQUIRE(run.delivery.oldest() == 0);
    REQUIRE(run.delivery.pulled() == 0);
    REQUIRE(run.facts.start == start);
    REQUIRE(run.facts.delivered == start);
    const EpochFacts& facts = run.facts;
    for (const std::int64_t figure :
         {facts.updates, facts.batch, facts.last, facts.offset, facts.part, facts.lag}) {
      REQUIRE(figure == 0);
    }
    REQUIRE_FALSE((facts.rows || facts.came_back || facts.lag_cut));
    REQUIRE(facts.kept == 20);  // what is not delivery stays
    REQUIRE(facts.proven == 6);
    REQUIRE(facts.verified == 6);
    REQUIRE(facts.known_lag == 3);
    REQUIRE(facts.observed == 3);
    run.hand(6, 6);
    REQUIRE(run.delivery.oldest() == 6);
    REQUIRE(facts.delivered == start + 6);
  }
}

TEST_CASE("batches of any sizes come back in the order they went out", "[session][delivery]") {
  std::mt19937 random(4);
  for (int trial = 0; trial < 200; ++trial) {
    CAPTURE(trial);
    Sequence run(1 << 30);
    std::deque<std::int64_t> out;
    const auto sizes = 1 + random() % 4;
    std::int64_t offset = 0;
    for (int step = 0; step < 400; ++step) {
      const bool hand = out.empty() || random() % (trial % 2 == 0 ? 2 : 8) != 0;
      if (hand) {
        out.push_back(1 + static_cast<std::int64_t>(random() % sizes));
        run.hand(out.back(), out.back());
      } else {
        const auto rest = static_cast<std::uint32_t>(out.front() - offset);
        const auto count = 1 + static_cast<std::int64_t>(random() % rest);
        run.delivery.observed(run.facts, count);
        offset += count;
        if (offset == out.front()) {
          out.pop_front();
          offset = 0;
        }
      }
      REQUIRE(run.delivery.oldest() == (out.empty() ? 0 : out.front()));
      REQUIRE(run.facts.offset == offset);
    }
  }
}

TEST_CASE("many batches of changing sizes may be out at once", "[session][delivery]") {
  Sequence run(1 << 30);
  const auto size_of = [](std::int64_t batch) { return 1 + batch % 3; };
  constexpr std::int64_t kBatches = 20000;
  for (std::int64_t i = 0; i < kBatches; ++i) run.hand(size_of(i), size_of(i));
  for (std::int64_t i = 0; i < kBatches; ++i) {
    REQUIRE(run.delivery.oldest() == size_of(i));
    run.delivery.observed(run.facts, size_of(i));
  }
  REQUIRE(run.delivery.oldest() == 0);
  REQUIRE(run.facts.observed == run.facts.delivered);
}
