// The emulation runs kernels as CUDA does: positions, warp operations, barriers, atomics, launches.
#include <tests/cuda/sim_kernels.hpp>
#include <tests/support/catch2_shim.hpp>

#include <cuda_sim.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <set>
#include <vector>

namespace {

using sim_test::Array;
constexpr unsigned kAll = 0xFFFFFFFFU;

__global__ void positions(unsigned* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

/// Each lane's results of all warp operations.
__global__ void warp_operations(unsigned* out) {
  const unsigned lane = threadIdx.x % 32;
  unsigned* const mine = out + threadIdx.x * 16;
  mine[0] = __shfl_sync(kAll, lane, 5);
  mine[1] = __shfl_sync(kAll, lane, 33);
  mine[2] = __shfl_up_sync(kAll, lane, 3);
  mine[3] = __shfl_down_sync(kAll, lane, 3);
  mine[4] = __shfl_xor_sync(kAll, lane, 9);
  mine[5] = __shfl_sync(kAll, lane, 2, 8);
  mine[6] = __shfl_up_sync(kAll, lane, 3, 8);
  mine[7] = __shfl_down_sync(kAll, lane, 3, 8);
  mine[8] = __shfl_xor_sync(kAll, lane, 16, 8);
  mine[9] = __ballot_sync(kAll, lane % 3 == 0);
  mine[10] = static_cast<unsigned>(__any_sync(kAll, lane == 7));
  mine[11] = static_cast<unsigned>(__all_sync(kAll, lane != 7));
  mine[12] = __match_any_sync(kAll, lane / 10);
  if (lane < 16) {
    mine[13] = __ballot_sync(0xFFFFU, lane % 2);  // half of a warp by itself
  } else {
    mine[13] = __ballot_sync(0xFFFF0000U, 1);
  }
  mine[14] = static_cast<unsigned>(__shfl_sync(kAll, static_cast<long long>(lane) << 40, 3) >> 40);
  mine[15] = static_cast<unsigned>(__shfl_sync(kAll, 0.5 + lane, 4) * 2);
}

__global__ void votes(int* out) {
  const int t = static_cast<int>(threadIdx.x);
  const int count = __syncthreads_count(t % 3 == 0), any = __syncthreads_or(t == 7);
  const int none = __syncthreads_or(t < 0), all = __syncthreads_and(t >= 0);
  const int most = __syncthreads_and(t > 0);
  if (t == 40) {
    const int results[] = {count, any, none, all, most};
    for (int k = 0; k < 5; ++k) out[k] = results[k];
  }
}

template <typename T>
__global__ void atomics(T* out) {
  const T t = static_cast<T>(threadIdx.x);
  atomicAdd(&out[0], t);
  if constexpr (std::is_integral_v<T>) {
    atomicMax(&out[1], t);
    atomicMin(&out[2], t);
    atomicOr(&out[3], T{1} << (threadIdx.x % 16));
    atomicAnd(&out[4], static_cast<T>(~(T{1} << (threadIdx.x % 16))));
    T seen = atomicOr(&out[5], 0), expected;
    do {
      expected = seen;
      seen = atomicCAS(&out[5], expected, expected + 2);
    } while (seen != expected);
  }
  if constexpr (!std::is_same_v<T, double>) {
    if (threadIdx.x == 0) atomicExch(&out[6], 9);
  }
}

__global__ void order_of_threads(int* out, int* next) {
  out[atomicAdd(next, 1)] = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}
template <typename T>
__global__ void store(T* out, T value) {
  *out = value;
}
__global__ void no_arguments() {}
__global__ void piece_of_each_kind(int* out) {
  INFOBATCH_SHARED(char, odd, 3);
  INFOBATCH_SHARED(double, aligned, 2);
  INFOBATCH_DYNAMIC_SHARED(int, dynamic);
  odd[0] = odd[2] = 1;
  aligned[1] = 2;
  dynamic[0] = 3;
  const bool right = reinterpret_cast<std::uintptr_t>(aligned) % alignof(double) == 0;
  out[blockIdx.x] = right ? odd[2] + static_cast<int>(aligned[1]) + dynamic[0] : -1;
}
__global__ void barriers(int n) {
  for (int k = 0; k < n; ++k) __syncthreads();
}
__global__ void calls_the_runtime() { (void)cudaDeviceSynchronize(); }

std::vector<int> order_of(unsigned grid, unsigned block) {
  const Array<int> out(std::vector<int>(grid * block)), next(std::vector<int>{0});
  INFOBATCH_LAUNCH(order_of_threads, grid, block, 0, nullptr, out.get(), next.get());
  return out.values();
}

}  // namespace

TEST_CASE("cuda sim: threads of grids and blocks in three dimensions have their places",
          "[cuda][sim]") {
  sim::reset();
  const dim3 grid(3, 2, 2), block(5, 3, 2);
  const Array<unsigned> out(12 * 30);
  INFOBATCH_LAUNCH(positions, grid, block, 0, nullptr, out.get());
  REQUIRE(cudaGetLastError() == cudaSuccess);
  const std::vector<unsigned> values = out.values();
  for (unsigned i = 0; i < 12 * 30; ++i) REQUIRE(values[i] == i / 30 * 1000 + i % 30);
}

TEST_CASE("cuda sim: warp operations give what the programming guide says", "[cuda][sim]") {
  for (const sim::Schedule& schedule : sim_test::schedules()) {
    sim::reset();
    sim::schedule() = schedule;
    const Array<unsigned> out(64 * 16);
    INFOBATCH_LAUNCH(warp_operations, 1, 64, 0, nullptr, out.get());
    const std::vector<unsigned> values = out.values();
    for (unsigned t = 0; t < 64; ++t) {
      const unsigned l = t % 32, in8 = l % 8;
      const unsigned* const mine = &values[std::size_t{t} * 16];
      CAPTURE(t);
      CHECK(mine[0] == 5);
      CHECK(mine[1] == 1);
      CHECK(mine[2] == (l < 3 ? l : l - 3));
      CHECK(mine[3] == (l > 28 ? l : l + 3));
      CHECK(mine[4] == (l ^ 9U));
      CHECK(mine[5] == l - in8 + 2);
      CHECK(mine[6] == (in8 < 3 ? l : l - 3));
      CHECK(mine[7] == (in8 > 4 ? l : l + 3));
      CHECK(mine[8] == (l < 16 ? l : l - 16));  // only earlier groups may be read
      CHECK(mine[9] == 0x49249249U);
      CHECK(mine[10] == 1);
      CHECK(mine[11] == 0);
      CHECK(mine[12] == (l < 10 ? 0x3FFU : l < 20 ? 0xFFC00U : l < 30 ? 0x3FF00000U : 0xC0000000U));
      CHECK(mine[13] == (l < 16 ? 0xAAAAU : 0xFFFF0000U));
      CHECK(mine[14] == 3);
      CHECK(mine[15] == 9);
    }
  }
}

TEST_CASE("cuda sim: barriers count votes", "[cuda][sim]") {
  sim::reset();
  const Array<int> out(5);
  INFOBATCH_LAUNCH(votes, 1, 70, 0, nullptr, out.get());
  CHECK(out.values() == std::vector<int>{24, 1, 0, 1, 0});
  CHECK(sim::statistics().barriers == 5);
}

TEMPLATE_TEST_CASE("cuda sim: atomics lose nothing, whoever goes first",
                   "[cuda][sim]",
                   int,
                   unsigned,
                   unsigned long long,
                   float,
                   double) {
  for (const sim::Schedule& schedule : sim_test::schedules()) {
    sim::reset();
    sim::schedule() = schedule;
    const Array<TestType> out(std::vector<TestType>{0, 0, 100, 0, 0xFFFF, 0, 0});
    INFOBATCH_LAUNCH(atomics, 1, 64, 0, nullptr, out.get());
    const std::vector<TestType> values = out.values();
    CHECK(values[0] == TestType{64 * 63 / 2});
    if (std::is_integral_v<TestType>) {
      CHECK(values[1] == TestType{63});
      CHECK(values[2] == TestType{0});
      CHECK(values[3] == TestType{0xFFFF});
      CHECK(values[4] == TestType{0});
      CHECK(values[5] == TestType{128});
    }
    if (!std::is_same_v<TestType, double>) CHECK(values[6] == TestType{9});
  }
}

TEST_CASE("cuda sim: integer functions at their edges", "[cuda][sim]") {
  CHECK(__popc(0xFFFFFFFFU) == 32);
  CHECK(__popcll(0xFFFFFFFFFFULL) == 40);
  CHECK(__ffs(0) == 0);
  CHECK(__ffs(static_cast<int>(0x80000000U)) == 32);
  CHECK(__ffsll(1LL << 40) == 41);
  CHECK(__clz(0) == 32);
  CHECK(__clz(1) == 31);
  CHECK(__clz(-1) == 0);
  CHECK(__clzll(0) == 64);
  CHECK(__umulhi(0xFFFFFFFFU, 0xFFFFFFFFU) == 0xFFFFFFFEU);
  CHECK(__umul64hi(1ULL << 63, 6) == 3);
  const int seven = 7;
  CHECK(__ldg(&seven) == 7);
}

TEST_CASE("cuda sim: a test chooses the order of threads and blocks", "[cuda][sim]") {
  sim::reset();
  std::vector<int> expected(3 * 40);
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(order_of(3, 40) == expected);
  sim::schedule().order = sim::Schedule::kDescending;
  CHECK(order_of(3, 40) == std::vector<int>(expected.rbegin(), expected.rend()));
  sim::schedule().order = sim::Schedule::kRandom;
  std::set<std::vector<int>> different;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    sim::schedule().seed = seed;
    std::vector<int> order = order_of(3, 40);
    CHECK(order_of(3, 40) == order);  // the same seed, the same order
    different.insert(order);
    std::sort(order.begin(), order.end());
    CHECK(order == expected);
  }
  CHECK(different.size() == 8);
}

