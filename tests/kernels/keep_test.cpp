#include <infobatch/detail/keep.hpp>
#include <infobatch/detail/kernels.hpp>
#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/streams.hpp>
#include <infobatch/error.hpp>
#include <tests/kernels/plan_fixture.hpp>
#include <tests/kernels/simd_levels.hpp>
#include <tests/support/catch2_shim.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace infobatch {

using testing::is_candidate;
using testing::plan;
using testing::two_class_rule;

namespace {

std::vector<std::int64_t> sorted(std::vector<std::int64_t> ids) {
  std::sort(ids.begin(), ids.end());
  return ids;
}

}  // namespace

TEST_CASE("rule 4: every kernel keeps a candidate iff its 32-bit draw is below q",
          "[kernels][keep]") {
  for (const detail::SimdLevel level : testing::simd_levels()) {
    const testing::WithLevel use(level);
    for (const std::int64_t n : {0, 1, 15, 16, 17, 63, 64, 65, 2047, 2048, 2049, 10001}) {
      for (const double ratio : {0.5, 0.3, 0.75, 1e-12, 0.999, 0.5 + 0x1p-32, 1.0 - 0x1p-32}) {
        CAPTURE(n, ratio, static_cast<int>(level));
        const std::uint64_t bound = detail::keep_bound(ratio);
        std::vector<std::int64_t> expected;
        for (std::int64_t id = 0; id < n; ++id) {
          if (!is_candidate(id) ||
              sliced_draw(31, 9, kStreamKeep, static_cast<std::uint64_t>(id)) < bound) {
            expected.push_back(id);
          }
        }
        REQUIRE(sorted(plan(n, 31, 9, two_class_rule(ratio)).ids) == expected);
      }
    }
  }
}

TEST_CASE("rule 4: every kernel compares sliced draws with a bound as integers",
          "[kernels][keep]") {
  constexpr std::uint64_t kGroup = 3;
  std::vector<std::uint32_t> draws;
  for (std::uint64_t i = 0; i < kDrawGroup; ++i) {
    draws.push_back(sliced_draw(5, 6, kStreamKeep, kGroup * kDrawGroup + i));
  }
  // Neighbours of real draws, so that whole draws have to be compared, among all kinds of bounds.
  std::vector<std::uint32_t> bounds = {1, 2, 3, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF};
  for (std::size_t i = 0; i < 40; ++i) {
    for (const std::uint32_t step : {0u, 1u, 2u}) {
      bounds.push_back(std::max(draws[50 * i] + step, 2u) - 1);
    }
  }
  for (const detail::SimdLevel level : testing::simd_levels()) {
    const testing::WithLevel use(level);
    for (const std::uint32_t bound : bounds) {
      CAPTURE(static_cast<int>(level), bound);
      // Every third sample does not ask.
      std::vector<std::uint64_t> lanes(kDrawGroup / 64);
      std::vector<std::uint64_t> expected(kDrawGroup / 64);
      int n_expected = 0;
      for (std::size_t i = 0; i < draws.size(); ++i) {
        const std::uint64_t bit = std::uint64_t{i % 3 != 0} << i % 64;
        lanes[i / 64] |= bit;
        if (bit != 0 && draws[i] < bound) {
          expected[i / 64] |= bit;
          ++n_expected;
        }
      }
      const int n = detail::kernels().draws_below(5, 6, kStreamKeep, kGroup, bound, lanes.data());
      REQUIRE(n == n_expected);
      REQUIRE(lanes == expected);
    }
  }
}

TEST_CASE("rule 4: q is the rounded ratio, at least 1", "[kernels][keep]") {
  REQUIRE(detail::keep_bound(0.5) == std::uint64_t{1} << 31);
  REQUIRE(detail::keep_bound(1.0) == std::uint64_t{1} << 32);
  REQUIRE(detail::keep_bound(1e-300) == 1);
  REQUIRE(detail::keep_bound(0.0) == 0);
  REQUIRE(detail::keep_bound(0.3) == 1288490189);
}

