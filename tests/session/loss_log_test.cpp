#include <infobatch/detail/owned_plan.hpp>
#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session/loss_log.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

// The staged losses of an epoch, by position.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;
using detail::LossLog;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

/// A plan with these ids; the weight of position p is p + 0.5.
PlanRef plan_of(const std::vector<std::int64_t>& ids, std::int64_t data_size) {
  PlanArrays arrays;
  arrays.size = static_cast<std::int64_t>(ids.size());
  arrays.ids = Buffer<std::int64_t>(arrays.size);
  arrays.weights = Buffer<float>(arrays.size);
  for (std::int64_t p = 0; p < arrays.size; ++p) {
    arrays.ids[p] = ids[static_cast<std::size_t>(p)];
    arrays.weights[p] = static_cast<float>(p) + 0.5f;
  }
  return PlanRef(new detail::OwnedPlan(7, data_size, std::move(arrays)));
}

LossLog prepared(std::int64_t kept) {
  LossLog log;
  Buffer<float> none;
  log.prepare(kept, none);
  return log;
}

std::vector<std::uint32_t> bits(const LossLog& log, std::int64_t count) {
  std::vector<std::uint32_t> found;
  for (std::int64_t p = 0; p < count; ++p) found.push_back(float_bits(log.data()[p]));
  return found;
}

std::vector<std::uint32_t> bits(const std::vector<float>& values) {
  std::vector<std::uint32_t> found;
  for (const float value : values) found.push_back(float_bits(value));
  return found;
}

/// Records losses by ids and returns the weights.
std::vector<float> record(LossLog& log,
                          const PlanRef& plan,
                          std::int64_t expected,
                          const std::vector<float>& losses,
                          const std::vector<std::int64_t>& ids,
                          std::int64_t fresh) {
  const auto count = static_cast<std::int64_t>(ids.size());
  std::vector<float> weights(ids.size(), -1.0f);
  const bool found = log.find(*plan, expected, ids.data(), count);
  REQUIRE(log.record(*plan, found, expected, losses.data(), count, weights.data()) == fresh);
  return weights;
}

}  // namespace

TEST_CASE("losses in order are written one behind the other", "[session][loss_log]") {
  LossLog log = prepared(8);
  REQUIRE(log.end() == 0);
  const std::vector<float> losses = {1.0f, -2.0f, 0.0f, -0.0f, 5.0f};
  log.append(losses.data(), 3);
  REQUIRE(log.end() == 3);
  log.append(losses.data() + 3, 0);
  log.append(losses.data() + 3, 2);
  REQUIRE(log.end() == 5);
  REQUIRE(bits(log, 5) == bits(losses));
  REQUIRE(log.non_finite() == 0);
  REQUIRE_FALSE(log.lent());
}

TEST_CASE("losses that are not finite are written as never observed and counted",
          "[session][loss_log]") {
  for (const std::int64_t before : {0, 1, 7, 16, 33}) {  // whatever the alignment
    LossLog log = prepared(200);
    const std::vector<float> ones(static_cast<std::size_t>(before), 1.0f);
    log.append(ones.data(), before);
    std::vector<float> losses(100, 2.0f);
    std::vector<float> kept = losses;
    const std::vector<float> odd = {
        kInf, -kInf, unseen(), never_observed(), bits_float(0xffffffffu), bits_float(0x7f800001u)};
    for (std::size_t i = 0; i < odd.size(); ++i) {
      losses[i * 17] = odd[i];
      kept[i * 17] = never_observed();
    }
    log.append(losses.data(), 100);
    kept.insert(kept.begin(), ones.begin(), ones.end());
    REQUIRE(bits(log, before + 100) == bits(kept));
    REQUIRE(log.non_finite() == 6);
  }
}

TEST_CASE("positions that were only moved over are unseen", "[session][loss_log]") {
  LossLog log = prepared(6);
  const std::vector<float> losses = {1.0f, 2.0f};
  log.append(losses.data(), 2);
  log.append_unseen(3);
  REQUIRE(log.end() == 5);
  REQUIRE(log.lent());
  REQUIRE(bits(log, 5) == bits({1.0f, 2.0f, unseen(), unseen(), unseen()}));
  log.write(losses.data(), 3, 2);
  REQUIRE(bits(log, 5) == bits({1.0f, 2.0f, unseen(), 1.0f, 2.0f}));
}

TEST_CASE("a lent array is unseen where nothing was written, and keeps what is written",
          "[session][loss_log]") {
  LossLog log = prepared(6);
  const std::vector<float> losses = {1.0f, 2.0f};
  log.append(losses.data(), 2);
  log.lend(6);
  REQUIRE(log.end() == 2);
  REQUIRE(bits(log, 6) == bits({1.0f, 2.0f, unseen(), unseen(), unseen(), unseen()}));
  log.data()[4] = 9.0f;
  log.append_unseen(3);  // does not take back what the borrower has written
  REQUIRE(log.end() == 5);
  REQUIRE(bits(log, 6) == bits({1.0f, 2.0f, unseen(), unseen(), 9.0f, unseen()}));
  log.lend(6);
  REQUIRE(bits(log, 6) == bits({1.0f, 2.0f, unseen(), unseen(), 9.0f, unseen()}));
}

