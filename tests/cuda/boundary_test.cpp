#include <cuda_kernels/exact_mean.hpp>
#include <cuda_kernels/fold.hpp>
#include <cuda_kernels/keep.hpp>
#include <cuda_kernels/plan_builder.hpp>
#include <cuda_kernels/select.hpp>
#include <infobatch/detail/exact_mean.hpp>
#include <infobatch/detail/keep.hpp>
#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/select.hpp>
#include <infobatch/detail/streams.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session/fold.hpp>
#include <tests/cuda/device_array.hpp>
#include <tests/cuda/schedules.hpp>
#include <tests/kernels/plan_fixture.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

// The kernels of an epoch's boundary under emulation: equal to the engine's own steps to the bit,
// at sizes around the edges of warps, groups and blocks, under every schedule.

using namespace infobatch;
using namespace infobatch::testing;

namespace {

constexpr std::uint64_t kSeed = 0x1234567890abcdefu;
constexpr std::uint32_t kEpoch = 4;

enum Kind { kLosses, kAnyBits, kDenormals, kLargest, kTies };

std::uint32_t word(std::uint32_t kind, std::int64_t i) {
  return random_word(99, kind, 70, static_cast<std::uint64_t>(i));
}

std::vector<float> scores_of(Kind kind, std::int64_t n) {
  std::vector<float> scores(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t w = word(kind, i);
    float score = simulated_loss(i, 0);
    if (kind == kAnyBits) score = bits_float(w);
    if (kind == kDenormals) score = bits_float(w & 0x80ffffffu);
    if (kind == kLargest) score = (w & 1u) != 0 ? 3.4028235e38f : -3.4028235e38f;
    if (kind == kTies) score = static_cast<float>(w % 5) - 2.0f;
    if (!is_finite(score) || w % 11 == 0) score = never_observed();
    scores[static_cast<std::size_t>(i)] = score;
  }
  return scores;
}

/// Columns on the host and on the device.
struct Columns {
  explicit Columns(std::int64_t n, Kind kind = kLosses)
      : scores(scores_of(kind, n)),
        other(scores_of(kTies, n)),
        table(scores.size()),
        device_scores(scores),
        device_other(other),
        device_table(table_of(n)) {}

  Classifier on_device(Classifier classifier) const {
    for (int t = 0; t < classifier.key.count; ++t) {
      const float*& column = classifier.key.terms[t].column;
      column = column == scores.data() ? device_scores.data() : device_other.data();
    }
    if (classifier.table != nullptr) classifier.table = device_table.data();
    return classifier;
  }

  std::vector<float> scores;
  std::vector<float> other;
  std::vector<std::uint8_t> table;
  DeviceArray<float> device_scores;
  DeviceArray<float> device_other;
  DeviceArray<std::uint8_t> device_table;

