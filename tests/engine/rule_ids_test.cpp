#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

// Rule 11: observation by ids.

using namespace infobatch;
using namespace infobatch::testing;

TEST_CASE("rule 11: an id beyond the data set does not even plan the epoch", "[engine][ids]") {
  Session session(10, config_of(5), 1);
  const std::string before = session.serialize();
  const float loss = 1.0f;
  const std::int64_t id = 99;
  float weight = 7.0f;
  REQUIRE_THROWS_AS(session.observe_ids(&loss, &id, 1, &weight), IndexError);
  REQUIRE_THROWS_AS(session.observe_ids(&loss, &id, INT64_MAX, &weight), InvalidArgument);
  REQUIRE(weight == 7.0f);
  REQUIRE_FALSE(session.statistics().planned);
  REQUIRE(session.serialize() == before);
}
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr std::int64_t kSize = 300;

/// A session whose second epoch has begun and leaves some samples out.
struct Pruned {
  Pruned() : session(kSize, config_of(20), 1) {
    run_epoch(session, 50);
    session.begin();
    plan = session.plan();
    std::vector<bool> in(kSize, false);
    for (std::int64_t p = 0; p < plan->size(); ++p) in[std::size_t(plan->ids()[p])] = true;
    for (std::int64_t id = 0; id < kSize; ++id) {
      if (!in[std::size_t(id)]) left_out.push_back(id);
    }
  }

  Session session;
  std::shared_ptr<const Plan> plan;
  std::vector<std::int64_t> left_out;
};

}  // namespace

TEST_CASE("rule 11: with ids the batches may come in any order", "[engine][ids]") {
  Pruned p;
  std::vector<std::int64_t> ids(p.plan->ids(), p.plan->ids() + p.plan->size());
  std::map<std::int64_t, float> weight;
  for (std::int64_t i = 0; i < p.plan->size(); ++i) weight[p.plan->ids()[i]] = p.plan->weights()[i];
  std::reverse(ids.begin(), ids.end());
  while (p.session.next(32).count > 0) {
  }
  for (std::size_t begin = 0; begin < ids.size(); begin += 32) {
    const std::size_t count = std::min<std::size_t>(32, ids.size() - begin);
    std::vector<float> losses;
    std::vector<float> weights(count);
    for (std::size_t i = 0; i < count; ++i) losses.push_back(float(ids[begin + i]) + 0.5f);
    p.session.observe_ids(losses.data(), &ids[begin], std::int64_t(count), weights.data());
    for (std::size_t i = 0; i < count; ++i) REQUIRE(weights[i] == weight[ids[begin + i]]);
  }
  REQUIRE(p.session.position() == p.plan->size());
  REQUIRE(p.session.epoch() == 2);
  p.session.begin();
  for (const std::int64_t id : ids) REQUIRE(p.session.scores()[id] == float(id) + 0.5f);
  for (const std::int64_t id : p.left_out) {
    REQUIRE(p.session.scores()[id] == simulated_loss(id, 0));
  }
}

TEST_CASE("rule 11: ids and order give the same scores and the same next plan", "[engine][ids]") {
  Session by_order(kSize, config_of(10), 1);
  Session by_ids(kSize, config_of(10), 1);
  for (int epoch = 0; epoch < 6; ++epoch) {
    const PlanCopy seen = run_epoch(by_order, 32);
    by_ids.begin();
    PlanCopy again;
    for (Slice s = by_ids.next(32); s.count > 0; s = by_ids.next(32)) {
      append(again, s);
      const auto losses = losses_of(s, [&](std::int64_t id) { return simulated_loss(id, epoch); });
      std::vector<float> weights(static_cast<std::size_t>(s.count));
      by_ids.observe_ids(losses.data(), s.ids(), s.count, weights.data());
      REQUIRE(std::equal(weights.begin(), weights.end(), s.weights()));
    }
    REQUIRE(again == seen);
    REQUIRE(by_ids.length() == by_order.length());
  }
}

