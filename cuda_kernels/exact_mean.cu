#include <cuda_kernels/exact_mean.hpp>
#include <infobatch/score.hpp>

namespace infobatch::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kEach = 16;     // values a thread
constexpr int kFields = 256;  // of the exponent
constexpr int kReach = 26;    // 24 bits of a value + 26 + 12 (4096 values) < 63
constexpr unsigned kAll = 0xFFFFFFFFu;

/// Sums of mantissas by exponent field: each is low + high * 2^32, in two's complement.
struct SumBins {
  unsigned long long low[kFields];
  unsigned long long high[kFields];
  unsigned long long count;
};

/// The field that stands for the exponent of a finite number; those of denormals are one.
__device__ inline int field_of(std::uint32_t magnitude) {
  const int field = static_cast<int>(magnitude >> 23);
  return field == 0 ? 1 : field;
}
__device__ inline long long mantissa_of(std::uint32_t bits) {
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  const long long fraction = magnitude & 0x7FFFFFu;
  const long long mantissa = magnitude >> 23 == 0 ? fraction : fraction | 0x800000;
  return bits >> 31 != 0 ? -mantissa : mantissa;
}

/// A block adds 4096 values on the grid of their least exponent, and what that comes to to the bin
/// of that exponent. Integers do not care for order: any grid gives the same bits.
__global__ void __launch_bounds__(kThreads)
    sum_values(const float* INFOBATCH_RESTRICT values, std::int64_t n, SumBins* bins) {
  INFOBATCH_SHARED(int, least, kWarps);
  INFOBATCH_SHARED(int, most, kWarps);
  INFOBATCH_SHARED(long long, sums, kWarps);
  INFOBATCH_SHARED(unsigned, counts, kWarps);
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t first = std::int64_t{blockIdx.x} * kThreads * kEach + thread;
  std::uint32_t bits[kEach];
  int low = kFields;
  int high = 0;
  unsigned known = 0;
  INFOBATCH_UNROLL
  for (int k = 0; k < kEach; ++k) {
    const std::int64_t i = first + std::int64_t{k} * kThreads;
    bits[k] = i < n ? float_bits(values[i]) : kNeverObservedBits;
    const std::uint32_t magnitude = bits[k] & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) {  // NaN: no value
      bits[k] = 0;
      continue;
    }
    ++known;
    if (magnitude == 0) continue;
    const int field = field_of(magnitude);
    low = field < low ? field : low;
    high = field > high ? field : high;
  }
  for (int step = 16; step > 0; step /= 2) {
    const int other_low = __shfl_xor_sync(kAll, low, step);
    const int other_high = __shfl_xor_sync(kAll, high, step);
    low = other_low < low ? other_low : low;
    high = other_high > high ? other_high : high;
    known += __shfl_xor_sync(kAll, known, step);
  }
  if (thread % 32 == 0) {
    least[thread / 32] = low;
    most[thread / 32] = high;
    counts[thread / 32] = known;
  }
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) {
    low = least[w] < low ? least[w] : low;
    high = most[w] > high ? most[w] : high;
  }
  const bool narrow = high - low <= kReach;  // the same for all threads
  long long sum = 0;
  INFOBATCH_UNROLL
  for (int k = 0; k < kEach; ++k) {
    const std::uint32_t magnitude = bits[k] & 0x7FFFFFFFu;
    if (magnitude == 0) continue;
    const int field = field_of(magnitude);
    const long long mantissa = mantissa_of(bits[k]);
    if (narrow) {
      sum += mantissa * (1LL << (field - low));
    } else {
      // 2^31 mantissas fit 64 bits.
      atomicAdd(&bins->low[field], static_cast<unsigned long long>(mantissa));
    }
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(kAll, sum, step);
  if (thread % 32 == 0) sums[thread / 32] = sum;
  __syncthreads();
  if (thread != 0) return;
  known = 0;
  sum = 0;
  for (int w = 0; w < kWarps; ++w) {
    sum += sums[w];
    known += counts[w];
  }
  if (known > 0) atomicAdd(&bins->count, static_cast<unsigned long long>(known));
  if (sum != 0) {
    atomicAdd(&bins->low[low], static_cast<unsigned long long>(sum) & 0xFFFFFFFFu);
    atomicAdd(&bins->high[low], static_cast<unsigned long long>(sum >> 32));
  }
}

}  // namespace

ScoreSum sum_scores(Work& work, const float* values, std::int64_t n) {
  ScoreSum sum;
  if (n == 0) return sum;
  auto* const bins = work.zeros<SumBins>(1);
  INFOBATCH_CUDA_LAUNCH(
      sum_values, blocks_for(n, kThreads * kEach), kThreads, work.stream(), values, n, bins);
  const SumBins found = work.fetch(bins);
  work.give_back(bins);
  for (int field = 1; field < kFields - 1; ++field) {
    sum.add_scaled(static_cast<std::int64_t>(found.low[field]), field - 150, 0);
    sum.add_scaled(static_cast<std::int64_t>(found.high[field]), field - 150 + 32, 0);
  }
  sum.add_scaled(0, 0, static_cast<std::int64_t>(found.count));
  return sum;
}

}  // namespace infobatch::cuda
