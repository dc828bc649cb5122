// Every header whose rules CPU and GPU share, used in one kernel: both must compute the same words.
// Exit status: 0 equal, 1 different, 77 no GPU to compare with.
#include <infobatch/philox.hpp>
#include <infobatch/score.hpp>
#include <infobatch/shuffle.hpp>

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

constexpr std::uint64_t kSeed = 0x0123456789abcdefULL;
constexpr std::uint32_t kEpoch = 7;
constexpr std::uint32_t kStream = 3;
constexpr int kCount = 4096;
constexpr int kValues = 7;

/// The values of index `i`, one per shared function.
INFOBATCH_HD inline void shared_values(std::uint64_t i, std::uint64_t* out) {
  out[0] = infobatch::random_word(kSeed, kEpoch, kStream, i);
  out[1] = infobatch::random_draw64(kSeed, kEpoch, kStream, i);
  out[2] = infobatch::random_half(kSeed, kEpoch, kStream, i);
  out[3] = infobatch::random_byte(kSeed, kEpoch, kStream, i);
  out[6] = infobatch::sliced_draw(kSeed, kEpoch, kStream, i);
  // A bound above 2^31 rejects often, so both streams of the draw are used.
  out[5] = infobatch::detail::swap_index(
      kSeed, kEpoch, i, 0x80000001U, static_cast<std::uint32_t>(i * 0x9e3779b9U));
  // All bit patterns of the sign and exponent, NaN and infinity among them.
  const float loss = infobatch::bits_float(static_cast<std::uint32_t>(i) << 20);
  out[4] = infobatch::float_bits(infobatch::score_of_loss(loss));
}

__global__ void shared_values_kernel(std::uint64_t* out) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < kCount) shared_values(static_cast<std::uint64_t>(i), out + i * kValues);
}

}  // namespace

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("no GPU: compiled and linked only");
    return 77;
  }
  std::vector<std::uint64_t> expected(kCount * kValues);
  for (int i = 0; i < kCount; ++i) {
    shared_values(static_cast<std::uint64_t>(i), expected.data() + i * kValues);
  }
  std::vector<std::uint64_t> actual(expected.size());
  std::uint64_t* device_values = nullptr;
  const std::size_t bytes = actual.size() * sizeof(std::uint64_t);
  if (cudaMalloc(&device_values, bytes) != cudaSuccess) {
    std::fprintf(stderr, "cudaMalloc: %s\n", cudaGetErrorString(cudaGetLastError()));
    return 1;
  }
  shared_values_kernel<<<(kCount + 255) / 256, 256>>>(device_values);
  const cudaError_t error = cudaMemcpy(actual.data(), device_values, bytes, cudaMemcpyDeviceToHost);
  cudaFree(device_values);
  if (error != cudaSuccess) {
    std::fprintf(stderr, "shared_values_kernel: %s\n", cudaGetErrorString(error));
    return 1;
  }
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (actual[i] != expected[i]) {
      std::fprintf(stderr,
                   "value %zu of index %zu: GPU %llx, CPU %llx\n",
                   i % kValues,
                   i / kValues,
                   static_cast<unsigned long long>(actual[i]),
                   static_cast<unsigned long long>(expected[i]));
      return 1;
    }
  }
  std::printf("%d indices, %d values each: GPU and CPU agree\n", kCount, kValues);
  return 0;
}
