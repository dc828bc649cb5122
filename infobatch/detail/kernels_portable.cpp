#include <infobatch/detail/kernels.hpp>
#include <infobatch/detail/lanes.hpp>
#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/sum_lanes.hpp>

#include <cstring>

namespace infobatch {
namespace detail {
namespace {

constexpr int kLanes = 8;
constexpr int kLaneBits = 9;  // 4096 scores over 8 lanes
static_assert(kSumBlock / kLanes == 1 << kLaneBits, "a lane holds 2^kLaneBits scores");

std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

void fill_words(std::uint64_t seed,
                std::uint32_t epoch,
                std::uint32_t stream,
                std::uint64_t first_block,
                std::int64_t n_blocks,
                std::uint32_t* out) {
  for (std::int64_t block = 0; block < n_blocks; ++block, out += 64) {
    const std::uint64_t first_call = (first_block + static_cast<std::uint64_t>(block)) * 16;
    for (unsigned lane = 0; lane < 16; ++lane) {
      const PhiloxWords words = stream_call(seed, epoch, stream, first_call + lane);
      for (unsigned word = 0; word < 4; ++word) out[word * 16 + lane] = words.word[word];
    }
  }
}

bool sum_block(const float* scores, int count, BlockSum* sum) {
  sum_lanes::Range range{0, ~std::uint32_t{0}};
  int observed = 0;
  for (int i = 0; i < count; ++i) {
    const std::uint32_t abs = bits_of(scores[i]) & sum_lanes::kAbsMask;
    if (abs > sum_lanes::kInfinityBits) continue;
    ++observed;
    if (abs > range.max_abs) range.max_abs = abs;
    if (abs - 1 < range.min_abs_minus_1) range.min_abs_minus_1 = abs - 1;
  }
  if (!sum_lanes::is_plain(range)) return false;
  const bool plain = sum_lanes::fits(sum_lanes::top(range), sum_lanes::grid(range), kLaneBits);
  if (!plain && !sum_lanes::split_fits(range, kLaneBits)) return false;

  const int high_grid = plain ? sum_lanes::grid(range) : sum_lanes::high_grid(range, kLaneBits);
  const double rounder = plain ? 0.0 : sum_lanes::rounder(high_grid);
  double high[kLanes] = {};
  double low[kLanes] = {};
  for (int i = 0; i < count; ++i) {
    const std::uint32_t abs = bits_of(scores[i]) & sum_lanes::kAbsMask;
    const double x = abs > sum_lanes::kInfinityBits ? 0.0 : static_cast<double>(scores[i]);
    const double rounded = plain ? x : (x + rounder) - rounder;
    high[i % kLanes] += rounded;
    low[i % kLanes] += x - rounded;
  }
  sum->count = observed;
  sum->high_exponent = high_grid;
  sum->high = sum_lanes::total(high, kLanes, high_grid);
  sum->low_exponent = sum_lanes::grid(range);
  sum->low = plain ? 0 : sum_lanes::total(low, kLanes, sum->low_exponent);
  return true;
}

void classify_below(const float* scores,
                    std::int64_t count,
                    float threshold,
                    std::uint8_t* classes) {
  for (std::int64_t i = 0; i < count; ++i) classes[i] = scores[i] < threshold;
}

int draws_below(std::uint64_t seed,
                std::uint32_t epoch,
                std::uint32_t stream,
                std::uint64_t group,
                std::uint32_t bound,
                std::uint64_t* lanes) {
  return lanes::draws_below(fill_words, seed, epoch, stream, group, bound, lanes);
}

bool swap_indices(std::uint64_t seed,
                  std::uint32_t epoch,
                  std::uint32_t stream,
                  std::uint64_t first_block,
                  std::int64_t n_blocks,
                  std::int32_t first_bound,
                  std::uint32_t* index) {
  fill_words(seed, epoch, stream, first_block, n_blocks, index);
  std::uint32_t suspicious = 0;
  for (std::int32_t i = 0; i < 64 * n_blocks; ++i) {
    const std::int32_t bound = first_bound + i;
    const auto positive = static_cast<std::uint32_t>(bound > 0 ? bound : 0);
    const std::uint64_t product = std::uint64_t{index[i]} * positive;
    index[i] = static_cast<std::uint32_t>(product >> 32);
    suspicious |= static_cast<std::uint32_t>(product) < positive ? 1u : 0u;
  }
  return suspicious != 0;
}

void emit(const std::uint32_t* items,
          std::int64_t count,
          int id_bits,
          const float* class_weight,
          std::int64_t* ids,
          float* weights,
          Streaming /*streaming*/) {
  lanes::emit_range(items, 0, count, id_bits, class_weight, ids, weights);
}

std::int64_t stage_losses(const float* losses,
                          std::int64_t count,
                          std::uint32_t replacement,
                          float* out) {
  std::int64_t finite = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, losses + i, sizeof(bits));
    const bool is_finite = (bits & 0x7f800000u) != 0x7f800000u;
    finite += is_finite ? 1 : 0;
    bits = is_finite ? bits : replacement;
    std::memcpy(out + i, &bits, sizeof(bits));
  }
  return count - finite;
}

double weighted_sum(const float* losses, const float* weights, std::int64_t count) {
  constexpr std::int64_t kSums = 8;
  double sums[kSums] = {};
  const std::int64_t whole = count - count % kSums;
  for (std::int64_t i = 0; i < whole; i += kSums) {
    for (std::int64_t lane = 0; lane < kSums; ++lane) {
      sums[lane] += double{weights[i + lane]} * double{losses[i + lane]};
    }
  }
  for (std::int64_t i = whole; i < count; ++i) {
    sums[i - whole] += double{weights[i]} * double{losses[i]};
  }
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace

const Kernels* portable_kernels() {
  static const Kernels kernels = {fill_words,
                                  sum_block,
                                  classify_below,
                                  lanes::class_lanes,
                                  draws_below,
                                  lanes::append_items,
                                  swap_indices,
                                  lanes::count,
                                  lanes::scatter_few,
                                  emit,
                                  stage_losses,
                                  weighted_sum};
  return &kernels;
}

}  // namespace detail
}  // namespace infobatch