TEST_CASE("rule 4: exact keeps max(1, floor(ratio n)) of n candidates", "[kernels][keep]") {
  REQUIRE(detail::exact_kept(0.5, 7) == 3);
  REQUIRE(detail::exact_kept(0.29, 100) == 29);  // not 28, as 0.29 * 100 in floating point gives
  REQUIRE(detail::exact_kept(0.57, 100) == 57);
  REQUIRE(detail::exact_kept(1e-9, 5) == 1);
  REQUIRE(detail::exact_kept(1e-300, 5) == 1);
  REQUIRE(detail::exact_kept(0.5, 0) == 0);
  REQUIRE(detail::exact_kept(0.0, 5) == 0);
  REQUIRE(detail::exact_kept(0.999999999, std::int64_t{1} << 40) == 1099511626676);
  for (const std::int64_t n : {1, 2, 5, 64, 1000, 5001}) {
    for (const double ratio : {0.001, 0.25, 0.5, 0.9}) {
      for (const int threads : {1, 3}) {
        const testing::PlanVectors result =
            plan(n, 3, 4, two_class_rule(ratio, KeepMode::kExact), threads);
        const std::int64_t members = result.counts[1].members;
        CAPTURE(n, ratio, members);
        REQUIRE(result.counts[1].kept == detail::exact_kept(ratio, members));
        REQUIRE(std::count_if(result.ids.begin(), result.ids.end(), is_candidate) ==
                result.counts[1].kept);
      }
    }
  }
}

TEST_CASE("rule 4: exact keeps the candidates with the smallest (draw, id)", "[kernels][keep]") {
  constexpr std::int64_t kN = 5000;
  std::vector<std::pair<std::uint64_t, std::int64_t>> draws;
  std::vector<std::int64_t> expected;
  for (std::int64_t id = 0; id < kN; ++id) {
    if (is_candidate(id)) {
      draws.emplace_back(random_draw64(8, 2, kStreamExactKeep, static_cast<std::uint64_t>(id)), id);
    } else {
      expected.push_back(id);
    }
  }
  std::sort(draws.begin(), draws.end());
  draws.resize(
      static_cast<std::size_t>(detail::exact_kept(0.4, static_cast<std::int64_t>(draws.size()))));
  for (const auto& draw : draws) expected.push_back(draw.second);
  REQUIRE(sorted(plan(kN, 8, 2, two_class_rule(0.4, KeepMode::kExact)).ids) == sorted(expected));
}

TEST_CASE("rule 4: ratio 0 keeps none of a class and ratio 1 all, without a draw",
          "[kernels][keep]") {
  for (const KeepMode mode : {KeepMode::kBernoulli, KeepMode::kExact}) {
    const testing::PlanVectors none = plan(1000, 1, 1, two_class_rule(0.0, mode));
    REQUIRE(std::none_of(none.ids.begin(), none.ids.end(), is_candidate));
    REQUIRE(none.counts[1].members == 417);
    REQUIRE(none.counts[1].kept == 0);
    REQUIRE(none.counts[1].weight == 0.0f);
    const testing::PlanVectors all = plan(1000, 1, 1, two_class_rule(1.0, mode));
    REQUIRE(all.ids.size() == 1000);
    REQUIRE(all.weights == std::vector<float>(1000, 1.0f));
    EpochRule nothing;
    nothing.classes = {{0.0, true}};
    nothing.mode = mode;
    REQUIRE(plan(1000, 1, 1, nothing).ids.empty());
  }
}