 private:
  const std::vector<std::uint8_t>& table_of(std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
      table[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(word(50, i) % 16);
    }
    return table;
  }
};

/// A way to put samples into classes.
enum class Sort { kEverybody, kBelow, kTwoTerms, kRanks, kPooled, kTable };
const Sort kSorts[] = {
    Sort::kEverybody, Sort::kBelow, Sort::kTwoTerms, Sort::kRanks, Sort::kPooled, Sort::kTable};

int classes_of(Sort sort) {
  switch (sort) {
    case Sort::kEverybody:
      return 1;
    case Sort::kBelow:
    case Sort::kTwoTerms:
      return 2;
    case Sort::kRanks:
      return 4;
    case Sort::kPooled:
      return 3;
    case Sort::kTable:
      return 16;
  }
  return 0;
}

Classifier classifier_of_sort(Sort sort, const Columns& columns, Team& team) {
  const auto n = static_cast<std::int64_t>(columns.scores.size());
  Classifier classifier;
  const Key score = Key::of(columns.scores.data());
  const auto rank_cut = [&](const Key& key, const Pool* pool, std::int64_t rank) {
    return select_rank(key, pool, n, rank, kSeed, kEpoch, team);
  };
  switch (sort) {
    case Sort::kEverybody:
      break;
    case Sort::kBelow:
      return Classifier::below(score, sum_scores(columns.scores.data(), n, team).threshold());
    case Sort::kTwoTerms:
      classifier.kind = Classifier::Kind::kBelow;
      classifier.key.terms[0] = {columns.scores.data(), 0.7};
      classifier.key.terms[1] = {columns.other.data(), -1.3};
      classifier.key.count = 2;
      classifier.threshold = 0.25f;
      break;
    case Sort::kRanks:
      classifier.kind = Classifier::Kind::kRanks;
      classifier.key = Key::of(columns.other.data());  // ties
      for (const std::int64_t rank : {n / 7, n / 3, n / 2}) {
        classifier.cuts[classifier.n_cuts++] = rank_cut(classifier.key, nullptr, rank);
      }
      break;
    case Sort::kPooled: {
      const DrawCut cut =
          select_smallest_draws(Classifier{}, 0, n, n, 2 * n / 3, kSeed, kEpoch, kStreamPool, team);
      classifier.kind = Classifier::Kind::kRanks;
      classifier.key = score;
      classifier.pooled = true;
      classifier.pool = {cut, kSeed, kEpoch, 2};
      classifier.cuts[0] = rank_cut(score, &classifier.pool, n / 4);
      classifier.n_cuts = 1;
      break;
    }
    case Sort::kTable:
      return Classifier::of_table(columns.table.data());
  }
  return classifier;
}

EpochRule rule_of(Sort sort, KeepMode mode, const Columns& columns, Team& team) {
  EpochRule rule;
  rule.mode = mode;
  rule.classifier = classifier_of_sort(sort, columns, team);
  // Ratios of one plane and of 32, all and none.
  const double ratios[] = {1.0, 0.5, 0.3, 0.0, 0.875, 1.0 / 3.0, 1e-6};
  for (int c = 0; c < classes_of(sort); ++c) rule.classes.push_back({ratios[c % 7], c % 5 != 4});
  if (mode == KeepMode::kExact) rule.multiple = 16;
  return rule;
}

/// The plan of the engine and that of the kernels.
/// @return how many are kept.
std::int64_t require_same_plan(std::int64_t n,
                               const EpochRule& rule,
                               const Columns& columns,
                               const detail::ShuffleConstants& constants = {}) {
  Team team(1);
  PlanOptions options;
  options.shuffle = constants;
  const PlanVectors expected = plan_with(options, n, kSeed, kEpoch, rule);
  detail::PlanTask task{n, kSeed, kEpoch, rule};
  task.rule.classifier = columns.on_device(rule.classifier);
  // Exactly as large as the plan is, which the engine has just told.
  const DeviceArray<std::int64_t> ids(static_cast<std::int64_t>(expected.ids.size()));
  const DeviceArray<float> weights(static_cast<std::int64_t>(expected.ids.size()));
  detail::PlanOutcome outcome;
  {
    cuda::Work work(nullptr);
    outcome = cuda::fill_plan(work, task, constants, {ids.data(), weights.data()});
    work.wait();
  }
  REQUIRE(outcome.kept == static_cast<std::int64_t>(expected.ids.size()));
  REQUIRE(ids.values() == expected.ids);
  REQUIRE(weights.values() == expected.weights);
  REQUIRE(outcome.counts.size() == expected.counts.size());
  for (std::size_t c = 0; c < outcome.counts.size(); ++c) {
    CAPTURE(c);
    REQUIRE(outcome.counts[c].members == expected.counts[c].members);
    REQUIRE(outcome.counts[c].kept == expected.counts[c].kept);
    REQUIRE(outcome.counts[c].keep_below == expected.counts[c].keep_below);
    REQUIRE(outcome.counts[c].weight == expected.counts[c].weight);
  }
  return outcome.kept;
}

/// Level 1 alone, and two levels, at sizes that an emulation can bear.
detail::ShuffleConstants small_buckets(std::int64_t bucket, int bits1, int fewest_bits2) {
  detail::ShuffleConstants constants;
  constants.large_bucket = 1;
  constants.large_bucket_bits = 0;
  constants.bucket = bucket;
  constants.bits1 = bits1;
  constants.fewest_bits2 = fewest_bits2;
  return constants;
}

std::vector<std::int64_t> sizes() {
  if (is_brief()) return {0, 1, 33, 257, 2049};
  return {0, 1, 2, 31, 32, 33, 255, 256, 257, 2047, 2048, 2049, 4096, 10007};
}

}  // namespace