TEST_CASE("cuda sim: arguments are those of the launch, not of the run", "[cuda][sim]") {
  sim::reset();
  sim::device().streams = sim::Streams::kDeferred;
  const Array<int> out(1);
  int value = 7;
  INFOBATCH_LAUNCH((store<int>), 1, 1, 0, nullptr, out.get(), value);
  value = 8;
  CHECK(out.values() == std::vector<int>{7});
  INFOBATCH_LAUNCH(no_arguments, 1, 1, 0, nullptr);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(sim::statistics().launches_of["store<int>"] == 1);
  CHECK(sim::statistics().launches_of["no_arguments"] == 1);
}

TEST_CASE("cuda sim: shared memory is aligned, and apart for each block", "[cuda][sim]") {
  sim::reset();
  const Array<int> out(2);
  INFOBATCH_LAUNCH(piece_of_each_kind, 2, 1, 4, nullptr, out.get());
  CHECK(out.values() == std::vector<int>{6, 6});
}

TEST_CASE("cuda sim: limits of a launch", "[cuda][sim]") {
  sim::reset();
  const auto launched = [](dim3 grid, dim3 block, std::size_t shared) {
    INFOBATCH_LAUNCH(no_arguments, grid, block, shared, nullptr);
    return cudaGetLastError();
  };
  CHECK(launched(1, 1024, 48 << 10) == cudaSuccess);
  CHECK(launched(1, dim3(32, 32), 0) == cudaSuccess);
  CHECK(launched(1, 1025, 0) == cudaErrorInvalidConfiguration);
  CHECK(launched(1, dim3(1, 1, 65), 0) == cudaErrorInvalidConfiguration);
  CHECK(launched(1, dim3(33, 32), 0) == cudaErrorInvalidConfiguration);
  CHECK(launched(0, 1, 0) == cudaErrorInvalidConfiguration);
  CHECK(launched(1, 0, 0) == cudaErrorInvalidConfiguration);
  CHECK(launched(0x80000000U, 1, 0) == cudaErrorInvalidConfiguration);
  CHECK(launched(dim3(1, 65536), 1, 0) == cudaErrorInvalidConfiguration);
  CHECK(launched(1, 32, (48 << 10) + 1) == cudaErrorInvalidValue);
  CHECK(cudaFuncSetAttribute(
            no_arguments, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 << 10) == cudaSuccess);
  CHECK(launched(1, 32, 227 << 10) == cudaSuccess);
  CHECK(launched(1, 32, (227 << 10) + 1) == cudaErrorInvalidValue);
  CHECK(sim::statistics().launches == 3);
}