TEST_CASE("rule 5: the weight is the inverse of the keep probability, rounded once",
          "[kernels][keep]") {
  REQUIRE(detail::rounded_quotient(std::uint64_t{1} << 32, std::uint64_t{1} << 31) == 2.0f);
  REQUIRE(detail::rounded_quotient(std::uint64_t{1} << 32, 1) == 4294967296.0f);
  REQUIRE(detail::rounded_quotient(7, 7) == 1.0f);
  REQUIRE(detail::rounded_quotient(1, 1) == 1.0f);
  // The quotient lies within half a place of the result: |num - f den| <= |num - neighbour den|.
  std::uint64_t random = 1;
  for (int trial = 0; trial < 20000; ++trial) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const std::uint64_t den = (random >> 33) % (std::uint64_t{1} << 28) + 1;
    const std::uint64_t num = den + (random >> 20) % (std::uint64_t{1} << 31);
    const float result = detail::rounded_quotient(num, den);
    const auto error = [&](float f) {  // long double: 28 + 24 bits fit
      return std::abs(static_cast<long double>(num) -
                      static_cast<long double>(f) * static_cast<long double>(den));
    };
    REQUIRE(error(result) <= error(std::nextafter(result, 0.0f)));
    REQUIRE(error(result) <= error(std::nextafter(result, 1e30f)));
  }
  const testing::PlanVectors bernoulli = plan(2000, 1, 1, two_class_rule(0.3));
  const testing::PlanVectors exact = plan(2000, 1, 1, two_class_rule(0.3, KeepMode::kExact));
  REQUIRE(bernoulli.counts[1].weight ==
          detail::rounded_quotient(std::uint64_t{1} << 32, detail::keep_bound(0.3)));
  REQUIRE(exact.counts[1].weight ==
          detail::rounded_quotient(static_cast<std::uint64_t>(exact.counts[1].members),
                                   static_cast<std::uint64_t>(exact.counts[1].kept)));
  for (const testing::PlanVectors* result : {&bernoulli, &exact}) {
    bool equal = true;
    for (std::size_t p = 0; p < result->ids.size(); ++p) {
      const float expected = is_candidate(result->ids[p]) ? result->counts[1].weight : 1.0f;
      equal = equal && result->weights[p] == expected;
    }
    REQUIRE(equal);
  }
}

TEST_CASE("rule 5: without rescaling every weight is 1", "[kernels][keep]") {
  for (const KeepMode mode : {KeepMode::kBernoulli, KeepMode::kExact}) {
    EpochRule rule = two_class_rule(0.5, mode);
    rule.classes[1].rescale = false;
    const testing::PlanVectors result = plan(3000, 1, 1, rule);
    REQUIRE(result.ids.size() < 2900);
    REQUIRE(result.weights == std::vector<float>(result.ids.size(), 1.0f));
  }
}

TEST_CASE("sixteen classes are kept each by its own ratio", "[kernels][keep]") {
  EpochRule rule;
  rule.classes.clear();
  for (int c = 0; c < 16; ++c) rule.classes.push_back({c / 15.0, true});
  rule.classifier = testing::classifier_of([](std::int64_t i) { return (i * 7 + i / 16) % 16; });
  for (const KeepMode mode : {KeepMode::kBernoulli, KeepMode::kExact}) {
    rule.mode = mode;
    const testing::PlanVectors expected = plan(20011, 5, 6, rule);
    for (std::size_t c = 0; c < 16; ++c) {
      const auto members = static_cast<double>(expected.counts[c].members);
      REQUIRE(std::abs(static_cast<double>(expected.counts[c].kept) -
                       members * static_cast<double>(c) / 15.0) <= 6.0 * std::sqrt(members / 4));
    }
    for (const detail::SimdLevel level : testing::simd_levels()) {
      const testing::WithLevel use(level);
      for (int threads = 1; threads <= 4; ++threads) {
        REQUIRE(plan(20011, 5, 6, rule, threads) == expected);
      }
    }
  }
}