TEST_CASE("cuda: the sum of scores is the engine's to the last bit", "[cuda][rule2]") {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  const WithSchedule with(schedule);
  for (const Kind kind : {kLosses, kAnyBits, kDenormals, kLargest, kTies}) {
    for (const std::int64_t n : {0, 1, 31, 255, 4095, 4096, 4097, 20011}) {
      CAPTURE(schedule.name, int{kind}, n);
      const std::vector<float> scores = scores_of(kind, n);
      const DeviceArray<float> on_device(scores);
      Team team(1);
      const ScoreSum expected = infobatch::sum_scores(scores.data(), n, team);
      cuda::Work work(nullptr);
      const ScoreSum sum = cuda::sum_scores(work, on_device.data(), n);
      REQUIRE(sum == expected);
      REQUIRE(float_bits(sum.threshold()) == float_bits(expected.threshold()));
    }
  }
  require_nothing_left();
}

TEST_CASE("cuda: the sum of a block whose exponents lie far apart does not run over",
          "[cuda][rule2]") {
  const WithSchedule with(schedules()[0]);
  for (int apart = 20; apart <= 34; ++apart) {
    CAPTURE(apart);
    // 4095 values of full mantissas, of one sign, above a small one.
    const float large = std::ldexp(std::nextafter(2.0f, 0.0f), apart);
    std::vector<float> scores(4096, large);
    scores[77] = 1.0f;
    const DeviceArray<float> on_device(scores);
    Team team(1);
    cuda::Work work(nullptr);
    REQUIRE(cuda::sum_scores(work, on_device.data(), 4096) ==
            infobatch::sum_scores(scores.data(), 4096, team));
  }
}

TEST_CASE("cuda: plans are the engine's, whatever classes and keep modes", "[cuda][rule4]") {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  const WithSchedule with(schedule);
  for (const Sort sort : kSorts) {
    for (const KeepMode mode : {KeepMode::kBernoulli, KeepMode::kExact}) {
      for (const std::int64_t n : sizes()) {
        CAPTURE(schedule.name, static_cast<int>(sort), static_cast<int>(mode), n);
        Team team(1);
        const Columns columns(n);
        require_same_plan(n, rule_of(sort, mode, columns, team), columns);
      }
    }
  }
  require_nothing_left();
}

TEST_CASE("cuda: the order is the engine's with one level of buckets and with two",
          "[cuda][rule8]") {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  const WithSchedule with(schedule);
  // Bits of a level up to 2 are of the sliced draw, up to 8 of a byte, beyond of a half word.
  const detail::ShuffleConstants constants[] = {small_buckets(6000, 2, 3),
                                                small_buckets(200, 4, 3),
                                                small_buckets(200, 8, 3),
                                                small_buckets(30, 2, 9),
                                                small_buckets(2000, 1, 2)};
  for (const detail::ShuffleConstants& shape : constants) {
    for (const std::int64_t n : {1, 2, 1000, is_brief() ? 3001 : 30011}) {
      CAPTURE(schedule.name, shape.bucket, shape.bits1, n);
      Team team(1);
      const Columns columns(n);
      require_same_plan(
          n, rule_of(Sort::kBelow, KeepMode::kBernoulli, columns, team), columns, shape);
    }
  }
}

TEST_CASE("cuda: a plan of half a million samples is the engine's", "[cuda][rule8][slow]") {
  const WithSchedule with(schedules()[0]);
  constexpr std::int64_t kSize = 500'000;
  Team team(1);
  const Columns columns(kSize);
  require_same_plan(kSize, rule_of(Sort::kBelow, KeepMode::kBernoulli, columns, team), columns);
  require_same_plan(kSize, rule_of(Sort::kRanks, KeepMode::kExact, columns, team), columns);
}

