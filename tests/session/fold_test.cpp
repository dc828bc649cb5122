#include <infobatch/detail/threads.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session/fold.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

// How staged losses enter the scores, and how that is taken back.

using namespace infobatch;
using namespace infobatch::testing;
using detail::FoldArrays;
using detail::FoldRange;
using detail::FoldRule;

namespace {

/// Samples, a plan that leaves some out, and losses of all kinds.
struct Data {
  std::vector<float> scores;
  std::vector<std::int64_t> ids;
  std::vector<float> losses;
  std::vector<float> overwritten;

  FoldArrays arrays() {
    FoldArrays all{scores.data(), ids.data(), losses.data(), overwritten.data()};
    all.kept = static_cast<std::int64_t>(ids.size());
    all.size = static_cast<std::int64_t>(scores.size());
    return all;
  }
};

float random_loss(std::mt19937& random) {
  const auto draw = random() % 16;
  if (draw == 0) return unseen();
  if (draw == 1) return bits_float(random() | 0x7f800000u);  // an infinity or a NaN of any payload
  if (draw == 2) return std::numeric_limits<float>::infinity() * (random() % 2 != 0 ? 1.0f : -1.0f);
  if (draw == 3) return never_observed();
  if (draw == 4) return -0.0f;
  if (draw == 5) return std::numeric_limits<float>::max();
  if (draw == 6) return std::numeric_limits<float>::denorm_min();
  return static_cast<float>(std::exp(6.0 * uniform(random(), 0) - 3.0)) - 1.0f;
}

Data some_data(std::int64_t size, std::uint32_t seed) {
  std::mt19937 random(seed);
  Data data;
  for (std::int64_t i = 0; i < size; ++i) {
    const float loss = random_loss(random);
    data.scores.push_back(is_finite(loss) ? loss : never_observed());
    data.ids.push_back(i);
  }
  std::shuffle(data.ids.begin(), data.ids.end(), random);
  data.ids.resize(static_cast<std::size_t>(size * 2 / 3));
  for (std::size_t p = 0; p < data.ids.size(); ++p) data.losses.push_back(random_loss(random));
  data.overwritten.assign(data.ids.size(), 77.0f);
  return data;
}

/// What rule 10 and `score_ema` say a score is behind a loss, in double arithmetic, rounded once.
float score_behind(double ema, float old, float loss) {
  if (!std::isfinite(loss)) return never_observed();
  if (!std::isfinite(old)) return loss;
  const volatile double kept = ema * static_cast<double>(old);
  const volatile double added = (1.0 - ema) * static_cast<double>(loss);
  return static_cast<float>(kept + added);
}

std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits(values.size());
  std::transform(values.begin(), values.end(), bits.begin(), float_bits);
  return bits;
}

}  // namespace

TEST_CASE("a fold is the plain loop over the positions, for every team", "[session][fold]") {
  const double ema = GENERATE(0.0, 0.3, 0.9999999);
  const std::int64_t size = GENERATE(0, 1, 2, 50, 5000);
  const FoldRule rule{ema};
  REQUIRE(rule.needs_memory() == (ema != 0.0));
  const Data given = some_data(size, 3);
  const auto kept = static_cast<std::int64_t>(given.ids.size());
  for (const FoldRange range :
       {FoldRange{0, kept}, FoldRange{kept / 3, kept - kept / 5}, FoldRange{kept, kept}}) {
    std::vector<float> scores = given.scores;
    std::int64_t non_finite = 0;
    for (std::int64_t p = range.begin; p < range.end; ++p) {
      const float loss = given.losses[static_cast<std::size_t>(p)];
      if (is_unseen(loss)) continue;
      non_finite += std::isfinite(loss) ? 0 : 1;
      float& score = scores[static_cast<std::size_t>(given.ids[static_cast<std::size_t>(p)])];
      score = ema == 0.0 ? score_of_loss(loss) : score_behind(ema, score, loss);
    }
    for (int threads = 1; threads <= 4; ++threads) {
      CAPTURE(size, range.begin, range.end, threads);
      Data data = given;
      Team team(threads);
      REQUIRE(fold(rule, data.arrays(), range, team) == non_finite);
      REQUIRE(bits_of(data.scores) == bits_of(scores));
    }
  }
}

