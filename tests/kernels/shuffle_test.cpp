#include <infobatch/detail/shuffle.hpp>
#include <tests/kernels/plan_fixture.hpp>
#include <tests/kernels/simd_levels.hpp>
#include <tests/support/catch2_shim.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

namespace infobatch {

using testing::keep_all;
using testing::plan;
using testing::plan_with;
using testing::two_class_rule;

namespace {

constexpr std::int64_t kMost = std::int64_t{1} << 40;  // far beyond any plan

// Constants that give even small plans one or two levels of tiny buckets.
testing::PlanOptions tiny_buckets(int bits1, int fewest_bits2 = 1) {
  testing::PlanOptions options;
  options.shuffle.large_bucket = 1;
  options.shuffle.large_bucket_bits = 0;
  options.shuffle.bucket = 2;
  options.shuffle.bits1 = bits1;
  options.shuffle.fewest_bits2 = fewest_bits2;
  return options;
}

// One level of the partition, as shuffle.hpp words it.
std::vector<std::int64_t> parted(const std::vector<std::int64_t>& items,
                                 std::size_t begin,
                                 std::size_t end,
                                 int bits,
                                 std::uint64_t seed,
                                 std::uint32_t epoch,
                                 Stream stream,
                                 std::vector<std::size_t>& ends) {
  std::vector<std::vector<std::int64_t>> parts(std::size_t{1} << bits);
  for (std::size_t p = begin; p < end; ++p) {
    const std::uint32_t part = bits <= 2   ? sliced_draw(seed, epoch, stream, p) >> (32 - bits)
                               : bits <= 8 ? random_byte(seed, epoch, stream, p) >> (8 - bits)
                                           : random_half(seed, epoch, stream, p) >> (16 - bits);
    parts[part].push_back(items[p]);
  }
  std::vector<std::int64_t> result;
  for (const std::vector<std::int64_t>& part : parts) {
    result.insert(result.end(), part.begin(), part.end());
    ends.push_back(begin + result.size());
  }
  return result;
}

// The order of the ids 0 .. n-1 by the written rule, without any of the engine's shuffle code but
// the shape and the draws.
std::vector<std::int64_t> reference_order(std::int64_t n,
                                          std::uint64_t seed,
                                          std::uint32_t epoch,
                                          const detail::ShuffleConstants& constants) {
  const detail::ShuffleShape shape = detail::shuffle_shape(n, constants);
  std::vector<std::int64_t> items(static_cast<std::size_t>(n));
  std::iota(items.begin(), items.end(), 0);
  std::vector<std::size_t> ends{items.size()};
  for (const int level : {1, 2}) {
    const int bits = level == 1 ? shape.bits1 : shape.bits2;
    if (bits == 0) continue;
    std::vector<std::int64_t> next;
    std::vector<std::size_t> next_ends;
    std::size_t begin = 0;
    for (const std::size_t end : ends) {
      const auto part = parted(items,
                               begin,
                               end,
                               bits,
                               seed,
                               epoch,
                               level == 1 ? kStreamBucket1 : kStreamBucket2,
                               next_ends);
      next.insert(next.end(), part.begin(), part.end());
      begin = end;
    }
    items = next;
    ends = next_ends;
  }
  std::size_t begin = 0;
  for (const std::size_t end : ends) {
    for (std::size_t i = end - begin; i-- > 1;) {
      const std::uint32_t word = random_word(seed, epoch, kStreamSwap, begin + i);
      const std::uint32_t j =
          detail::swap_index(seed, epoch, begin + i, static_cast<std::uint32_t>(i + 1), word);
      std::swap(items[begin + i], items[begin + j]);
    }
    begin = end;
  }
  return items;
}

bool is_permutation_of_all(std::vector<std::int64_t> ids) {
  std::sort(ids.begin(), ids.end());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] != static_cast<std::int64_t>(i)) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("rule 8: the number of buckets is a function of the kept ids alone",
          "[kernels][shuffle]") {
  using detail::shuffle_shape;
  const auto bits = [](std::int64_t kept) {
    const detail::ShuffleShape shape = shuffle_shape(kept);
    return std::vector<int>{shape.bits1, shape.bits2};
  };
  constexpr std::int64_t kLarge = std::int64_t{1} << 18;
  REQUIRE(bits(0) == std::vector<int>{0, 0});
  REQUIRE(bits(kLarge) == std::vector<int>{0, 0});
  REQUIRE(bits(kLarge + 1) == std::vector<int>{1, 0});
  REQUIRE(bits(4 * kLarge) == std::vector<int>{2, 0});
  REQUIRE(bits(4 * kLarge + 4) == std::vector<int>{8, 0});
  REQUIRE(bits(49152 * 256) == std::vector<int>{8, 0});
  REQUIRE(bits(49153 * 256) == std::vector<int>{8, 5});
  REQUIRE(bits(std::int64_t{680} << 20) == std::vector<int>{8, 6});
  REQUIRE(bits(std::int64_t{1} << 40) == std::vector<int>{9, 16});
  for (std::int64_t kept = 1; kept <= kMost; kept += kept / 3 + 1) {
    const detail::ShuffleShape shape = shuffle_shape(kept);
    REQUIRE(kept >> (shape.bits1 + shape.bits2) <= kLarge);
    REQUIRE((shape.bits1 <= 16 && shape.bits2 <= 16));
  }
}

TEST_CASE("rule 8: a plan is a permutation of the kept ids at every size", "[kernels][shuffle]") {
  for (const detail::SimdLevel level : testing::simd_levels()) {
    const testing::WithLevel use(level);
    for (const std::int64_t n :
         {0,     1,     2,      3,      15,     16,     17,      63,      64,     65,
          127,   128,   129,    1023,   1024,   1025,   4095,    4096,    4097,   65535,
          65536, 65537, 262143, 262144, 262145, 524289, 1048576, 1048577, 1048581}) {
      CAPTURE(n, static_cast<int>(level));
      REQUIRE(is_permutation_of_all(plan(n, 1, 2, keep_all()).ids));
    }
    for (const int bits1 : {1, 3, 9}) {
      for (std::int64_t n = 1; n < 3000; n += n < 40 ? 1 : 111) {
        CAPTURE(n, bits1, static_cast<int>(level));
        REQUIRE(is_permutation_of_all(plan_with(tiny_buckets(bits1), n, 1, 2, keep_all()).ids));
      }
    }
  }
}

TEST_CASE("scatter_few writes the items of each part, and nothing behind them",
          "[kernels][shuffle]") {
  constexpr int kWords = 32;
  constexpr std::uint32_t kUntouched = 0xDEADBEEF;
  std::mt19937_64 random(8);
  std::vector<std::uint32_t> items(kWords * 64);
  std::iota(items.begin(), items.end(), 1u);
  for (const detail::SimdLevel level : testing::simd_levels()) {
    const testing::WithLevel use(level);
    for (int run = 0; run < 400; ++run) {
      const int parts = 1 + run % 4;
      // Which part an item has; -1: none, as at the ends of a list. Some parts have few items.
      const bool whole = run % 8 < 4;
      const std::uint64_t rare = random() % 64;
      std::vector<std::vector<std::uint32_t>> expected(static_cast<std::size_t>(parts));
      std::vector<std::uint64_t> lanes(static_cast<std::size_t>(parts) * kWords, 0);
      for (std::size_t i = 0; i < items.size(); ++i) {
        if (!whole && (i < 100 || i > 1900)) continue;
        const bool first = random() % 64 >= rare;
        const std::size_t part = first ? 0 : random() % static_cast<std::uint64_t>(parts);
        expected[part].push_back(items[i]);
        lanes[part * kWords + i / 64] |= std::uint64_t{1} << i % 64;
      }
      // Each part ends where memory of somebody else begins.
      std::vector<std::vector<std::uint32_t>> out(static_cast<std::size_t>(parts));
      std::uint32_t* slots[4] = {};
      for (std::size_t part = 0; part < expected.size(); ++part) {
        out[part].assign(expected[part].size() + 64, kUntouched);
        slots[part] = out[part].data();
      }
      detail::kernels().scatter_few(lanes.data(), kWords, parts, items.data(), slots);
      for (std::size_t part = 0; part < expected.size(); ++part) {
        CAPTURE(static_cast<int>(level), parts, part, whole, rare);
        REQUIRE(slots[part] == out[part].data() + expected[part].size());
        expected[part].resize(out[part].size(), kUntouched);
        REQUIRE(out[part] == expected[part]);
      }
    }
  }
}

TEST_CASE("rule 8: the same plan for 1 to 4 threads, every instruction set",
          "[kernels][shuffle][threads]") {
  for (const std::int64_t n : {1000, 70001, 400000, 1500000, 3000000}) {
    CAPTURE(n);
    const EpochRule rule = two_class_rule(0.5);
    const testing::PlanVectors expected = plan(n, 17, 3, rule);
    for (const detail::SimdLevel level : testing::simd_levels()) {
      const testing::WithLevel use(level);
      for (int threads = 1; threads <= 4; ++threads) {
        CAPTURE(threads, static_cast<int>(level));
        REQUIRE(plan(n, 17, 3, rule, threads) == expected);
      }
    }
  }
}

TEST_CASE("rule 8: two levels give the same plan for any team and instruction set",
          "[kernels][shuffle]") {
  for (const int bits1 : {1, 4, 9}) {
    for (const std::int64_t n : {5, 1000, 30011}) {
      CAPTURE(bits1, n);
      testing::PlanOptions options = tiny_buckets(bits1);
      const EpochRule rule = two_class_rule(0.7);
      const testing::PlanVectors expected = plan_with(options, n, 1, 1, rule);
      for (const detail::SimdLevel level : testing::simd_levels()) {
        const testing::WithLevel use(level);
        for (int threads = 1; threads <= 4; ++threads) {
          REQUIRE(plan_with(options, n, 1, 1, rule, threads) == expected);
        }
      }
    }
  }
}

TEST_CASE("rule 8: a part of level 2 that outgrows its slots changes nothing",
          "[kernels][shuffle]") {
  testing::PlanOptions options = tiny_buckets(3);
  for (const std::int64_t n : {40, 1000, 30011}) {
    const testing::PlanVectors expected = plan_with(options, n, 2, 3, two_class_rule(0.7));
    testing::PlanOptions tight = options;
    tight.shuffle.slack_deviations = 0;
    REQUIRE(plan_with(tight, n, 2, 3, two_class_rule(0.7), 2) == expected);
  }
}

TEST_CASE("rule 8: the digest of a plan whose kept list passes the caches by",
          "[kernels][shuffle][slow]") {
  const std::int64_t n = (std::int64_t{1} << 25) + 12345;
  const testing::PlanVectors result = plan(n, 7, 42, keep_all(), 2);
  REQUIRE(is_permutation_of_all(result.ids));
  REQUIRE(plan(n, 7, 42, keep_all(), 1) == result);
  REQUIRE(testing::digest(result) == 0x8e99e90bce107bcdu);
}

TEST_CASE("rule 8: other seeds and epochs give other orders, the same ones the same",
          "[kernels][shuffle]") {
  const testing::PlanVectors first = plan(1000, 5, 1, keep_all());
  REQUIRE(plan(1000, 5, 1, keep_all()) == first);
  REQUIRE_FALSE(plan(1000, 5, 2, keep_all()) == first);
  REQUIRE_FALSE(plan(1000, 6, 1, keep_all()) == first);
  REQUIRE_FALSE(plan(1000, 5 + (std::uint64_t{1} << 32), 1, keep_all()) == first);
}

TEST_CASE("rule 8: a plan follows the written rule, draw by draw", "[kernels][shuffle]") {
  for (const std::int64_t n : {3, 100, 262144, 300000, 1000000, 1100000}) {
    CAPTURE(n);
    REQUIRE(plan(n, 77, 5, keep_all()).ids == reference_order(n, 77, 5, {}));
  }
  for (const int bits1 : {1, 2, 7, 9}) {
    for (const int fewest : {1, 3}) {
      for (const std::int64_t n : {1, 2, 7, 100, 5003}) {
        CAPTURE(n, bits1, fewest);
        const testing::PlanOptions options = tiny_buckets(bits1, fewest);
        REQUIRE(plan_with(options, n, 78, 6, keep_all(), 2).ids ==
                reference_order(n, 78, 6, options.shuffle));
      }
    }
  }
}

TEST_CASE("rule 8: the rule does not change unnoticed: digests of plans", "[kernels][shuffle]") {
  const auto digest = [](std::int64_t n, const EpochRule& rule) {
    return testing::digest(plan(n, 0x0123456789abcdef, 41, rule, 2));
  };
  CHECK(digest(1000, two_class_rule(0.5)) == 0x90476cfa1c8fb2beu);
  CHECK(digest(1000, two_class_rule(0.5, KeepMode::kExact)) == 0x595de2a34801a533u);
  CHECK(digest(400000, keep_all()) == 0xbd9e02d2b20075b5u);
  CHECK(digest(1500000, two_class_rule(0.25)) == 0xa817e0c5ea3fe650u);
  CHECK(digest(2000000, keep_all()) == 0x1f576483cd27c2cdu);
}

TEST_CASE("rule 8: the digest of a plan with two levels", "[kernels][shuffle][slow]") {
  const testing::PlanVectors result = plan(12600000, 7, 41, keep_all(), 2);
  REQUIRE(is_permutation_of_all(result.ids));
  REQUIRE(testing::digest(result) == 0x49bd052f4fd244c5u);
}

// H0: all permutations are equally likely. Chi-square with K! - 1 degrees of freedom, compared with
// the normal quantile of Wilson and Hilferty at alpha = 1e-6.
TEST_CASE("rule 8: all permutations of few ids are equally likely",
          "[kernels][shuffle][statistical]") {
  struct Case {
    std::int64_t kept;
    testing::PlanOptions options;
  };
  const std::vector<Case> cases = {{2, {}},
                                   {3, {}},
                                   {4, {}},
                                   {5, {}},
                                   {4, tiny_buckets(4)},
                                   {5, tiny_buckets(4)},
                                   {5, tiny_buckets(3)},
                                   {4, tiny_buckets(1)},
                                   {5, tiny_buckets(1)},
                                   {5, tiny_buckets(1, 2)}};
  for (const Case& c : cases) {
    double permutations = 1;
    for (std::int64_t k = 2; k <= c.kept; ++k) permutations *= static_cast<double>(k);
    const int trials = static_cast<int>(permutations) * 150 + 2000;
    std::map<std::vector<std::int64_t>, int> seen;
    for (int t = 0; t < trials; ++t) {
      ++seen[plan_with(c.options, c.kept, 909, static_cast<std::uint32_t>(t), keep_all()).ids];
    }
    const double expected = trials / permutations;
    double chi2 = (permutations - static_cast<double>(seen.size())) * expected;
    for (const auto& entry : seen) {
      chi2 += (entry.second - expected) * (entry.second - expected) / expected;
    }
    const double df = permutations - 1;
    const double term = 2.0 / (9.0 * df);
    const double critical = df * std::pow(1.0 - term + 4.7534 * std::sqrt(term), 3.0);
    CAPTURE(c.kept, c.options.shuffle.bits1, chi2, critical);
    REQUIRE(chi2 < critical);
  }
}

// H0: a uniform permutation. The mean position of any fixed set of m ids is normal around
// (K - 1) / 2 with variance (K + 1)(K - m) / (12 m); fixed points and rising neighbours are
// Poisson(1).
TEST_CASE("rule 8: positions in a large plan are uniform", "[kernels][shuffle][statistical]") {
  for (const std::int64_t n : {30000, 300000, 1000000, 1400000}) {
    for (std::uint32_t epoch = 0; epoch < 3; ++epoch) {
      const std::vector<std::int64_t> ids = plan(n, 31337, epoch, keep_all(), 2).ids;
      const auto kept = static_cast<double>(n);
      for (const int part : {0, 1, 5, 9}) {  // tenths of the ids
        double sum = 0;
        double m = 0;
        for (std::size_t p = 0; p < ids.size(); ++p) {
          if (ids[p] * 10 / n == part) {
            sum += static_cast<double>(p);
            ++m;
          }
        }
        const double sigma = std::sqrt((kept + 1) * (kept - m) / (12 * m));
        CAPTURE(n, epoch, part);
        REQUIRE(std::abs(sum / m - (kept - 1) / 2) < 5.5 * sigma);  // 1e-6 over 48 looks
      }
      int fixed = 0;
      int rising = 0;
      for (std::size_t p = 0; p < ids.size(); ++p) {
        fixed += ids[p] == static_cast<std::int64_t>(p) ? 1 : 0;
        rising += p > 0 && ids[p] == ids[p - 1] + 1 ? 1 : 0;
      }
      REQUIRE(fixed < 14);  // P(Poisson(1) >= 14) = 5e-12
      REQUIRE(rising < 14);
    }
  }
}

// H0: each place holds each id equally often, over many plans with both levels.
TEST_CASE("rule 8: every id reaches every place", "[kernels][shuffle][statistical]") {
  constexpr std::int64_t kN = 40;
  constexpr int kPlans = 20000;
  for (const int bits1 : {2, 4}) {
    std::vector<int> counts(kN * kN);
    for (int t = 0; t < kPlans; ++t) {
      const auto ids =
          plan_with(tiny_buckets(bits1), kN, 4711, static_cast<std::uint32_t>(t), keep_all()).ids;
      for (std::size_t p = 0; p < ids.size(); ++p) {
        ++counts[p * kN + static_cast<std::size_t>(ids[p])];
      }
    }
    const double expected = double{kPlans} / kN;
    double chi2 = 0;
    for (const int count : counts) chi2 += (count - expected) * (count - expected) / expected;
    const double df = (kN - 1) * (kN - 1);
    // The sum over a Latin-square table has mean (N-1)^2 N/(N-1) / N, close to df: normal bound.
    REQUIRE(std::abs(chi2 - df) < 6.0 * std::sqrt(2.0 * df));
  }
}

// H0: a word is rejected with probability (2^32 mod bound) / 2^32, and the rest is uniform.
TEST_CASE("rule 8: Lemire's scaling with rejection is exactly uniform",
          "[kernels][shuffle][statistical]") {
  // Bounds just above 2^31 reject almost half of the words: a bias would be plain.
  constexpr std::uint32_t kBound = 0x80000001u;
  constexpr int kTrials = 200000;
  int rejected = 0;
  double sum = 0;
  for (int t = 0; t < kTrials; ++t) {
    const auto position = static_cast<std::uint64_t>(t);
    const std::uint32_t word = random_word(3, 1, kStreamSwap, position);
    const std::uint32_t index = detail::swap_index(3, 1, position, kBound, word);
    REQUIRE(index < kBound);
    const auto direct = static_cast<std::uint32_t>(std::uint64_t{word} * kBound >> 32);
    rejected += index != direct ? 1 : 0;
    sum += static_cast<double>(index) / kBound;
  }
  const double sigma = std::sqrt(kTrials / 4.0);
  REQUIRE(std::abs(rejected - kTrials * 0.5) < testing::kLargestZ * sigma);
  REQUIRE(std::abs(sum - kTrials * 0.5) < testing::kLargestZ * std::sqrt(kTrials / 12.0));
}

TEST_CASE("the memory of an old plan is used again and does not show", "[kernels][shuffle]") {
  Team team(1);
  const EpochRule rule = two_class_rule(0.5);
  PlanArrays old = testing::build_plan(500000, 1, 1, rule, team);
  const std::int64_t* const memory = old.ids.data();
  const PlanArrays next = testing::build_plan(500000, 1, 2, rule, team, std::move(old));
  REQUIRE(next.ids.data() == memory);
  const testing::PlanVectors expected = plan(500000, 1, 2, rule);
  REQUIRE(std::equal(expected.ids.begin(), expected.ids.end(), next.ids.data()));
  REQUIRE(std::equal(expected.weights.begin(), expected.weights.end(), next.weights.data()));
  REQUIRE(next.counts.size() == 2);
  REQUIRE(next.counts[0].members + next.counts[1].members == 500000);
}

}  // namespace infobatch