// Half a minute under emulation: runs when it is asked for, infobatch_cuda_tests "[true_size]".
// Slow by its tag as well: a filter for [cuda] asks for hidden cases, too, and ThreadSanitizer
// would take an hour.
TEST_CASE("cuda: a plan of two levels with the rule's own constants is the engine's",
          "[.][true_size][slow][cuda][rule8]") {
  const WithSchedule with(schedules()[0]);
  constexpr std::int64_t kSize = 20'000'000;
  Team team(1);
  const Columns columns(kSize);
  const auto rule = rule_of(Sort::kBelow, KeepMode::kBernoulli, columns, team);
  const std::int64_t kept = require_same_plan(kSize, rule, columns);
  REQUIRE(detail::shuffle_shape(kept).bits2 > 0);
}

TEST_CASE("cuda: cuts by draws and by ranks are the engine's", "[cuda][rule4]") {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  const WithSchedule with(schedule);
  const std::int64_t n = GENERATE(1, 300, 5003);
  Team team(1);
  for (const Kind kind : {kLosses, kAnyBits, kTies}) {
    const Columns columns(n, kind);
    const Classifier table = Classifier::of_table(columns.table.data());
    std::int64_t members[16];
    detail::count_members(table, n, 16, team, members);
    const Key key = Key::of(columns.scores.data());
    const auto known = sum_scores(columns.scores.data(), n, team).count();
    const Pool pool{select_smallest_draws({}, 0, n, n, n / 2, kSeed, kEpoch, kStreamPool, team),
                    kSeed,
                    kEpoch,
                    0};
    for (const std::int64_t part : {0, 1, 3, 7, 10}) {
      CAPTURE(schedule.name, n, int{kind}, part);
      cuda::Work work(nullptr);
      const std::int64_t wanted = members[3] * part / 10;
      const DrawCut cut = select_smallest_draws(
          table, 3, n, members[3], wanted, kSeed, kEpoch, kStreamExactKeep, team);
      const DrawCut found = cuda::select_smallest_draws(work,
                                                        columns.on_device(table),
                                                        3,
                                                        n,
                                                        members[3],
                                                        wanted,
                                                        kSeed,
                                                        kEpoch,
                                                        kStreamExactKeep);
      REQUIRE(found.draw == cut.draw);
      REQUIRE(found.id == cut.id);
      Classifier keyed;
      keyed.key = key;
      for (const Pool* const among : {static_cast<const Pool*>(nullptr), &pool}) {
        std::int64_t ranked = known;
        if (among != nullptr) {
          std::vector<float> keys(columns.scores);
          leave_pool(pool, 0, n, keys.data());
          ranked = n - std::count_if(keys.begin(), keys.end(), [](float k) { return k != k; });
        }
        const std::int64_t rank = ranked * part / 10;
        const RankCut ranks = select_rank(key, among, n, rank, kSeed, kEpoch, team);
        const RankCut device_ranks =
            cuda::select_rank(work, columns.on_device(keyed).key, among, n, rank, kSeed, kEpoch);
        REQUIRE(float_bits(device_ranks.key) == float_bits(ranks.key));
        REQUIRE(device_ranks.ties.draw == ranks.ties.draw);
        REQUIRE(device_ranks.ties.id == ranks.ties.id);
      }
    }
  }
}

TEST_CASE("cuda: members are counted, and a class that does not exist is refused",
          "[cuda][rule13]") {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  const WithSchedule with(schedule);
  for (const std::int64_t n : sizes()) {
    CAPTURE(schedule.name, n);
    const Columns columns(n);
    const Classifier table = Classifier::of_table(columns.table.data());
    Team team(1);
    std::vector<std::int64_t> expected(16);
    std::vector<std::int64_t> members(16);
    detail::count_members(table, n, 16, team, expected.data());
    cuda::Work work(nullptr);
    cuda::count_members(work, columns.on_device(table), n, 16, members.data());
    REQUIRE(members == expected);
    if (n < 1000) continue;
    const auto count = [&] {
      cuda::count_members(work, columns.on_device(table), n, 9, members.data());
    };
    REQUIRE(message_of<InvalidArgument>(count) ==
            "plan: the class of a sample must be below 9, the number of classes, got 15");
    EpochRule rule;
    rule.classes = {{1.0}, {0.5}};
    rule.classifier = columns.on_device(table);
    const auto plan = [&] { cuda::fill_plan(work, {n, kSeed, kEpoch, rule}, {}, {}); };
    REQUIRE(message_of<InvalidArgument>(plan) ==
            "plan: the class of a sample must be below 2, the number of classes, got 15");
  }
}

