#include <infobatch/detail/exact_mean.hpp>
#include <infobatch/detail/select.hpp>
#include <tests/kernels/simd_levels.hpp>
#include <tests/support/catch2_shim.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace infobatch {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kTiny = std::numeric_limits<float>::denorm_min();
constexpr float kHuge = std::numeric_limits<float>::max();

// A number as signed digits of base 2^32 in units of 2^-149: slow, plain and never rounded.
class Reference {
 public:
  void add(float x, std::int64_t times) {
    int exponent = 0;
    const auto mantissa = static_cast<std::int64_t>(std::ldexp(std::frexp(x, &exponent), 24));
    const int shift = exponent - 24 + 149;  // of the mantissa; negative for denormals
    const std::int64_t units = shift >= 0 ? mantissa : mantissa / (std::int64_t{1} << -shift);
    const int place = std::max(shift, 0);
    for (int bit = 0; bit < 40; ++bit) {
      if ((times >> bit & 1) == 0) continue;
      const int at = place + bit;
      const std::int64_t moved = units * (std::int64_t{1} << (at % 32));
      const std::int64_t low = moved % (std::int64_t{1} << 32);
      digits_[static_cast<std::size_t>(at / 32)] += low;
      digits_[static_cast<std::size_t>(at / 32 + 1)] += (moved - low) / (std::int64_t{1} << 32);
    }
  }
  void subtract(const Reference& other) {
    for (std::size_t i = 0; i < digits_.size(); ++i) digits_[i] -= other.digits_[i];
  }
  // -1, 0 or 1.
  int sign() const {
    std::array<std::int64_t, 14> digits = digits_;
    bool any = false;
    for (std::size_t i = 0; i + 1 < digits.size(); ++i) {
      const std::int64_t carry = digits[i] >> 32;
      digits[i] -= carry * (std::int64_t{1} << 32);
      digits[i + 1] += carry;
      any = any || digits[i] != 0;
    }
    if (digits.back() < 0) return -1;
    return any || digits.back() > 0 ? 1 : 0;
  }

 private:
  std::array<std::int64_t, 14> digits_{};
};

Reference reference_sum(const std::vector<float>& scores) {
  Reference sum;
  for (const float x : scores) {
    if (!std::isnan(x)) sum.add(x, 1);
  }
  return sum;
}

ScoreSum sum_of(const std::vector<float>& scores, int threads = 1) {
  Team team(threads);
  return sum_scores(scores.data(), static_cast<std::int64_t>(scores.size()), team);
}

std::vector<float> losses(std::size_t n, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> scores(n);
  for (float& x : scores) {
    x = -std::log((static_cast<float>(random() >> 8) + 0.5f) * 0x1p-24f);
  }
  return scores;
}

std::vector<float> any_bits(std::size_t n, std::uint32_t seed, int least, int most) {
  std::mt19937 random(seed);
  std::vector<float> scores(n);
  for (float& x : scores) {
    const int exponent = least + static_cast<int>(random() % static_cast<unsigned>(most - least));
    const auto mantissa = static_cast<float>(random() >> 8);
    x = std::ldexp(random() % 2 == 0 ? mantissa : -mantissa, exponent);
  }
  return scores;
}

// The cut must divide the scores exactly as score * count < sum does.
void require_exact(const std::vector<float>& scores) {
  const ScoreSum sum = sum_of(scores);
  const auto count = static_cast<std::int64_t>(
      std::count_if(scores.begin(), scores.end(), [](float x) { return !std::isnan(x); }));
  REQUIRE(sum.count() == count);
  const Reference expected = reference_sum(scores);
  const float threshold = sum.threshold();
  const auto below_mean = [&](float x) {
    Reference difference;
    difference.add(x, count);
    difference.subtract(expected);
    return difference.sign() < 0;
  };
  if (count > 0) {  // the smallest float that reaches the mean, and no larger one
    REQUIRE(std::isfinite(threshold));
    REQUIRE_FALSE(below_mean(threshold));
    const float next = std::nextafter(threshold, -std::numeric_limits<float>::infinity());
    if (std::isfinite(next)) REQUIRE(below_mean(next));
  }
  std::size_t wrong = 0;
  for (const float x : scores) {
    if (!std::isnan(x) && (x < threshold) != below_mean(x)) ++wrong;
  }
  REQUIRE(wrong == 0);
}

}  // namespace

TEST_CASE("rule 2: the sum is exact for sizes around every block edge", "[kernels][exact_mean]") {
  for (const detail::SimdLevel level : testing::simd_levels()) {
    const testing::WithLevel use(level);
    CAPTURE(static_cast<int>(level));
    for (const std::size_t n : {0,  1,  2,   7,   8,   15,   16,   17,   31,   32,   33,   63,
                                64, 65, 127, 128, 129, 4095, 4096, 4097, 8191, 8192, 8193, 12289}) {
      CAPTURE(n);
      require_exact(losses(n, 1));
    }
  }
}

