#pragma once

// Kernels that are right, one of each kind that this project has. None of them may raise an alarm,
// in whatever order their threads run.
#include <cuda_sim.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace sim_test {

/// Memory of the device, freed with the object.
template <typename T>
class Array {
 public:
  explicit Array(std::size_t size) : size_(size) { (void)cudaMalloc(&data_, size * sizeof(T)); }
  explicit Array(const std::vector<T>& values) : Array(values.size()) {
    (void)cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice);
  }
  ~Array() { (void)cudaFree(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* get() const { return data_; }
  std::vector<T> values() const {
    std::vector<T> all(size_);
    (void)cudaMemcpy(all.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost);
    return all;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_;
};

inline std::vector<int> numbers(int n) {
  std::vector<int> all(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i)
    all[static_cast<std::size_t>(i)] = static_cast<int>((i * 2654435761U) >> 20);
  return all;
}

constexpr int kThreads = 64;

/// sums[b] = what the values of block b add to.
inline __global__ void __launch_bounds__(kThreads)
    block_sum(const int* INFOBATCH_RESTRICT values, int n, int* INFOBATCH_RESTRICT sums) {
  INFOBATCH_SHARED(int, partial, kThreads / 32);
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  int sum = i < n ? values[i] : 0;
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xFFFFFFFFU, sum, step);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kThreads / 32; ++w) sum += partial[w];
  sums[blockIdx.x] = sum;
}

/// Inclusive sums within each warp.
inline __global__ void warp_scan(int* values) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32;
  int sum = values[i];
  for (unsigned step = 1; step < 32; step *= 2) {
    const int other = __shfl_up_sync(0xFFFFFFFFU, sum, step);
    if (lane >= step) sum += other;
  }
  values[i] = sum;
}

constexpr int kBins = 8;

/// bins[v % kBins] counts the values; each block counts in shared memory first.
inline __global__ void histogram(const int* INFOBATCH_RESTRICT values, int n, unsigned* bins) {
  INFOBATCH_SHARED(unsigned, mine, kBins);
  if (threadIdx.x < kBins) mine[threadIdx.x] = 0;
  __syncthreads();
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) atomicAdd(&mine[values[i] % kBins], 1);
  __syncthreads();
  if (threadIdx.x < kBins) atomicAdd(&bins[threadIdx.x], mine[threadIdx.x]);
}

/// Inclusive sums within each block, in dynamic shared memory, with two barriers a step.
inline __global__ void hillis_steele(int* values) {
  INFOBATCH_DYNAMIC_SHARED(int, sums);
  const unsigned t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
  sums[t] = values[i];
  __syncthreads();
  for (unsigned step = 1; step < blockDim.x; step *= 2) {
    const int other = t >= step ? sums[t - step] : 0;
    __syncthreads();
    sums[t] += other;
    __syncthreads();
  }
  values[i] = sums[t];
}

inline __global__ void add_one(int* values, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) values[i] += 1;
}

/// A kernel that is run and compared. @return what was wrong; empty when nothing was.
struct Right {
  const char* name;
  std::string (*run)();
};

inline std::string run_block_sum() {
  const std::vector<int> values = numbers(150);
  const Array<int> in(values), out(3);
  INFOBATCH_LAUNCH(block_sum, 3, kThreads, 0, nullptr, in.get(), 150, out.get());
  std::vector<int> expected(3);
  for (std::size_t i = 0; i < values.size(); ++i) expected[i / kThreads] += values[i];
  return out.values() == expected ? "" : "a sum differs";
}
inline std::string run_scan(bool warp) {
  std::vector<int> values = numbers(2 * kThreads);
  const Array<int> data(values);
  if (warp) {
    INFOBATCH_LAUNCH(warp_scan, 2, kThreads, 0, nullptr, data.get());
  } else {
    INFOBATCH_LAUNCH(hillis_steele, 2, kThreads, kThreads * sizeof(int), nullptr, data.get());
  }
  const std::size_t width = warp ? 32 : kThreads;
  for (std::size_t i = 1; i < values.size(); ++i) {
    if (i % width != 0) values[i] += values[i - 1];
  }
  return data.values() == values ? "" : "a prefix sum differs";
}
inline std::string run_histogram() {
  const std::vector<int> values = numbers(150);
  const Array<int> in(values);
  const Array<unsigned> bins(kBins);
  (void)cudaMemset(bins.get(), 0, kBins * sizeof(unsigned));
  INFOBATCH_LAUNCH(histogram, 3, kThreads, 0, nullptr, in.get(), 150, bins.get());
  std::vector<unsigned> expected(kBins);
  for (const int value : values) ++expected[static_cast<std::size_t>(value % kBins)];
  return bins.values() == expected ? "" : "a bin differs";
}
/// Launches in order on one stream, a second stream behind an event, pinned memory on the host.
inline std::string run_streams() {
  const int n = 100;
  const std::size_t bytes = n * sizeof(int);
  cudaStream_t first = nullptr, second = nullptr;
  cudaEvent_t ready = nullptr;
  int *device = nullptr, *host = nullptr;
  (void)cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking);
  (void)cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking);
  (void)cudaEventCreateWithFlags(&ready, cudaEventDisableTiming);
  (void)cudaMallocHost(&host, bytes);
  (void)cudaMallocAsync(&device, bytes, first);
  for (int i = 0; i < n; ++i) host[i] = i;
  (void)cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, first);
  INFOBATCH_LAUNCH(add_one, 2, kThreads, 0, first, device, n);
  INFOBATCH_LAUNCH(add_one, 2, kThreads, 0, first, device, n);
  (void)cudaEventRecord(ready, first);
  (void)cudaStreamWaitEvent(second, ready);
  INFOBATCH_LAUNCH(add_one, 2, kThreads, 0, second, device, n);
  (void)cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, second);
  (void)cudaFreeAsync(device, second);
  const cudaError_t error = cudaStreamSynchronize(second);
  std::string wrong = error != cudaSuccess ? cudaGetErrorName(error) : "";
  for (int i = 0; i < n && wrong.empty(); ++i) {
    if (host[i] != i + 3) wrong = "a value differs";
  }
  (void)cudaFreeHost(host);
  (void)cudaEventDestroy(ready);
  (void)cudaStreamDestroy(first);
  (void)cudaStreamDestroy(second);
  return wrong;
}

constexpr Right kRight[] = {
    {"block sum", [] { return run_block_sum(); }},
    {"warp scan", [] { return run_scan(true); }},
    {"scan with barriers", [] { return run_scan(false); }},
    {"histogram by atomics", [] { return run_histogram(); }},
    {"streams in order", [] { return run_streams(); }},
};

/// The orders and poisons under which a test runs the same kernel.
inline std::vector<sim::Schedule> schedules() {
  std::vector<sim::Schedule> all(6);
  all[1].order = sim::Schedule::kDescending;
  all[1].poison = 0x00;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    sim::Schedule& schedule = all[1 + seed];
    schedule.order = sim::Schedule::kRandom;
    schedule.seed = seed;
    schedule.yield_at_atomics = 0.25;
    schedule.poison = seed % 2 == 0 ? 0xCB : 0xFF;
  }
  return all;
}

}  // namespace sim_test