TEST_CASE("cuda: losses are folded as by the engine, and given back", "[cuda][rule1][rule10]") {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  const WithSchedule with(schedule);
  const std::int64_t n = GENERATE(1, 257, 5003);
  for (const double ema : {0.0, 0.25}) {
    for (const int n_columns : {0, 2}) {
      CAPTURE(schedule.name, n, ema, n_columns);
      const std::int64_t kept = (2 * n + 2) / 3;
      std::vector<std::int64_t> ids(static_cast<std::size_t>(n));
      std::iota(ids.begin(), ids.end(), 0);
      std::sort(ids.begin(), ids.end(), [](std::int64_t a, std::int64_t b) {
        return word(60, a) < word(60, b) || (word(60, a) == word(60, b) && a < b);
      });
      ids.resize(static_cast<std::size_t>(kept));
      std::vector<float> losses = scores_of(kAnyBits, kept);
      for (std::int64_t p = 0; p < kept; ++p) {
        const std::uint32_t w = word(61, p);
        if (w % 9 == 0) losses[static_cast<std::size_t>(p)] = bits_float(0x7f800000u | w);
        if (w % 7 == 0) losses[static_cast<std::size_t>(p)] = unseen();
      }
      std::vector<float> scores = scores_of(kLosses, n);
      std::vector<float> mean = scores_of(kLosses, n);
      std::vector<float> variance = scores_of(kTies, n);
      std::vector<float> overwritten(static_cast<std::size_t>(3 * kept), 7.0f);

      const DeviceArray<std::int64_t> device_ids(ids);
      const DeviceArray<float> device_losses(losses);
      const DeviceArray<float> device_scores(scores);
      const DeviceArray<float> device_mean(mean);
      const DeviceArray<float> device_variance(variance);
      const DeviceArray<float> device_overwritten(overwritten);

      const detail::FoldRanges ranges{{{0, kept / 2}, {kept - kept / 3, kept}}};
      detail::FoldColumn columns[] = {{FoldKind::kEma, 0.8, mean.data()},
                                      {FoldKind::kVariance, 0.8, variance.data()}};
      detail::FoldColumn device_columns[] = {{FoldKind::kEma, 0.8, device_mean.data()},
                                             {FoldKind::kVariance, 0.8, device_variance.data()}};
      const detail::FoldRule rule{ema, false, columns, n_columns};
      const detail::FoldRule device_rule{ema, false, device_columns, n_columns};
      const detail::FoldArrays arrays{
          scores.data(), ids.data(), losses.data(), overwritten.data(), kept, n};
      const detail::FoldArrays device_arrays{device_scores.data(),
                                             device_ids.data(),
                                             device_losses.data(),
                                             device_overwritten.data(),
                                             kept,
                                             n};
      const auto bits = [](const std::vector<float>& values) {
        std::vector<std::uint32_t> result;
        for (const float value : values) result.push_back(float_bits(value));
        return result;
      };
      const auto require_same = [&] {
        REQUIRE(bits(device_scores.values()) == bits(scores));
        REQUIRE(bits(device_losses.values()) == bits(losses));
        REQUIRE(bits(device_mean.values()) == bits(mean));
        REQUIRE(bits(device_variance.values()) == bits(variance));
        REQUIRE(bits(device_overwritten.values()) == bits(overwritten));
      };
      Team team(1);
      cuda::Work work(nullptr);
      std::int64_t non_finite = 0;
      for (const detail::FoldRange& part : ranges.part) {
        non_finite += detail::fold(rule, arrays, part, team);
      }
      REQUIRE(cuda::fold(work, device_rule, device_arrays, ranges) == non_finite);
      REQUIRE((non_finite > 0 || n < 100));
      require_same();
      for (const detail::FoldRange& part : ranges.part) detail::unfold(rule, arrays, part);
      cuda::unfold(work, device_rule, device_arrays, ranges);
      work.wait();
      require_same();
    }
  }
}