TEST_CASE("rule 13: a plan refuses what it cannot do, by name", "[kernels][keep]") {
  Team team(2);
  using Catch::Matchers::ContainsSubstring;
  const EpochRule good = testing::keep_all();
  REQUIRE_THROWS_AS(testing::build_plan(-1, 1, 1, good, team), InvalidArgument);
  REQUIRE_THROWS_WITH(testing::build_plan(most_samples(1) + 1, 1, 1, good, team),
                      ContainsSubstring("plan: ") && ContainsSubstring("2147483649"));
  EpochRule sixteen;
  sixteen.classes.assign(16, KeepClass{});
  REQUIRE(most_samples(16) == std::int64_t{1} << 28);
  REQUIRE_THROWS_WITH(testing::build_plan(most_samples(16) + 1, 1, 1, sixteen, team),
                      ContainsSubstring("must lie in [0, 268435456], got 268435457"));
  EpochRule rule;
  rule.classes.clear();
  REQUIRE_THROWS_AS(testing::build_plan(10, 1, 1, rule, team), InvalidArgument);
  rule.classes.assign(17, KeepClass{});
  REQUIRE_THROWS_AS(testing::build_plan(10, 1, 1, rule, team), InvalidArgument);
  for (const double ratio : {-0.1, 1.1, std::nan("")}) {
    rule.classes = {{ratio, true}};
    REQUIRE_THROWS_AS(testing::build_plan(10, 1, 1, rule, team), InvalidArgument);
  }
  for (const KeepMode mode : {KeepMode::kBernoulli, KeepMode::kExact}) {
    rule = two_class_rule(0.5, mode);
    rule.classes = {KeepClass{0.5}};
    for (const detail::SimdLevel level : testing::simd_levels()) {
      const testing::WithLevel use(level);
      REQUIRE_THROWS_WITH(testing::build_plan(10, 1, 1, rule, team), ContainsSubstring("got 1"));
      REQUIRE_THROWS_WITH(testing::build_plan(300000, 1, 1, rule, team),
                          ContainsSubstring("got 1"));
    }
  }
}

// H0: every candidate is kept with probability q / 2^32, whatever the epoch and its neighbours.
TEST_CASE("rule 4: keep decisions are unbiased and independent across epochs and samples",
          "[kernels][keep][statistical]") {
  constexpr std::int64_t kN = 200000;
  EpochRule rule;
  for (const double ratio : {0.1, 0.5, 0.9}) {
    rule.classes = {{ratio, true}};
    std::vector<std::vector<double>> kept(2, std::vector<double>(kN));
    for (std::uint32_t epoch = 0; epoch < 2; ++epoch) {
      for (const std::int64_t id : plan(kN, 123, epoch, rule).ids) {
        kept[epoch][static_cast<std::size_t>(id)] = 1.0;
      }
    }
    const double sigma = std::sqrt(ratio * (1 - ratio));
    const auto z_of_mean = [&](const std::vector<double>& x) {
      double sum = 0;
      for (const double v : x) sum += (v - ratio) / sigma;
      return sum / std::sqrt(static_cast<double>(kN));
    };
    const auto z_of_product =
        [&](std::size_t lag, const std::vector<double>& x, const std::vector<double>& y) {
          double sum = 0;
          for (std::size_t i = 0; i + lag < x.size(); ++i) {
            sum += (x[i] - ratio) * (y[i + lag] - ratio) / (sigma * sigma);
          }
          return sum / std::sqrt(static_cast<double>(kN));
        };
    REQUIRE(std::abs(z_of_mean(kept[0])) < testing::kLargestZ);
    REQUIRE(std::abs(z_of_mean(kept[1])) < testing::kLargestZ);
    REQUIRE(std::abs(z_of_product(0, kept[0], kept[1])) < testing::kLargestZ);
    for (const std::size_t lag : {1, 16, 64}) {
      REQUIRE(std::abs(z_of_product(lag, kept[0], kept[0])) < testing::kLargestZ);
    }
  }
}

// H0: E[kept * weight] = 1 for a candidate, so the weights of all kept samples sum to N.
TEST_CASE("rule 6: the weights of a plan sum to the number of samples on average",
          "[kernels][keep][statistical]") {
  constexpr std::int64_t kN = 3000;
  constexpr int kPlans = 2000;
  for (const double ratio : {0.2, 0.5, 0.9}) {
    double sum = 0;
    double candidates = 0;
    for (int epoch = 0; epoch < kPlans; ++epoch) {
      const testing::PlanVectors result =
          plan(kN, 55, static_cast<std::uint32_t>(epoch), two_class_rule(ratio));
      for (const float weight : result.weights) sum += static_cast<double>(weight);
      candidates += static_cast<double>(result.counts[1].members);
    }
    const double sigma = std::sqrt(candidates * (1 - ratio) / ratio);
    REQUIRE(std::abs(sum - double{kN} * kPlans) < testing::kLargestZ * sigma);
  }
}

}  // namespace infobatch
