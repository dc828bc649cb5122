// The emulation of CUDA runs kernels as CUDA does.
#include <tests/support/catch2_shim.hpp>

#include <cuda_sim.hpp>

#include <vector>

namespace {

__global__ void block_sum(const int* INFOBATCH_RESTRICT values, int n, int* sums) {
  INFOBATCH_SHARED(int, partial, 8);
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  int sum = i < n ? values[i] : 0;
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xFFFFFFFFU, sum, step);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < 8; ++w) sum += partial[w];
  sums[blockIdx.x] = sum;
}

}  // namespace

TEST_CASE("cuda sim: a block adds its values", "[cuda][sim]") {
  sim::reset();
  const int n = 1000;
  std::vector<int> values(n);
  for (int i = 0; i < n; ++i) values[static_cast<std::size_t>(i)] = i;
  int *device = nullptr, *sums = nullptr;
  REQUIRE(cudaMalloc(&device, n * sizeof(int)) == cudaSuccess);
  REQUIRE(cudaMalloc(&sums, 4 * sizeof(int)) == cudaSuccess);
  REQUIRE(cudaMemcpy(device, values.data(), n * sizeof(int), cudaMemcpyHostToDevice) ==
          cudaSuccess);
  INFOBATCH_LAUNCH(block_sum, 4, 256, 0, nullptr, device, n, sums);
  REQUIRE(cudaGetLastError() == cudaSuccess);
  int result[4];
  REQUIRE(cudaMemcpy(result, sums, sizeof result, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(result[0] + result[1] + result[2] + result[3] == n * (n - 1) / 2);
  CHECK(cudaFree(device) == cudaSuccess);
  CHECK(cudaFree(sums) == cudaSuccess);
  CHECK(sim::live_allocations().empty());
}
