#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/streams.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

// Rules 4, 5 and 8 as a session shows them: who is kept, at which weight, in which order.

using namespace infobatch;
using namespace infobatch::testing;

namespace {

constexpr std::int64_t kSize = 1000;

/// Ids 0 .. 599 score 1, the rest 5: the first 600 are the candidates.
bool candidate(std::int64_t id) { return id < 600; }

std::vector<float> two_levels() {
  std::vector<float> scores;
  for (std::int64_t id = 0; id < kSize; ++id) scores.push_back(candidate(id) ? 1.0f : 5.0f);
  return scores;
}

PlanCopy plan_with(const Config& config, std::int64_t epoch) {
  Session session(kSize, config, 1);
  set_scores(session, two_levels());
  session.set_epoch(epoch);
  return copy_of(session.plan());
}

std::set<std::int64_t> candidates_in(const PlanCopy& plan) {
  std::set<std::int64_t> ids;
  for (const std::int64_t id : plan.ids) {
    if (candidate(id)) ids.insert(id);
  }
  return ids;
}

}  // namespace

TEST_CASE("rule 4: bernoulli keeps a candidate iff its 32-bit draw is below q", "[engine][keep]") {
  const double r = GENERATE(0.0, 0.25, 0.5, 0.9);
  const std::int64_t epoch = GENERATE(1, 7);
  Config config = config_of(100, r);
  config.seed = 0x123456789abcdef0u;
  const double q = std::round((1.0 - r) * 4294967296.0);
  std::set<std::int64_t> expected;
  for (std::int64_t id = 0; id < 600; ++id) {
    const std::uint32_t draw = sliced_draw(config.seed,
                                           static_cast<std::uint32_t>(epoch),
                                           kStreamKeep,
                                           static_cast<std::uint64_t>(id));
    if (static_cast<double>(draw) < q) expected.insert(id);
  }
  const PlanCopy plan = plan_with(config, epoch);
  REQUIRE(candidates_in(plan) == expected);
  REQUIRE(plan.ids.size() == expected.size() + 400);
}

TEST_CASE("rule 4: exact keeps max(1, floor((1-r) n)) candidates, those with the smallest draws",
          "[engine][keep]") {
  const double r = GENERATE(0.25, 0.5, 0.7, 0.9999);
  Config config = config_of(100, r);
  config.keep = "exact";
  std::vector<std::pair<std::uint64_t, std::int64_t>> order;
  for (std::int64_t id = 0; id < 600; ++id) {
    order.emplace_back(
        random_draw64(config.seed, 4, kStreamExactKeep, static_cast<std::uint64_t>(id)), id);
  }
  std::sort(order.begin(), order.end());
  // In billionths, because .3 * 600 is 179.99999999999997 in doubles.
  const std::int64_t share = std::llround((1.0 - r) * 1e9);
  const std::int64_t count = std::max<std::int64_t>(1, share * 600 / 1000000000);
  std::set<std::int64_t> expected;
  for (std::int64_t i = 0; i < count; ++i) expected.insert(order[std::size_t(i)].second);
  REQUIRE(candidates_in(plan_with(config, 4)) == expected);
}

TEST_CASE("rule 4: draws depend on seed, epoch and id alone", "[engine][keep]") {
  Config config = config_of(100);
  const auto first = candidates_in(plan_with(config, 3));
  REQUIRE(candidates_in(plan_with(config, 3)) == first);
  REQUIRE(candidates_in(plan_with(config, 4)) != first);
  config.seed += 1;
  REQUIRE(candidates_in(plan_with(config, 3)) != first);
  config.seed += std::uint64_t{1} << 40;  // the high half of the seed counts
  const auto high = candidates_in(plan_with(config, 3));
  config.seed -= std::uint64_t{1} << 40;
  REQUIRE(candidates_in(plan_with(config, 3)) != high);
}