TEST_CASE("rule 11: in order, repeated, swapped, in order again: every row finds its own place",
          "[engine][ids]") {
  Pruned p;
  const std::int64_t size = p.plan->size();
  while (p.session.next(32).count > 0) {
  }
  // Positions of the batches: in the order of the plan; the same batch twice; two swapped; a batch
  // that begins at the pending place but goes on elsewhere; the rest.
  std::vector<std::vector<std::int64_t>> batches;
  const auto range = [](std::int64_t begin, std::int64_t end) {
    std::vector<std::int64_t> positions;
    for (std::int64_t q = begin; q < end; ++q) positions.push_back(q);
    return positions;
  };
  batches = {range(0, 16), range(16, 32), range(16, 32), range(48, 64), range(32, 48)};
  batches.push_back(range(64, 72));
  batches.back().push_back(90);
  batches.push_back(range(72, 90));
  batches.push_back(range(91, size));
  std::map<std::int64_t, float> expected;
  std::int64_t distinct = 0;
  float loss = 0.25f;
  for (const std::vector<std::int64_t>& batch : batches) {
    std::vector<std::int64_t> ids;
    std::vector<float> losses;
    for (const std::int64_t q : batch) {
      ids.push_back(p.plan->ids()[q]);
      losses.push_back(loss += 0.5f);
      distinct += expected.count(ids.back()) == 0 ? 1 : 0;
      expected[ids.back()] = losses.back();
    }
    std::vector<float> weights(batch.size(), -1.0f);
    p.session.observe_ids(losses.data(), ids.data(), std::int64_t(ids.size()), weights.data());
    for (std::size_t i = 0; i < batch.size(); ++i) {
      REQUIRE(weights[i] == p.plan->weights()[batch[i]]);
    }
    if (distinct < size) REQUIRE(p.session.position() == distinct);
  }
  REQUIRE(distinct == size);
  p.session.begin();
  for (const auto& [id, score] : expected) REQUIRE(p.session.scores()[id] == score);
}

TEST_CASE("rule 11: of a repeated id every row is weighted and the last score wins",
          "[engine][ids]") {
  Pruned p;
  const std::int64_t id = p.plan->ids()[5];
  const std::int64_t other = p.plan->ids()[9];
  const std::vector<std::int64_t> ids = {id, other, id, id, other};
  const std::vector<float> losses = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f};
  std::vector<float> weights(5, -1.0f);
  p.session.observe_ids(losses.data(), ids.data(), 5, weights.data());
  for (const std::size_t row : {0u, 2u, 3u}) REQUIRE(weights[row] == p.plan->weights()[5]);
  for (const std::size_t row : {1u, 4u}) REQUIRE(weights[row] == p.plan->weights()[9]);
  REQUIRE(p.session.position() == 2);
  p.session.set_epoch(2);
  REQUIRE(p.session.scores()[id] == 4.0f);
  REQUIRE(p.session.scores()[other] == 5.0f);
}

TEST_CASE("rule 11: the last one wins although it is not finite", "[engine][ids]") {
  Pruned p;
  const Warnings quiet(p.session);
  const std::vector<std::int64_t> ids = {p.plan->ids()[0], p.plan->ids()[0]};
  const std::vector<float> losses = {1.0f, std::numeric_limits<float>::quiet_NaN()};
  float weights[2];
  p.session.observe_ids(losses.data(), ids.data(), 2, weights);
  REQUIRE(p.session.statistics().non_finite_epoch == 1);
  p.session.set_epoch(2);
  REQUIRE(float_bits(p.session.scores()[ids[0]]) == kNeverObservedBits);
}