TEST_CASE("every loss that is not finite leaves never observed and is counted", "[session][fold]") {
  const double ema = GENERATE(0.0, 0.5);
  std::vector<std::uint32_t> patterns = {0x7f800000u, 0xff800000u, kNeverObservedBits};
  for (std::uint32_t payload = 1; payload < 0x800000u; payload = payload * 2 + 1) {
    for (const std::uint32_t sign : {0u, 0x80000000u}) {
      for (const std::uint32_t near : {payload, payload ^ 0x400000u, 0x800000u - payload}) {
        patterns.push_back(0x7f800000u | sign | (near & 0x7fffffu));
      }
    }
  }
  patterns.push_back(kUnseenBits | 0x80000000u);
  patterns.push_back(kUnseenBits + 1);
  patterns.erase(std::remove(patterns.begin(), patterns.end(), kUnseenBits), patterns.end());
  Data data;
  for (const std::uint32_t bits : patterns) {
    data.ids.push_back(static_cast<std::int64_t>(data.ids.size()));
    data.losses.push_back(bits_float(bits));
  }
  data.scores.assign(patterns.size(), 2.5f);
  data.overwritten.assign(patterns.size(), 0.0f);
  Team team(1);
  const auto count = static_cast<std::int64_t>(patterns.size());
  REQUIRE(fold(FoldRule{ema}, data.arrays(), {0, count}, team) == count);
  for (const float score : data.scores) REQUIRE(float_bits(score) == kNeverObservedBits);
  unfold(FoldRule{ema}, data.arrays(), {0, count});
  for (const float score : data.scores) REQUIRE(score == 2.5f);
}

TEST_CASE("a finite loss behind never observed is the score, whatever the average",
          "[session][fold]") {
  const double ema = GENERATE(0.0, 0.25);
  Data data;
  data.scores = {never_observed(), 4.0f};
  data.ids = {1, 0};
  data.losses = {8.0f, 3.0f};
  data.overwritten = {0.0f, 0.0f};
  Team team(1);
  REQUIRE(fold(FoldRule{ema}, data.arrays(), {0, 2}, team) == 0);
  REQUIRE(data.scores == std::vector<float>{3.0f, ema == 0.0 ? 8.0f : 7.0f});
}

TEST_CASE("averages are made in double arithmetic and rounded once", "[session][fold]") {
  Data data;
  const float largest = std::numeric_limits<float>::max();
  data.scores = {largest, -largest, 1.0f};
  data.ids = {0, 1, 2};
  data.losses = {largest, -largest, 1.0f + 0x1p-23f};
  data.overwritten.assign(3, 0.0f);
  Team team(1);
  fold(FoldRule{0.1}, data.arrays(), {0, 3}, team);
  REQUIRE(data.scores == std::vector<float>{largest, -largest, 1.0f + 0x1p-23f});
}

TEST_CASE("unfold gives scores and losses back", "[session][fold]") {
  const double ema = GENERATE(0.0, 0.7);
  const FoldRule rule{ema};
  for (std::uint32_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    const Data given = some_data(300, seed);
    const auto kept = static_cast<std::int64_t>(given.ids.size());
    const std::int64_t end = kept - static_cast<std::int64_t>(seed);
    const FoldRange before_gap{0, static_cast<std::int64_t>(seed) * 3};
    const FoldRange behind_gap{before_gap.end + 10, std::max(before_gap.end + 10, end)};
    Data data = given;
    Team team(1 + static_cast<int>(seed % 3));
    fold(rule, data.arrays(), before_gap, team);
    fold(rule, data.arrays(), behind_gap, team);
    unfold(rule, data.arrays(), before_gap);
    unfold(rule, data.arrays(), behind_gap);
    REQUIRE(bits_of(data.scores) == bits_of(given.scores));
    for (std::int64_t p = 0; p < kept; ++p) {
      // A loss that was not finite comes back as the one pattern that stands for it.
      const bool folded = p < before_gap.end || (p >= behind_gap.begin && p < behind_gap.end);
      const float raw = given.losses[static_cast<std::size_t>(p)];
      const float want = folded && !is_unseen(raw) ? score_of_loss(raw) : raw;
      REQUIRE(float_bits(data.losses[static_cast<std::size_t>(p)]) == float_bits(want));
    }
    // And folding once more does what the first time did.
    Data again = given;
    const std::int64_t first = fold(rule, again.arrays(), before_gap, team);
    REQUIRE(fold(rule, data.arrays(), before_gap, team) == first);
    REQUIRE(bits_of(data.scores) == bits_of(again.scores));
  }
}

TEST_CASE("behind a fold the raw loss and the score of before can be read", "[session][fold]") {
  const double ema = GENERATE(0.0, 0.7);
  const FoldRule rule{ema};
  const Data given = some_data(500, 11);
  const auto kept = static_cast<std::int64_t>(given.ids.size());
  Data data = given;
  Team team(1);
  fold(rule, data.arrays(), {0, kept}, team);
  for (std::int64_t p = 0; p < kept; ++p) {
    CAPTURE(p);
    const auto at = static_cast<std::size_t>(p);
    const float raw = given.losses[at];
    const float loss = folded_loss(rule, data.arrays(), p);
    REQUIRE(float_bits(loss) == float_bits(is_unseen(raw) ? raw : score_of_loss(raw)));
    if (is_unseen(raw)) continue;
    const float before = given.scores[static_cast<std::size_t>(given.ids[at])];
    REQUIRE(float_bits(overwritten_score(rule, data.arrays(), p)) == float_bits(before));
  }
}
