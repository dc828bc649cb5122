// A program that does one wrong thing, for sim_faults_test.cpp to see who notices. It is built
// three times: plain, with AddressSanitizer, with ThreadSanitizer.
//
// Usage: program <fault, or kernel that is right>. Prints "emulation: ...", "result: ..." or
// "error: ..." and exits with 3 when it is noticed here, with 0 when nothing is. A sanitizer speaks
// for itself. Without an argument: prints the names of the faults.
#include <tests/cuda/sim/sanitizers.hpp>
#include <tests/cuda/sim_kernels.hpp>

#include <cstdio>
#include <memory>
#include <string>

namespace {

using sim_test::Array;
using sim_test::kThreads;
using sim_test::numbers;

constexpr unsigned kAll = 0xFFFFFFFFU;

// --- kernels
// ---------------------------------------------------------------------------------------

__global__ void no_barrier(const int* values, int* sum) {
  INFOBATCH_SHARED(int, partial, kThreads / 32);
  int mine = values[threadIdx.x];
  for (int step = 16; step > 0; step /= 2) mine += __shfl_down_sync(kAll, mine, step);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = mine;
  if (threadIdx.x == 0) *sum = partial[0] + partial[1];  // no barrier before it
}
__global__ void one_barrier_too_few(int* values) {
  INFOBATCH_SHARED(int, row, kThreads);
  int sum = 0;
  for (int k = 0; k < 3; ++k) {
    row[threadIdx.x] = k;
    __syncthreads();
    sum += row[(threadIdx.x + 33) % kThreads];  // none before the next write
  }
  values[threadIdx.x] = sum;
}
__global__ void warp_barrier_between_warps(int* values) {
  INFOBATCH_SHARED(int, row, kThreads);
  row[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncwarp();
  values[threadIdx.x] = row[threadIdx.x ^ 32U];
}
__global__ void plain_add_in_a_block(int* counter) {
  INFOBATCH_SHARED(int, mine, 1);
  if (threadIdx.x == 0) mine[0] = 0;
  __syncthreads();
  mine[0] = mine[0] + 1;
  __syncthreads();
  if (threadIdx.x == 0) *counter = mine[0];
}
__global__ void plain_add_between_blocks(int* counter) {
  __syncthreads();
  if (threadIdx.x == 0) *counter = *counter + 1;
}
__global__ void plain_write_beside_atomics(int* counter) {
  if (threadIdx.x == 5)
    *counter = 0;
  else
    atomicAdd(counter, 1);
}
__global__ void divergent_shuffle(int* values) {
  int mine = values[threadIdx.x];
  if (threadIdx.x % 32 < 16) mine += __shfl_xor_sync(kAll, mine, 1);
  values[threadIdx.x] = mine;
}
__global__ void shuffle_after_return(int* values, int n) {
  if (static_cast<int>(threadIdx.x) >= n) return;
  values[threadIdx.x] += __shfl_xor_sync(kAll, values[threadIdx.x], 1);
}
__global__ void shuffle_from_outside(int* values) {
  if (threadIdx.x % 32 < 16) values[threadIdx.x] = __shfl_sync(0xFFFFU, values[threadIdx.x], 20);
}
__global__ void lane_outside_its_mask() { __syncwarp(0xFFFFU); }
__global__ void different_masks() {
  if (threadIdx.x % 32 < 16)
    __syncwarp(kAll);
  else
    __syncwarp(0xFFFF8000U);
}
__global__ void different_operations(int* values) {
  if (threadIdx.x % 2 == 0)
    values[threadIdx.x] = __any_sync(kAll, 1);
  else
    values[threadIdx.x] = __all_sync(kAll, 1);
}
__global__ void divergent_barrier() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void barrier_after_return(int n) {
  if (static_cast<int>(threadIdx.x) >= n) return;
  __syncthreads();
}
__global__ void endless_barriers() {
  while (__syncthreads_or(1) != 0) {
  }
}
__global__ void endless_atomics(int* flag) {
  while (atomicAdd(flag, 0) == 0) {
  }
}
__global__ void too_much_static() {
  INFOBATCH_SHARED(int, big, 13 << 10);
  big[threadIdx.x] = 1;
}
__global__ void write_behind_shared() {
  INFOBATCH_SHARED(int, row, kThreads);
  row[threadIdx.x + 1] = 1;
}
__global__ void read_behind_shared(int* values) {
  INFOBATCH_SHARED(int, row, kThreads);
  row[threadIdx.x] = 1;
  __syncthreads();
  values[threadIdx.x] = row[threadIdx.x + 1];
}
__global__ void write_behind_global(int* values, int n) {
  for (int i = static_cast<int>(threadIdx.x); i <= n; i += kThreads) values[i] = 1;
}
__global__ void read_behind_global(const int* values, int n, int* sum) {
  int mine = 0;
  for (int i = static_cast<int>(threadIdx.x); i <= n; i += kThreads) mine += values[i];
  atomicAdd(sum, mine);
}
__global__ void uninitialised_shared(int* sum) {
  INFOBATCH_SHARED(int, count, 1);
  atomicAdd(count, 1);  // never set to 0
  __syncthreads();
  if (threadIdx.x == 0) *sum = count[0];
}
__global__ void count_all(int* sum) { atomicAdd(sum, 1); }
__global__ void copy_all(const int* from, int* to) { to[threadIdx.x] = from[threadIdx.x]; }
__global__ void read_position_twice() { __syncthreads(); }

// --- faults: what one notices without a sanitizer, or nothing
// --------------------------------------

std::string differs(const std::vector<int>& values, const std::vector<int>& expected) {
  return values == expected ? "" : "result: differs";
}
std::string reported() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : std::string("error: ") + cudaGetErrorName(error);
}

std::string missing_barrier() {
  std::vector<int> values = numbers(kThreads);
  int sum = 0;
  for (const int value : values) sum += value;
  const Array<int> in(values), out(1);
  INFOBATCH_LAUNCH(no_barrier, 1, kThreads, 0, nullptr, in.get(), out.get());
  return differs(out.values(), {sum});
}
std::string reused_too_early() {
  const Array<int> out(kThreads);
  INFOBATCH_LAUNCH(one_barrier_too_few, 1, kThreads, 0, nullptr, out.get());
  return differs(out.values(), std::vector<int>(kThreads, 3));
}
std::string warps_by_warp_barrier() {
  const Array<int> out(kThreads);
  INFOBATCH_LAUNCH(warp_barrier_between_warps, 1, kThreads, 0, nullptr, out.get());
  std::vector<int> expected;
  for (int i = 0; i < kThreads; ++i) expected.push_back(i ^ 32);
  return differs(out.values(), expected);
}
std::string race_in_a_block() {
  const Array<int> out(1);
  INFOBATCH_LAUNCH(plain_add_in_a_block, 1, kThreads, 0, nullptr, out.get());
  return differs(out.values(), {kThreads});
}
std::string race_between_blocks() {
  const Array<int> out(std::vector<int>{0});
  INFOBATCH_LAUNCH(plain_add_between_blocks, 2, kThreads, 0, nullptr, out.get());
  return differs(out.values(), {2});
}
std::string race_with_atomics() {
  const Array<int> out(std::vector<int>{0});
  INFOBATCH_LAUNCH(plain_write_beside_atomics, 1, 32, 0, nullptr, out.get());
  return "";
}

template <typename Kernel>
std::string on_numbers(Kernel kernel) {
  const Array<int> values(numbers(kThreads));
  INFOBATCH_LAUNCH(kernel, 1, kThreads, 0, nullptr, values.get());
  return reported();
}
template <typename Kernel>
std::string on_nothing(Kernel kernel) {
  INFOBATCH_LAUNCH(kernel, 1, kThreads, 0, nullptr);
  return reported();
}
std::string returned_before_a_shuffle() {
  const Array<int> values(numbers(kThreads));
  INFOBATCH_LAUNCH(shuffle_after_return, 1, kThreads, 0, nullptr, values.get(), 40);
  return "";
}
std::string returned_before_a_barrier() {
  INFOBATCH_LAUNCH(barrier_after_return, 1, kThreads, 0, nullptr, 40);
  return "";
}
std::string loop_over_atomics() {
  sim::schedule().most_atomics = 100000;
  const Array<int> flag(std::vector<int>{0});
  INFOBATCH_LAUNCH(endless_atomics, 1, 32, 0, nullptr, flag.get());
  return "";
}
std::string write_behind_the_end() {
  const Array<int> values(100);
  INFOBATCH_LAUNCH(write_behind_global, 1, kThreads, 0, nullptr, values.get(), 100);
  return "";
}
std::string read_behind_the_end() {
  const Array<int> values(numbers(100)), sum(std::vector<int>{0});
  INFOBATCH_LAUNCH(read_behind_global, 1, kThreads, 0, nullptr, values.get(), 100, sum.get());
  int expected = 0;
  for (const int value : numbers(100)) expected += value;
  return differs(sum.values(), {expected});
}
std::string shared_without_a_value() {
  const Array<int> out(1);
  std::vector<int> first;
  for (const unsigned char poison : {0xCB, 0xFF}) {
    sim::schedule().poison = poison;
    INFOBATCH_LAUNCH(uninitialised_shared, 1, kThreads, 0, nullptr, out.get());
    if (first.empty()) first = out.values();
  }
  return differs(out.values(), first);
}
std::string global_without_a_value() {
  const Array<int> out(1);
  INFOBATCH_LAUNCH(count_all, 1, kThreads, 0, nullptr, out.get());
  return differs(out.values(), {kThreads});
}
std::string dynamic_not_asked_for() {
  INFOBATCH_LAUNCH(read_position_twice, 1, kThreads, 64 << 10, nullptr);
  return reported();
}
std::string dynamic_beyond_the_device() {
  const cudaError_t error = cudaFuncSetAttribute(
      read_position_twice, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10);
  return error == cudaSuccess ? "" : std::string("error: ") + cudaGetErrorName(error);
}
std::string empty_grid() {
  INFOBATCH_LAUNCH(read_position_twice, 0, kThreads, 0, nullptr);
  return reported();
}
std::string block_too_large() {
  INFOBATCH_LAUNCH(read_position_twice, 1, 1056, 0, nullptr);
  return reported();
}

// --- the host's
// -------------------------------------------------------------------------------------

/// A stream whose operations run when they are waited for.
struct Deferred {
  cudaStream_t stream = nullptr;
  Deferred() {
    sim::device().streams = sim::Streams::kDeferred;
    (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  }
  ~Deferred() {
    (void)cudaStreamSynchronize(stream);
    (void)cudaStreamDestroy(stream);
  }
  Deferred(const Deferred&) = delete;
  Deferred& operator=(const Deferred&) = delete;
};

std::string read_too_early() {
  const Deferred deferred;
  const Array<int> in(std::vector<int>{7, 7});
  const auto host = std::make_unique<int[]>(2);
  (void)cudaMemcpyAsync(host.get(), in.get(), 8, cudaMemcpyDeviceToHost, deferred.stream);
  const bool wrong = host[0] != 7;  // the host has not waited
  (void)cudaStreamSynchronize(deferred.stream);
  return wrong ? "result: differs" : "";
}
std::string managed_too_early() {
  const Deferred deferred;
  int* managed = nullptr;
  (void)cudaMallocManaged(&managed, 2 * sizeof(int));
  (void)cudaMemsetAsync(managed, 0, 2 * sizeof(int), deferred.stream);
  const bool wrong = managed[0] != 0;
  (void)cudaFree(managed);
  return wrong ? "result: differs" : "";
}
std::string source_changed() {
  const Deferred deferred;
  const Array<int> out(1);
  const auto host = std::make_unique<int>(7);
  (void)cudaMemcpyAsync(
      out.get(), host.get(), sizeof(int), cudaMemcpyHostToDevice, deferred.stream);
  *host = 8;
  (void)cudaStreamSynchronize(deferred.stream);
  return differs(out.values(), {7});
}
std::string source_left() {
  const Deferred deferred;
  const Array<int> out(1);
  {
    volatile int local = 7;
    (void)cudaMemcpyAsync(
        out.get(), const_cast<int*>(&local), sizeof(int), cudaMemcpyHostToDevice, deferred.stream);
    local = 8;  // what another call would do to it
  }
  (void)cudaStreamSynchronize(deferred.stream);
  return differs(out.values(), {7});
}
std::string target_freed() {
  const Deferred deferred;
  const Array<int> in(std::vector<int>(64, 7));
  auto host = std::make_unique<int[]>(64);
  (void)cudaMemcpyAsync(host.get(), in.get(), 256, cudaMemcpyDeviceToHost, deferred.stream);
  host.reset();
  (void)cudaStreamSynchronize(deferred.stream);
  return "";
}
std::string used_after_free() {
  const Deferred deferred;
  const Array<int> out(kThreads);
  int* in = nullptr;
  (void)cudaMallocAsync(&in, kThreads * sizeof(int), deferred.stream);
  (void)cudaMemsetAsync(in, 0, kThreads * sizeof(int), deferred.stream);
  (void)cudaFreeAsync(in, deferred.stream);
  INFOBATCH_LAUNCH(copy_all, 1, kThreads, 0, deferred.stream, in, out.get());
  (void)cudaStreamSynchronize(deferred.stream);
  return differs(out.values(), std::vector<int>(kThreads, 0));
}
std::string freed_on_another_stream() {
  sim::device().streams = sim::Streams::kRandom;
  sim::device().only_device_pointers = true;
  cudaStream_t streams[2];
  for (cudaStream_t& stream : streams)
    (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  const Array<int> out(kThreads);
  for (int k = 0; k < 50; ++k) {
    int* in = nullptr;
    (void)cudaMallocAsync(&in, kThreads * sizeof(int), streams[0]);
    (void)cudaMemsetAsync(in, 0, kThreads * sizeof(int), streams[0]);
    INFOBATCH_LAUNCH(copy_all, 1, kThreads, 0, streams[0], in, out.get());
    (void)cudaFreeAsync(in, streams[1]);  // no event between them
    (void)cudaDeviceSynchronize();
  }
  return differs(out.values(), std::vector<int>(kThreads, 0));
}
std::string no_event_between_streams() {
  const Deferred first, second;
  const Array<int> in(std::vector<int>(kThreads, 1)), out(kThreads);
  (void)cudaMemsetAsync(in.get(), 0, kThreads * sizeof(int), first.stream);
  INFOBATCH_LAUNCH(copy_all, 1, kThreads, 0, second.stream, in.get(), out.get());
  (void)cudaStreamSynchronize(second.stream);
  (void)cudaStreamSynchronize(first.stream);
  return differs(out.values(), std::vector<int>(kThreads, 0));
}
/// As above, but each operation runs at once: only the missing order is wrong.
std::string no_event_at_once() {
  cudaStream_t streams[2];
  for (cudaStream_t& stream : streams)
    (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  const Array<int> in(std::vector<int>(kThreads, 1)), out(kThreads);
  INFOBATCH_LAUNCH(sim_test::add_one, 1, kThreads, 0, streams[0], in.get(), kThreads);
  INFOBATCH_LAUNCH(copy_all, 1, kThreads, 0, streams[1], in.get(), out.get());
  (void)cudaDeviceSynchronize();
  return differs(out.values(), std::vector<int>(kThreads, 2));
}
std::string read_at_once() {
  cudaStream_t stream = nullptr;
  (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  const Array<int> in(std::vector<int>(kThreads, 1));
  int* host = nullptr;
  (void)cudaMallocHost(&host, kThreads * sizeof(int));
  (void)cudaMemcpyAsync(host, in.get(), kThreads * sizeof(int), cudaMemcpyDeviceToHost, stream);
  const bool wrong = *static_cast<volatile int*>(host) != 1;
  (void)cudaStreamSynchronize(stream);
  (void)cudaFreeHost(host);
  return wrong ? "result: differs" : "";
}
std::string host_pointer() {
  sim::device().only_device_pointers = true;
  const Array<int> out(kThreads);
  const std::vector<int> host = numbers(kThreads);
  INFOBATCH_LAUNCH(copy_all, 1, kThreads, 0, nullptr, host.data(), out.get());
  return "";
}
std::string host_reads_device_memory() {
  sim::device().guard_device_memory = true;
  const Array<int> in(std::vector<int>{7});
  return *static_cast<volatile int*>(in.get()) == 7 ? "" : "result: differs";
}
std::string leak() {
  int* lost = nullptr;
  (void)cudaMalloc(&lost, 12);
  (void)cudaDeviceSynchronize();
  return sim::live_allocations().empty() ? "" : "result: memory is left over";
}
std::string freed_twice() {
  int* data = nullptr;
  (void)cudaMalloc(&data, 12);
  (void)cudaFree(data);
  const cudaError_t error = cudaFree(data);
  return error == cudaSuccess ? "" : std::string("error: ") + cudaGetErrorName(error);
}
std::string waits_while_capturing() {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  (void)cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  (void)cudaStreamSynchronize(stream);
  const cudaError_t error = cudaStreamEndCapture(stream, &graph);
  return error == cudaSuccess ? "" : std::string("error: ") + cudaGetErrorName(error);
}

struct Fault {
  const char* name;
  std::string (*run)();
};
constexpr Fault kFaults[] = {
    {"missing barrier", missing_barrier},
    {"shared memory reused before a barrier", reused_too_early},
    {"warp barrier between warps", warps_by_warp_barrier},
    {"race in a block", race_in_a_block},
    {"race between blocks", race_between_blocks},
    {"plain write beside atomics", race_with_atomics},
    {"divergent shuffle", [] { return on_numbers(divergent_shuffle); }},
    {"shuffle after lanes returned", returned_before_a_shuffle},
    {"shuffle from a lane outside the mask", [] { return on_numbers(shuffle_from_outside); }},
    {"lane outside its own mask", [] { return on_nothing(lane_outside_its_mask); }},
    {"lanes wait with different masks", [] { return on_nothing(different_masks); }},
    {"lanes in different operations", [] { return on_numbers(different_operations); }},
    {"barrier in divergent code", [] { return on_nothing(divergent_barrier); }},
    {"barrier that ended threads never reach", returned_before_a_barrier},
    {"endless loop over barriers", [] { return on_nothing(endless_barriers); }},
    {"endless loop over atomics", loop_over_atomics},
    {"too much static shared memory", [] { return on_nothing(too_much_static); }},
    {"dynamic shared memory not asked for", dynamic_not_asked_for},
    {"dynamic shared memory beyond the device", dynamic_beyond_the_device},
    {"empty grid", empty_grid},
    {"block too large", block_too_large},
    {"write behind shared memory", [] { return on_nothing(write_behind_shared); }},
    {"read behind shared memory", [] { return on_numbers(read_behind_shared); }},
    {"write behind global memory", write_behind_the_end},
    {"read behind global memory", read_behind_the_end},
    {"shared memory without a value", shared_without_a_value},
    {"global memory without a value", global_without_a_value},
    {"host reads a copy too early", read_too_early},
    {"host reads managed memory too early", managed_too_early},
    {"host changes the source of a copy", source_changed},
    {"copy from a local that is gone", source_left},
    {"copy into memory that is freed", target_freed},
    {"use after cudaFreeAsync", used_after_free},
    {"free on another stream, no event", freed_on_another_stream},
    {"no event between two streams", no_event_between_streams},
    {"no event between streams that run at once", no_event_at_once},
    {"host reads a copy made at once", read_at_once},
    {"kernel is given a host pointer", host_pointer},
    {"host reads device memory", host_reads_device_memory},
    {"leak", leak},
    {"memory freed twice", freed_twice},
    {"host waits during a capture", waits_while_capturing},
};

/// @return the exit status.
int run(std::string (*what)(), const sim::Schedule& schedule, sim::Streams streams) {
  std::string noticed;
  try {
    sim::reset();
    sim::schedule() = schedule;
    sim::device().streams = streams;
    noticed = what();
    sim::reset();
  } catch (const sim::Fault& fault) {
    noticed = std::string("emulation: ") + fault.what();
  }
  if (noticed.empty()) return 0;
  std::printf("%s\n", noticed.c_str());
  std::fflush(stdout);
  return 3;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "";
  std::vector<sim::Schedule> schedules = sim_test::schedules();
  // ThreadSanitizer looks at the order that barriers make, not at the one in which threads happen
  // to run, and GCC's takes a millisecond for each thread.
  if (sim::detail::with_thread_sanitizer()) schedules = {schedules[0], schedules[2]};
  for (const sim::Schedule& schedule : schedules) {
    for (const Fault& fault : kFaults) {
      if (name != fault.name) continue;
      const int status = run(fault.run, schedule, sim::Streams::kImmediate);
      if (status != 0) return status;
    }
    for (const sim_test::Right& right : sim_test::kRight) {
      if (name != right.name) continue;
      for (const sim::Streams streams :
           {sim::Streams::kImmediate, sim::Streams::kDeferred, sim::Streams::kRandom}) {
        const int status = run(right.run, schedule, streams);
        if (status != 0) return status;
      }
    }
  }
  if (!name.empty()) return 0;
  for (const Fault& fault : kFaults) std::printf("%s\n", fault.name);
  return 0;
}