TEST_CASE("rule 11: ids outside the data set or the plan are refused and nothing is recorded",
          "[engine][ids]") {
  Pruned p;
  REQUIRE_FALSE(p.left_out.empty());
  const std::int64_t inside = p.plan->ids()[0];
  const bool begun = GENERATE(false, true);
  if (begun) {
    const float loss = 0.25f;
    float weight = 0.0f;
    p.session.observe_ids(&loss, &inside, 1, &weight);
  }
  const std::string before = p.session.serialize();
  const std::vector<float> losses = {7.0f, 7.0f};
  std::vector<float> weights(2, -1.0f);
  const auto refused = [&](std::int64_t bad) {
    const std::vector<std::int64_t> ids = {inside, bad};
    try {
      p.session.observe_ids(losses.data(), ids.data(), 2, weights.data());
    } catch (const IndexError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  REQUIRE_THAT(refused(-1), ContainsSubstring("update: ids must be in [0, 300), got -1 in row 1"));
  REQUIRE_THAT(refused(kSize), ContainsSubstring("got 300 in row 1"));
  REQUIRE_THAT(refused(std::int64_t{1} << 40), ContainsSubstring("got 1099511627776"));
  REQUIRE_THAT(refused(std::numeric_limits<std::int64_t>::min()), ContainsSubstring("row 1"));
  REQUIRE_THAT(refused(p.left_out[0]),
               ContainsSubstring("update: ids must be in the plan of epoch 1, got " +
                                 std::to_string(p.left_out[0]) + " in row 1"));
  REQUIRE(weights == std::vector<float>(2, -1.0f));
  REQUIRE(p.session.serialize() == before);
}

TEST_CASE("rule 11: an epoch is observed by order or by ids, not both", "[engine][ids]") {
  Pruned p;
  const float loss = 0.5f;
  float weight = 0.0f;
  const std::int64_t id = p.plan->ids()[3];
  p.session.next(10);
  SECTION("ids after order") {
    p.session.observe(&loss, 1);
    const std::string before = p.session.serialize();
    REQUIRE_THROWS_AS(p.session.observe_ids(&loss, &id, 1, &weight), StateError);
    REQUIRE_THROWS_WITH(p.session.observe_ids(&loss, &id, 1, &weight),
                        ContainsSubstring("update: epoch 1 is observed in order"));
    REQUIRE(p.session.serialize() == before);
  }
  SECTION("order after ids") {
    p.session.observe_ids(&loss, &id, 1, &weight);
    const std::string before = p.session.serialize();
    REQUIRE_THROWS_AS(p.session.observe(&loss, 1), StateError);
    REQUIRE_THROWS_WITH(p.session.observe(&loss, 1),
                        ContainsSubstring("update: epoch 1 is observed by ids"));
    REQUIRE(p.session.serialize() == before);
  }
  SECTION("the next epoch is free to change") {
    p.session.observe_ids(&loss, &id, 1, &weight);
    p.session.begin();
    p.session.next(10);
    p.session.observe(&loss, 1);
    REQUIRE(p.session.position() == 1);
  }
}

TEST_CASE("rule 11: ids of a finished epoch are still taken after a look at the next",
          "[engine][ids]") {
  Session session(10, config_of(10), 1);
  session.begin();
  const Slice all = session.next(8);
  const Slice tail = session.next(8);
  std::vector<float> weights(10);
  const std::vector<float> losses(10, 0.5f);
  session.observe_ids(losses.data(), all.ids(), 8, weights.data());
  REQUIRE(session.length() == 10);
  REQUIRE(session.epoch() == 1);
  session.observe_ids(losses.data(), tail.ids(), 2, weights.data());
  REQUIRE(session.position() == 10);
  session.begin();
  for (std::int64_t id = 0; id < 10; ++id) REQUIRE(session.scores()[id] == 0.5f);
}

TEST_CASE("rule 11: ids beyond 32 bits would be refused by value, not cut", "[engine][ids]") {
  Session session(4, config_of(10), 1);
  session.begin();
  const float loss = 1.0f;
  float weight = 0.0f;
  const std::int64_t id = (std::int64_t{1} << 32) + 1;  // 1 in 32 bits
  REQUIRE_THROWS_WITH(session.observe_ids(&loss, &id, 1, &weight),
                      ContainsSubstring("got 4294967297"));
  REQUIRE(session.position() == 0);
}

// Weights by ids.

namespace {

std::vector<float> weights_of(Session& session, const std::vector<std::int64_t>& ids) {
  std::vector<float> weights(ids.size(), -1.0f);
  session.weights(ids.data(), static_cast<std::int64_t>(ids.size()), weights.data());
  return weights;
}

/// Ids of a plan from the last to the first, and their weights.
std::vector<std::int64_t> reversed_ids(const Plan& plan) {
  std::vector<std::int64_t> ids(plan.ids(), plan.ids() + plan.size());
  std::reverse(ids.begin(), ids.end());
  return ids;
}
std::vector<float> reversed_weights(const Plan& plan) {
  std::vector<float> weights(plan.weights(), plan.weights() + plan.size());
  std::reverse(weights.begin(), weights.end());
  return weights;
}

}  // namespace

TEST_CASE("rule 11: weights by ids are those of the plan, and nothing is observed",
          "[engine][ids]") {
  Pruned p;
  const std::string before = p.session.serialize();
  REQUIRE(weights_of(p.session, reversed_ids(*p.plan)) == reversed_weights(*p.plan));
  REQUIRE(weights_of(p.session, {p.plan->ids()[7], p.plan->ids()[7]}) ==
          std::vector<float>(2, p.plan->weights()[7]));
  REQUIRE(p.session.serialize() == before);
  REQUIRE(p.session.position() == 0);
  SECTION("the epoch goes on in order") {
    for (Slice s = p.session.next(32); s.count > 0; s = p.session.next(32)) {
      const std::vector<std::int64_t> ids(s.ids(), s.ids() + s.count);
      REQUIRE(weights_of(p.session, ids) == std::vector<float>(s.weights(), s.weights() + s.count));
      const std::vector<float> losses(ids.size(), 0.5f);
      REQUIRE(p.session.observe(losses.data(), s.count).begin == s.begin);
    }
    REQUIRE(p.session.epoch() == 2);
  }
  SECTION("or by ids") {
    const std::vector<std::int64_t> ids = reversed_ids(*p.plan);
    const std::vector<float> losses(ids.size(), 0.5f);
    std::vector<float> weights(ids.size());
    p.session.observe_ids(losses.data(), ids.data(), p.plan->size(), weights.data());
    REQUIRE(weights == weights_of(p.session, ids));
    p.session.begin();
    for (const std::int64_t id : ids) REQUIRE(p.session.scores()[id] == 0.5f);
  }
}

TEST_CASE("rule 11: weights are those of the epoch that just ended, until the next begins",
          "[engine][ids]") {
  Session session(kSize, config_of(20), 1);
  for (int epoch = 0; epoch < 4; ++epoch) {
    run_epoch(session, 50);
    const std::shared_ptr<const Plan> next = session.plan();  // a look at the next epoch
    REQUIRE(session.statistics().epoch == epoch);
    REQUIRE(next->epoch() == epoch + 1);
    const std::string before = session.serialize();
    const std::vector<std::int64_t> all = [] {
      std::vector<std::int64_t> ids(kSize);
      for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = std::int64_t(i);
      return ids;
    }();
    if (epoch == 0) {
      REQUIRE(weights_of(session, all) == std::vector<float>(kSize, 1.0f));
    } else {
      REQUIRE_THROWS_WITH(
          weights_of(session, all),
          ContainsSubstring("weights: ids must be in the plan of epoch " + std::to_string(epoch)));
    }
    REQUIRE(session.serialize() == before);
    session.begin();
    REQUIRE(weights_of(session, reversed_ids(*next)) == reversed_weights(*next));
  }
}

TEST_CASE("rule 11: weights plan an epoch that is not planned, a refusal does not",
          "[engine][ids]") {
  Session session(10, config_of(2), 1);  // will never prune, which the first plan finds
  session.hold_warnings();
  const std::string before = session.serialize();
  float weight = 7.0f;
  std::int64_t id = 99;
  std::string text;
  REQUIRE_THAT(message_of<IndexError>([&] { session.weights(&id, 1, &weight); }),
               ContainsSubstring("weights: ids must be in [0, 10), got 99 in row 0"));
  REQUIRE_THAT(message_of<InvalidArgument>([&] { session.weights(&id, -1, &weight); }),
               ContainsSubstring("weights: count must be at least 0, got -1"));
  REQUIRE_THAT(message_of<InvalidArgument>([&] { session.weights(&id, INT64_MAX, &weight); }),
               ContainsSubstring("weights: count must be at most"));
  REQUIRE_THAT(message_of<InvalidArgument>([&] { session.weights(nullptr, 1, &weight); }),
               ContainsSubstring("weights: ids must not be null"));
  REQUIRE_THAT(message_of<InvalidArgument>([&] { session.weights(&id, 1, nullptr); }),
               ContainsSubstring("weights: weights must not be null"));
  session.weights(nullptr, 0, nullptr);
  REQUIRE(weight == 7.0f);
  REQUIRE_FALSE(session.statistics().planned);
  REQUIRE_FALSE(session.next_warning(&text));
  id = 9;
  session.weights(&id, 1, &weight);
  REQUIRE(weight == 1.0f);
  REQUIRE(session.statistics().planned);
  REQUIRE(session.next_warning(&text));
  REQUIRE(session.serialize() == before);
}