TEST_CASE("cuda sim: after a fault the next kernel runs", "[cuda][sim]") {
  sim::reset();
  sim::schedule().most_barriers = 10;
  INFOBATCH_LAUNCH(barriers, 1, 64, 0, nullptr, 10);
  CHECK_THROWS_AS(INFOBATCH_LAUNCH(barriers, 1, 64, 0, nullptr, 11), sim::Fault);
  CHECK_THROWS_AS(INFOBATCH_LAUNCH(calls_the_runtime, 1, 64, 0, nullptr), sim::Fault);
  INFOBATCH_LAUNCH(barriers, 1, 1024, 0, nullptr, 10);
  CHECK(sim::statistics().launches_of["barriers"] == 3);
  CHECK_THROWS_AS(threadIdx.x + 0, sim::Fault);
}

TEST_CASE("cuda sim: kernels that are right are right in every order and mode", "[cuda][sim]") {
  for (const sim::Schedule& schedule : sim_test::schedules()) {
    for (const sim::Streams streams :
         {sim::Streams::kImmediate, sim::Streams::kDeferred, sim::Streams::kRandom}) {
      for (const sim_test::Right& right : sim_test::kRight) {
        sim::reset();
        sim::schedule() = schedule;
        sim::device().streams = streams;
        sim::device().guard_device_memory = sim::device().only_device_pointers = true;
        CAPTURE(right.name, schedule.order, schedule.seed, static_cast<int>(streams));
        CHECK(right.run().empty());
        CHECK(cudaDeviceSynchronize() == cudaSuccess);
        CHECK(sim::live_allocations().empty());
        CHECK(sim::pending_operations() == 0);
      }
    }
  }
}

TEST_CASE("cuda sim: threads change by own code as by the C library's", "[cuda][sim]") {
  const bool has_own = sim::use_own_switch(true);
  for (const bool own : {true, false}) {
    sim::reset();
    sim::use_own_switch(own);
    const auto start = std::chrono::steady_clock::now();
    INFOBATCH_LAUNCH(barriers, 100, 256, 0, nullptr, 4);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    CHECK(sim::statistics().switches == 100 * 256 * 5);
    for (const sim_test::Right& right : sim_test::kRight) CHECK(right.run().empty());
    if (std::getenv("INFOBATCH_PRINT_CASES") != nullptr) {
      std::printf("  %s: %.1f million switches a second\n",
                  own && has_own ? "own code" : "ucontext",
                  100 * 256 * 5 / seconds.count() * 1e-6);
    }
  }
  sim::use_own_switch(true);
}