TEST_CASE("rule 2: the sum is exact for every finite float32", "[kernels][exact_mean]") {
  for (const detail::SimdLevel level : testing::simd_levels()) {
    const testing::WithLevel use(level);
    CAPTURE(static_cast<int>(level));
    SECTION("3e38 beside 1e-45, level " + std::to_string(static_cast<int>(level))) {
      std::vector<float> scores(5000, 1e-45f);
      scores[17] = 3e38f;
      require_exact(scores);
      scores[4999] = -3e38f;
      require_exact(scores);
      require_exact({3e38f, 1e-45f});
      require_exact({3e38f, -3e38f, 1e-45f});
    }
    SECTION("the extremes, level " + std::to_string(static_cast<int>(level))) {
      require_exact(std::vector<float>(9000, kHuge));
      require_exact(std::vector<float>(9000, -kHuge));
      require_exact(std::vector<float>(9000, kTiny));
      require_exact({kTiny, 2 * kTiny, 3 * kTiny, -kTiny});
      require_exact({0.0f, -0.0f, 0.0f});
      require_exact({-kTiny, kTiny});
    }
    SECTION("ranges of all widths, level " + std::to_string(static_cast<int>(level))) {
      for (const int width : {1, 5, 10, 20, 22, 23, 24, 40, 60, 69, 70, 80, 200}) {
        CAPTURE(width);
        require_exact(any_bits(4096 + 100, 3, -120, -120 + width));
        require_exact(any_bits(4096 + 100, 4, -30 - width / 2, -30 + width - width / 2));
      }
      require_exact(any_bits(3000, 5, -149, 104));
    }
  }
}

TEST_CASE("rule 2: the same sum for any number of threads and every instruction set",
          "[kernels][exact_mean][threads]") {
  for (std::vector<float> scores : {losses(100003, 7), any_bits(50001, 8, -149, 104)}) {
    for (std::size_t i = 0; i < scores.size(); i += 97) scores[i] = kNaN;
    const ScoreSum expected = sum_of(scores);
    for (const detail::SimdLevel level : testing::simd_levels()) {
      const testing::WithLevel use(level);
      for (int threads = 1; threads <= 4; ++threads) {
        REQUIRE(sum_of(scores, threads) == expected);
      }
    }
  }
}

TEST_CASE("rule 2: all scores equal, nobody is below the mean (defect 8)",
          "[kernels][exact_mean]") {
  for (const float value : {3.0f, 0.1f, 2.3025851f, -0.7f, 0.0f, -0.0f, kTiny, kHuge, -kHuge}) {
    for (std::size_t n = 1; n < 3000; n += n < 40 ? 1 : 37) {
      REQUIRE(sum_of(std::vector<float>(n, value)).threshold() == value);
    }
  }
}

TEST_CASE("rule 1: scores that were never observed do not count", "[kernels][exact_mean]") {
  REQUIRE(sum_of({}).count() == 0);
  REQUIRE(sum_of({}).threshold() == -std::numeric_limits<float>::infinity());
  REQUIRE(sum_of(std::vector<float>(5000, kNaN)).count() == 0);
  std::vector<float> scores(10000, kNaN);
  scores[5] = 1.0f;
  scores[9000] = 4.0f;
  REQUIRE(sum_of(scores).count() == 2);
  REQUIRE(sum_of(scores).mean() == 2.5);
  REQUIRE(sum_of(scores).threshold() == 2.5f);
  for (std::size_t i = 0; i < scores.size(); i += 3) scores[i] = static_cast<float>(i) * 1e-3f;
  require_exact(scores);
}

TEST_CASE("merging partial sums is adding all scores at once", "[kernels][exact_mean]") {
  const std::vector<float> scores = any_bits(2000, 9, -149, 104);
  ScoreSum one_by_one, left, right;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    one_by_one.add(scores[i]);
    (i % 3 == 0 ? left : right).add(scores[i]);
  }
  left.merge(right);
  REQUIRE(left == one_by_one);
  REQUIRE(left == sum_of(scores));
}

TEST_CASE("the mean for display is the mean", "[kernels][exact_mean]") {
  const std::vector<float> scores = losses(10007, 10);
  long double sum = 0.0L;
  for (const float x : scores) sum += static_cast<long double>(x);
  REQUIRE(sum_of(scores).mean() ==
          Catch::Approx(static_cast<double>(sum / 10007.0L)).epsilon(1e-14));
  REQUIRE(sum_of({-3.0f, -4.0f}).mean() == -3.5);
  REQUIRE(sum_of({kHuge, kHuge}).mean() == static_cast<double>(kHuge));
}

TEST_CASE("classify_below: ties, NaN and sizes around block edges, every instruction set",
          "[kernels][select]") {
  for (const detail::SimdLevel level : testing::simd_levels()) {
    const testing::WithLevel use(level);
    for (const std::size_t n : {0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1000}) {
      std::vector<float> scores = losses(n, 12);
      for (std::size_t i = 0; i < n; i += 5) scores[i] = i % 2 == 0 ? kNaN : 1.0f;
      std::vector<std::uint8_t> classes(n + 1, 77);
      classify_below(scores.data(), static_cast<std::int64_t>(n), 1.0f, classes.data());
      bool equal = classes[n] == 77;
      for (std::size_t i = 0; i < n; ++i) equal = equal && classes[i] == (scores[i] < 1.0f ? 1 : 0);
      REQUIRE(equal);
    }
  }
  const float zeros[2] = {-0.0f, 0.0f};
  std::uint8_t classes[2];
  classify_below(zeros, 2, 0.0f, classes);
  REQUIRE((classes[0] == 0 && classes[1] == 0));
}

}  // namespace infobatch
