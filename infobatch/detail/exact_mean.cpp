#include <infobatch/detail/exact_mean.hpp>
#include <infobatch/detail/float_environment.hpp>
#include <infobatch/detail/kernels.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace infobatch {
namespace {

constexpr int kUnitExponent = -149;  // the unit of the limbs: the smallest float32

// A float as an integer of the same order: -max .. -0, +0 .. +max.
std::uint32_t ordered_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

float float_of(std::uint32_t ordered) {
  const std::uint32_t bits = ordered >> 31 != 0 ? ordered & 0x7FFFFFFFu : ~ordered;
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// mantissa * 2^exponent, in integers.
struct Parts {
  std::int64_t mantissa;
  int exponent;
};

Parts parts_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const int field = static_cast<int>(bits >> 23 & 0xFFu);
  const auto fraction = static_cast<std::int64_t>(bits & 0x7FFFFFu);
  const std::int64_t magnitude = field == 0 ? fraction : fraction | 0x800000;
  return {bits >> 31 != 0 ? -magnitude : magnitude, std::max(field, 1) - 150};
}

}  // namespace

void ScoreSum::add_shifted(Limbs& limbs, std::int64_t value, int shift) {
  const auto limb = static_cast<std::size_t>(shift / 64);
  const int bit = shift % 64;
  const auto low = static_cast<std::uint64_t>(value);
  const std::uint64_t sign = value < 0 ? ~std::uint64_t{0} : 0;
  const std::uint64_t high = bit == 0 ? sign : low >> (64 - bit) | sign << bit;
  unsigned carry = 0;
  for (std::size_t i = limb; i < kLimbs; ++i) {
    const std::uint64_t part = i == limb ? low << bit : i == limb + 1 ? high : sign;
    const std::uint64_t sum = limbs[i] + part;
    const std::uint64_t with_carry = sum + carry;
    carry = (sum < part ? 1u : 0u) | (with_carry < sum ? 1u : 0u);
    limbs[i] = with_carry;
  }
}

void ScoreSum::add_scaled(std::int64_t value, int exponent, std::int64_t count) {
  add_shifted(limbs_, value, exponent - kUnitExponent);
  count_ += count;
}

void ScoreSum::add(float score) {
  const Parts parts = parts_of(score);
  add_scaled(parts.mantissa, parts.exponent, 1);
}

void ScoreSum::merge(const ScoreSum& other) {
  unsigned carry = 0;
  for (std::size_t i = 0; i < kLimbs; ++i) {
    const std::uint64_t sum = limbs_[i] + other.limbs_[i];
    const std::uint64_t with_carry = sum + carry;
    carry = (sum < limbs_[i] ? 1u : 0u) | (with_carry < sum ? 1u : 0u);
    limbs_[i] = with_carry;
  }
  count_ += other.count_;
}

double ScoreSum::mean() const {
  if (count_ == 0) return 0.0;
  const detail::DefaultFloatEnvironment float_environment;
  Limbs magnitude = limbs_;
  const bool negative = magnitude[kLimbs - 1] >> 63 != 0;
  if (negative) {
    unsigned carry = 1;
    for (std::uint64_t& limb : magnitude) {
      limb = ~limb + carry;
      carry = carry != 0 && limb == 0 ? 1u : 0u;
    }
  }
  double sum = 0.0;
  for (std::size_t i = kLimbs; i-- > 0;) {
    sum += std::ldexp(static_cast<double>(magnitude[i]), 64 * static_cast<int>(i) + kUnitExponent);
  }
  return (negative ? -sum : sum) / static_cast<double>(count_);
}

// Whether float_of(ordered) * count >= sum, that is, sum - float * count <= 0.
bool ScoreSum::reached_by(std::uint32_t ordered) const {
  const Parts parts = parts_of(float_of(ordered));
  Limbs rest = limbs_;
  // The product has up to 64 bits and a sign: it is taken in two halves of the count.
  const std::int64_t low = count_ & 0xFFFFFFFF;
  const std::int64_t high = count_ >> 32;
  const int shift = parts.exponent - kUnitExponent;
  add_shifted(rest, -parts.mantissa * low, shift);
  add_shifted(rest, -parts.mantissa * high, shift + 32);
  if (rest[kLimbs - 1] >> 63 != 0) return true;
  return std::all_of(rest.begin(), rest.end(), [](std::uint64_t limb) { return limb == 0; });
}

float ScoreSum::threshold() const {
  if (count_ == 0) return -std::numeric_limits<float>::infinity();
  // The mean lies between the least and the largest score, so the largest float reaches it.
  std::uint32_t low = ordered_of(std::numeric_limits<float>::lowest());
  std::uint32_t high = ordered_of(std::numeric_limits<float>::max());
  while (low < high) {
    const std::uint32_t middle = low + (high - low) / 2;
    if (reached_by(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low == ordered_of(-0.0f) ? 0.0f : float_of(low);  // -0 compares as +0
}

ScoreSum sum_scores(const float* scores, std::int64_t n, Team& team) {
  const detail::Kernels& kernels = detail::kernels();
  std::vector<ScoreSum> sums(static_cast<std::size_t>(team.size()));
  const std::int64_t blocks = (n + detail::kSumBlock - 1) / detail::kSumBlock;
  team.run([&](int thread) {
    ScoreSum sum;
    const std::int64_t first = blocks * thread / team.size();
    const std::int64_t last = blocks * (thread + 1) / team.size();
    for (std::int64_t block = first; block < last; ++block) {
      const float* start = scores + block * detail::kSumBlock;
      const auto count = static_cast<int>(
          std::min<std::int64_t>(n - block * detail::kSumBlock, detail::kSumBlock));
      detail::BlockSum part;
      if (kernels.sum_block(start, count, &part)) {
        sum.add_scaled(part.high, part.high_exponent, part.count);
        if (part.low != 0) sum.add_scaled(part.low, part.low_exponent, 0);
      } else {
        for (int i = 0; i < count; ++i) {
          if (!std::isnan(start[i])) sum.add(start[i]);
        }
      }
    }
    sums[static_cast<std::size_t>(thread)] = sum;
  });
  for (std::size_t thread = 1; thread < sums.size(); ++thread) sums[0].merge(sums[thread]);
  return sums[0];
}

}  // namespace infobatch