TEST_CASE("whoever lends judges at the boundary", "[session][loss_log]") {
  LossLog log = prepared(2);
  log.lend(2);
  REQUIRE(log.lent());
}

TEST_CASE("raw losses are written as they are, also from the lent array itself",
          "[session][loss_log]") {
  LossLog log = prepared(5);
  const std::vector<float> raw = {kInf, unseen(), bits_float(0x7fc12345u), -0.0f, 3.0f};
  log.append_unseen(5);
  log.write(raw.data(), 0, 5);
  REQUIRE(bits(log, 5) == bits(raw));
  log.write(log.data() + 1, 1, 3);
  REQUIRE(bits(log, 5) == bits(raw));
  log.write(log.data(), 1, 4);  // they may overlap
  REQUIRE(bits(log, 5) == bits({raw[0], raw[0], raw[1], raw[2], raw[3]}));
  log.write(nullptr, 2, 0);
  REQUIRE(log.non_finite() == 0);
}

TEST_CASE("all is forgotten and the memory stays", "[session][loss_log]") {
  LossLog log = prepared(4);
  const std::vector<float> losses = {1.0f, kInf};
  log.append(losses.data(), 2);
  log.lend(4);
  log.data()[3] = 8.0f;
  const float* const place = log.data();
  log.clear();
  REQUIRE(log.end() == 0);
  REQUIRE(log.non_finite() == 0);
  REQUIRE(log.lent());  // who holds the array may still write to it
  REQUIRE(log.data() == place);
  REQUIRE(is_unseen(log.data()[3]));
  log.append_unseen(4);
  REQUIRE(bits(log, 4) == bits({unseen(), unseen(), unseen(), unseen()}));
}

TEST_CASE("memory that is prepared once more keeps its content", "[session][loss_log]") {
  LossLog log = prepared(3);
  const std::vector<float> losses = {1.0f, 2.0f};
  log.append(losses.data(), 2);
  log.lend(3);
  log.data()[2] = 3.0f;
  const float* const place = log.data();
  Buffer<float> spare(10);
  const float* const spare_place = spare.data();
  REQUIRE(log.prepared(3));
  log.prepare(3, spare);
  REQUIRE(log.data() == place);
  REQUIRE_FALSE(log.prepared(8));
  log.prepare(8, spare);
  REQUIRE(log.data() == spare_place);  // recycled
  REQUIRE(spare.data() == place);
  REQUIRE(bits(log, 3) == bits({1.0f, 2.0f, 3.0f}));
  log.prepare(20, spare);
  REQUIRE(log.prepared(20));
  REQUIRE(bits(log, 3) == bits({1.0f, 2.0f, 3.0f}));
  Buffer<float> released = log.release();
  REQUIRE(released.capacity() >= 20);
  REQUIRE_FALSE(log.prepared(1));
}

TEST_CASE("ids that are just the next positions need no table", "[session][loss_log]") {
  const PlanRef plan = plan_of({4, 2, 9, 0}, 10);
  LossLog log = prepared(4);
  const std::vector<std::int64_t> ids = {4, 2, 9, 0};
  REQUIRE_FALSE(log.find(*plan, 0, ids.data(), 4));
  REQUIRE_FALSE(log.find(*plan, 2, ids.data() + 2, 2));
  REQUIRE(log.find(*plan, 1, ids.data() + 2, 2));
  REQUIRE(log.find(*plan, 3, ids.data() + 2, 2));  // beyond the end from there on
  REQUIRE(record(log, plan, 0, {1.0f, 2.0f}, {4, 2}, 2) == std::vector<float>{0.5f, 1.5f});
  REQUIRE(bits(log, 4) == bits({1.0f, 2.0f, unseen(), unseen()}));
  REQUIRE(log.end() == 4);
}

TEST_CASE("losses by ids are found in any order, and the last of an id counts",
          "[session][loss_log]") {
  const PlanRef plan = plan_of({4, 2, 9, 0}, 10);
  LossLog log = prepared(4);
  const std::vector<float> weights =
      record(log, plan, 0, {1.0f, 2.0f, 3.0f, 4.0f, 5.0f}, {0, 9, 0, 4, 0}, 3);
  REQUIRE(weights == std::vector<float>{3.5f, 2.5f, 3.5f, 0.5f, 3.5f});
  REQUIRE(bits(log, 4) == bits({4.0f, unseen(), 2.0f, 5.0f}));
  record(log, plan, 3, {6.0f, kInf}, {9, 0}, 0);  // once more, nothing is fresh
  REQUIRE(bits(log, 4) == bits({4.0f, unseen(), 6.0f, never_observed()}));
  REQUIRE(log.non_finite() == 1);
  record(log, plan, 3, {7.0f}, {2}, 1);
  REQUIRE(bits(log, 4) == bits({4.0f, 7.0f, 6.0f, never_observed()}));
}