TEST_CASE("rule 5: the weight is the inverse of the keep probability used, rounded once",
          "[engine][weight]") {
  const double r = GENERATE(0.1, 0.25, 1.0 / 3.0, 0.5, 0.9, 0.999);
  Config config = config_of(100, r);
  const long double q = std::round((1.0 - r) * 4294967296.0);
  const float bernoulli = static_cast<float>(4294967296.0L / q);
  for (const std::uint32_t bits : plan_with(config, 1).weights) {
    REQUIRE((bits == float_bits(1.0f) || bits == float_bits(bernoulli)));
  }
  config.keep = "exact";
  const PlanCopy exact = plan_with(config, 1);
  const float inverse =
      static_cast<float>(600.0L / static_cast<long double>(candidates_in(exact).size()));
  for (std::size_t p = 0; p < exact.ids.size(); ++p) {
    REQUIRE(bits_float(exact.weights[p]) == (candidate(exact.ids[p]) ? inverse : 1.0f));
  }
}

TEST_CASE("rule 5: without rescale every weight is 1 and the same samples are kept",
          "[engine][weight]") {
  Config config = config_of(100);
  config.keep = GENERATE("bernoulli", "exact");
  const PlanCopy with = plan_with(config, 1);
  config.rescale = false;
  const PlanCopy without = plan_with(config, 1);
  REQUIRE(with.ids == without.ids);
  REQUIRE(without.weights == std::vector<std::uint32_t>(without.ids.size(), float_bits(1.0f)));
}

TEST_CASE("rule 8: the order is a permutation, the same for any number of threads",
          "[engine][order][threads]") {
  const std::int64_t size = GENERATE(1, 63, 64, 65, 1000, 70000);
  Session one(size, config_of(10), 1);
  Session many(size, config_of(10), 4);
  for (int epoch = 0; epoch < 3; ++epoch) {
    const PlanCopy plan = run_epoch(one, 512);
    REQUIRE(run_epoch(many, 512) == plan);
    std::vector<std::int64_t> sorted = plan.ids;
    std::sort(sorted.begin(), sorted.end());
    REQUIRE(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end());
    REQUIRE((sorted.front() >= 0 && sorted.back() < size));
  }
}

TEST_CASE("rule 8: plans with the same kept set do not depend on the scores", "[engine][order]") {
  const auto order_with = [](float low, float high) {
    Session session(kSize, config_of(10), 1);
    std::vector<float> scores;
    for (std::int64_t id = 0; id < kSize; ++id) scores.push_back(candidate(id) ? low : high);
    set_scores(session, scores);
    session.set_epoch(1);
    return copy_of(session.plan());
  };
  REQUIRE(order_with(1.0f, 5.0f) == order_with(-3.0f, 0.25f));
}

// H0: in a full epoch each id is equally likely at each position, independently in each epoch, so
// that with T epochs the statistic sum (n - T/K)^2 / (T/K) over all cells has mean about (K-1)^2
// and variance about 2 (K-1)^2. Fixed seed, alpha = 1e-6 two-sided => |z| < 4.89.
TEST_CASE("rule 8: every id is equally likely at every position", "[engine][order][statistical]") {
  constexpr std::int64_t kIds = 48;
  constexpr std::int64_t kEpochs = 6000;
  Config config = config_of(kEpochs);
  config.policy = "full";
  Session session(kIds, config, 1);
  std::vector<double> count(kIds * kIds, 0.0);
  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    session.set_epoch(epoch);
    const std::shared_ptr<const Plan> plan = session.plan();
    for (std::int64_t p = 0; p < kIds; ++p) count[std::size_t(p * kIds + plan->ids()[p])] += 1.0;
  }
  const double expected = double(kEpochs) / double(kIds);
  double chi_square = 0.0;
  for (const double n : count) chi_square += (n - expected) * (n - expected) / expected;
  const double degrees = (kIds - 1.0) * (kIds - 1.0);
  REQUIRE(std::abs(chi_square - degrees) / std::sqrt(2.0 * degrees) < 4.89);
}
