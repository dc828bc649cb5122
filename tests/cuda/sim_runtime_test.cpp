// The twin of the CUDA runtime: memory, errors, injected failures, figures.
#include <tests/cuda/sim/sanitizers.hpp>
#include <tests/cuda/sim_kernels.hpp>
#include <tests/support/catch2_shim.hpp>

#include <cuda_sim.hpp>

#include <string>
#include <vector>

namespace {

using sim::Call;
using sim_test::Array;

__global__ void set_to(int* out, int value) { *out = value; }
__global__ void never_ends() {
  while (__syncthreads_or(1) != 0) {
  }
}
__global__ void write_at(int* out, int index) { out[index] = 1; }

sim::Injection failing(Call call, cudaError_t error, std::uint64_t at = 1) {
  sim::Injection injection;
  injection.call = call;
  injection.error = error;
  injection.at = at;
  return injection;
}

}  // namespace

TEST_CASE("cuda sim: errors have CUDA's names, and are read once", "[cuda][sim][runtime]") {
  sim::reset();
  CHECK(std::string(cudaGetErrorName(cudaErrorMemoryAllocation)) == "cudaErrorMemoryAllocation");
  CHECK(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)) == "out of memory");
  CHECK(std::string(cudaGetErrorString(static_cast<cudaError_t>(12345))) ==
        "unrecognized error code");
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaMemcpy(nullptr, nullptr, 4, cudaMemcpyHostToHost) == cudaErrorInvalidValue);
  CHECK(cudaPeekAtLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("cuda sim: devices and their attributes", "[cuda][sim][runtime]") {
  sim::reset();
  int value = -1;
  CHECK(cudaGetDeviceCount(&value) == cudaSuccess);
  CHECK(value == 1);
  CHECK(cudaGetDevice(&value) == cudaSuccess);
  CHECK(value == 0);
  CHECK(cudaSetDevice(0) == cudaSuccess);
  CHECK(cudaSetDevice(1) == cudaErrorInvalidDevice);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0) == cudaSuccess);
  CHECK(value == 132);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess);
  CHECK(value == 9);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0) == cudaSuccess);
  CHECK(value == 227 << 10);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 1) == cudaErrorInvalidDevice);
  sim::device().devices = 0;
  CHECK(cudaGetDeviceCount(&value) == cudaErrorNoDevice);
  CHECK(value == 0);
  void* memory = nullptr;
  CHECK(cudaMalloc(&memory, 4) == cudaErrorNoDevice);
}

TEST_CASE("cuda sim: memory is fresh, exact, and given back", "[cuda][sim][runtime]") {
  sim::reset();
  int *device = nullptr, *managed = nullptr, *pinned = nullptr, *nothing = nullptr;
  CHECK(cudaMalloc(&nothing, 0) == cudaSuccess);
  CHECK(nothing == nullptr);
  REQUIRE(cudaMalloc(&device, 12) == cudaSuccess);
  REQUIRE(cudaMallocManaged(&managed, 8) == cudaSuccess);
  REQUIRE(cudaMallocHost(&pinned, 4) == cudaSuccess);
  CHECK(reinterpret_cast<std::uintptr_t>(device) % 256 == 0);
  CHECK(managed[1] == static_cast<int>(0xCBCBCBCBU));
  CHECK(sim::live_allocations().size() == 3);
  CHECK(sim::statistics().live_bytes == 24);
  CHECK(cudaFree(pinned) == cudaErrorInvalidValue);
  CHECK(cudaFreeHost(device) == cudaErrorInvalidValue);
  CHECK(cudaFree(device + 1) == cudaErrorInvalidValue);
  CHECK(cudaFree(nullptr) == cudaSuccess);
  CHECK(cudaMemset(device, 0, 13) == cudaErrorInvalidValue);  // beyond the end
  CHECK(cudaMemset(device, 0, 12) == cudaSuccess);
  CHECK(cudaFree(device) == cudaSuccess);
  CHECK(cudaFree(device) == cudaErrorInvalidValue);
  CHECK(cudaFree(managed) == cudaSuccess);
  CHECK(cudaFreeHost(pinned) == cudaSuccess);
  CHECK(sim::live_allocations().empty());
  CHECK(sim::statistics().allocations == 3);
  CHECK(sim::statistics().frees == 3);
  CHECK(sim::statistics().most_live_bytes == 24);
  sim::device().memory = 100;
  CHECK(cudaMalloc(&device, 101) == cudaErrorMemoryAllocation);
  REQUIRE(cudaMalloc(&device, 60) == cudaSuccess);
  CHECK(cudaMalloc(&nothing, 41) == cudaErrorMemoryAllocation);
  std::size_t free = 0, total = 0;
  CHECK(cudaMemGetInfo(&free, &total) == cudaSuccess);
  CHECK(free == 40);
  CHECK(cudaFree(device) == cudaSuccess);
}