TEST_CASE("ids outside the data set or the plan are named, and nothing is written",
          "[session][loss_log]") {
  const PlanRef plan = plan_of({4, 2, 9, 0}, 10);
  LossLog log = prepared(4);
  const auto refusal = [&](const std::vector<std::int64_t>& ids) {
    return message_of<IndexError>(
        [&] { log.find(*plan, 0, ids.data(), static_cast<std::int64_t>(ids.size())); });
  };
  REQUIRE_THAT(refusal({4, 2, 10}), ContainsSubstring("in [0, 10), got 10 in row 2"));
  REQUIRE_THAT(refusal({4, -1}), ContainsSubstring("in [0, 10), got -1 in row 1"));
  REQUIRE_THAT(refusal({INT64_MIN}), ContainsSubstring("in row 0"));
  REQUIRE_THAT(refusal({INT64_MAX}), ContainsSubstring("in row 0"));
  REQUIRE_THAT(
      refusal({9, 4, 3}),
      ContainsSubstring("in the plan of epoch 7, got 3 in row 2, which this epoch leaves"));
  REQUIRE_THAT(refusal({3, 10}), ContainsSubstring("got 10 in row 1"));  // the data set comes first
  REQUIRE(log.end() == 0);
  REQUIRE(log.non_finite() == 0);
  record(log, plan, 0, {1.0f}, {9}, 1);
}

TEST_CASE("weights are looked up and nothing is written", "[session][loss_log]") {
  const PlanRef plan = plan_of({4, 2, 9, 0}, 10);
  LossLog log;  // no memory for losses
  const auto weigh = [&](std::int64_t expected, const std::vector<std::int64_t>& ids) {
    const auto count = static_cast<std::int64_t>(ids.size());
    std::vector<float> weights(ids.size(), -1.0f);
    const bool found = log.find(*plan, expected, ids.data(), count, "weights");
    log.weigh(*plan, found, expected, count, weights.data());
    return weights;
  };
  REQUIRE(weigh(1, {2, 9}) == std::vector<float>{1.5f, 2.5f});  // just the next ones
  REQUIRE(weigh(1, {0, 4, 0}) == std::vector<float>{3.5f, 0.5f, 3.5f});
  REQUIRE(weigh(4, {9}) == std::vector<float>{2.5f});
  REQUIRE_THAT(message_of<IndexError>([&] {
                 weigh(0, {4, 10});
               }),
               ContainsSubstring("weights: ids must be in [0, 10), got 10 in row 1"));
  REQUIRE_THAT(message_of<IndexError>([&] {
                 weigh(0, {4, 3});
               }),
               ContainsSubstring("weights: ids must be in the plan of epoch 7, got 3 in row 1"));
  REQUIRE(log.end() == 0);
  REQUIRE_FALSE(log.prepared(1));
}

TEST_CASE("another plan has other positions", "[session][loss_log]") {
  const PlanRef plan = plan_of({4, 2, 9, 0}, 10);
  const PlanRef other = plan_of({0, 9, 1}, 10);
  LossLog log;
  const std::int64_t id = 9;
  float weight = 0.0f;
  REQUIRE(log.find(*plan, 0, &id, 1));
  log.forget_positions();
  REQUIRE(log.find(*other, 0, &id, 1));
  log.weigh(*other, true, 0, 1, &weight);
  REQUIRE(weight == 1.5f);
}

TEST_CASE("a log that is read from a state goes on by ids and in order", "[session][loss_log]") {
  const PlanRef plan = plan_of({4, 2, 9, 0}, 10);
  LossLog log = prepared(4);
  log.data()[0] = 1.0f;
  log.data()[1] = 2.0f;
  log.restore(2, 5, true);
  REQUIRE(log.end() == 2);
  REQUIRE(log.non_finite() == 5);
  REQUIRE(log.lent());
  const float loss = 3.0f;
  log.append(&loss, 1);
  REQUIRE(bits(log, 3) == bits({1.0f, 2.0f, 3.0f}));
  log.fill_unseen(4);
  REQUIRE(bits(log, 4) == bits({1.0f, 2.0f, 3.0f, unseen()}));
  record(log, plan, 0, {8.0f}, {0}, 1);
  REQUIRE(bits(log, 4) == bits({1.0f, 2.0f, 3.0f, 8.0f}));
}