TEST_CASE("cuda sim: writes beside an allocation and to freed memory are noticed",
          "[cuda][sim][runtime]") {
  if (sim::detail::with_address_sanitizer())
    SKIP("AddressSanitizer ends the program at such a write");
  for (const int index : {-1, 3}) {
    sim::reset();
    int* device = nullptr;
    REQUIRE(cudaMalloc(&device, 12) == cudaSuccess);
    INFOBATCH_LAUNCH(write_at, 1, 1, 0, nullptr, device, index);
    CHECK(cudaFree(device) == cudaSuccess);  // destructors free: it does not throw
    CHECK_THROWS_WITH(cudaDeviceSynchronize(), Catch::Matchers::ContainsSubstring("allocation 1"));
  }
  int* device = nullptr;
  REQUIRE(cudaMalloc(&device, 12) == cudaSuccess);
  REQUIRE(cudaFree(device) == cudaSuccess);
  CHECK(device[0] == static_cast<int>(0xDDDDDDDDU));
  INFOBATCH_LAUNCH(write_at, 1, 1, 0, nullptr, device, 0);
  CHECK_THROWS_WITH(sim::reset(), Catch::Matchers::ContainsSubstring("has been freed"));
}

TEST_CASE("cuda sim: copies go where their direction says", "[cuda][sim][runtime]") {
  sim::reset();
  const Array<int> a(std::vector<int>{1, 2, 3}), b(3);
  int host[3] = {};
  const std::size_t bytes = sizeof host;
  CHECK(cudaMemcpy(b.get(), a.get(), bytes, cudaMemcpyDeviceToDevice) == cudaSuccess);
  CHECK(cudaMemcpy(host, b.get(), bytes, cudaMemcpyDefault) == cudaSuccess);
  CHECK(host[2] == 3);
  CHECK(cudaMemcpy(host, b.get(), bytes, cudaMemcpyHostToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(host, b.get(), bytes, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(b.get(), host, bytes, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(host, b.get(), bytes + 1, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(host, b.get(), 0, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(sim::statistics().host_to_device.count == 1);
  CHECK(sim::statistics().device_to_device.bytes == 12);
  CHECK(sim::statistics().device_to_host.count == 1);
}

TEST_CASE("cuda sim: hints are for managed memory and devices that exist", "[cuda][sim][runtime]") {
  sim::reset();
  int* managed = nullptr;
  REQUIRE(cudaMallocManaged(&managed, 400) == cudaSuccess);
  const Array<int> device(1);
  const cudaMemLocation on_device{cudaMemLocationTypeDevice, 0},
      on_host{cudaMemLocationTypeHost, 0};
  CHECK(cudaMemPrefetchAsync(managed, 400, on_device, 0) == cudaSuccess);
  CHECK(cudaMemPrefetchAsync(managed, 400, on_host, 0) == cudaSuccess);
  CHECK(cudaMemPrefetchAsync(managed, 404, on_host, 0) == cudaErrorInvalidValue);
  CHECK(cudaMemPrefetchAsync(device.get(), 4, on_device, 0) == cudaErrorInvalidValue);
  CHECK(cudaMemPrefetchAsync(managed, 400, {cudaMemLocationTypeDevice, 1}, 0) ==
        cudaErrorInvalidDevice);
  CHECK(cudaMemAdvise(managed, 400, cudaMemAdviseSetReadMostly, on_device) == cudaSuccess);
  CHECK(cudaMemAdvise(managed, 400, cudaMemAdviseSetPreferredLocation, on_host) == cudaSuccess);
  CHECK(cudaMemAdvise(device.get(), 4, cudaMemAdviseSetReadMostly, on_device) ==
        cudaErrorInvalidValue);
  CHECK(sim::statistics().prefetches == 2);
  sim::device().concurrent_managed_access = false;
  CHECK(cudaMemPrefetchAsync(managed, 400, on_device, 0) == cudaErrorInvalidDevice);
  CHECK(cudaFree(managed) == cudaSuccess);
}

TEST_CASE("cuda sim: the k-th call of a kind fails, once or from there on",
          "[cuda][sim][runtime]") {
  sim::reset();
  void* memory[4] = {};
  sim::inject(failing(Call::kMalloc, cudaErrorMemoryAllocation, 2));
  CHECK(cudaMalloc(&memory[0], 4) == cudaSuccess);
  CHECK(cudaMalloc(&memory[1], 4) == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  CHECK(cudaMalloc(&memory[1], 4) == cudaSuccess);
  sim::Injection all = failing(Call::kAny, cudaErrorUnknown);
  all.from_there_on = true;
  sim::inject(all);
  CHECK(cudaMalloc(&memory[2], 4) == cudaErrorUnknown);
  CHECK(cudaDeviceSynchronize() == cudaErrorUnknown);
  CHECK(cudaFree(memory[0]) == cudaErrorUnknown);  // freed nevertheless
  sim::clear_injections();
  CHECK(cudaFree(memory[1]) == cudaSuccess);
  CHECK(sim::live_allocations().empty());
  CHECK(sim::calls(Call::kMalloc) == 4);
}

TEST_CASE("cuda sim: a launch fails at once, or when it runs and for good",
          "[cuda][sim][runtime]") {
  sim::reset();
  sim::device().streams = sim::Streams::kDeferred;
  const Array<int> out(std::vector<int>{0});
  sim::inject(failing(Call::kLaunch, cudaErrorLaunchOutOfResources));
  INFOBATCH_LAUNCH(set_to, 1, 1, 0, nullptr, out.get(), 1);
  CHECK(cudaGetLastError() == cudaErrorLaunchOutOfResources);
  CHECK(out.values() == std::vector<int>{0});
  sim::Injection injection = failing(Call::kLaunch, cudaErrorIllegalAddress);
  injection.while_running = true;
  sim::inject(injection);
  INFOBATCH_LAUNCH(set_to, 1, 1, 0, nullptr, out.get(), 1);
  CHECK(cudaGetLastError() == cudaSuccess);  // nothing has run
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
  CHECK(cudaGetLastError() == cudaErrorIllegalAddress);  // the device is lost
  void* memory = nullptr;
  CHECK(cudaMalloc(&memory, 4) == cudaErrorIllegalAddress);
  sim::device().streams = sim::Streams::kImmediate;
}

TEST_CASE("cuda sim: a fault can be an error of the device instead", "[cuda][sim][runtime]") {
  sim::reset();
  sim::device().faults = sim::Faults::kReport;
  INFOBATCH_LAUNCH(never_ends, 1, 32, 0, nullptr);
  CHECK(cudaGetLastError() == cudaErrorLaunchFailure);
  CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  CHECK(sim::last_fault().find("does not end") != std::string::npos);
  sim::reset();
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(sim::last_fault().empty());
}
