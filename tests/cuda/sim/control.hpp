#pragma once

// What a test sets and reads: the order in which threads run, how a device behaves, which calls
// fail, and figures.
#include <tests/cuda/sim/runtime.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace sim {

/// A program that CUDA gives no meaning to, or a limit of the hardware that it exceeds.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// How the threads of a block and the blocks of a grid take turns. Threads change at barriers, warp
/// operations and, by choice, atomics. Blocks run one after the other.
struct Schedule {
  enum Order { kAscending, kDescending, kRandom } order = kAscending;
  std::uint64_t seed = 0;
  double yield_at_atomics = 0.0;        ///< fraction of atomics that let another thread go first
  std::uint64_t most_barriers = 10000;  ///< a block that passes more of them does not end
  unsigned char poison = 0xCB;          ///< what shared memory holds at the start of a block
  std::uint64_t most_atomics = 100'000'000;  ///< a thread that does more of them does not end
};
Schedule& schedule();

/// When the operations on a stream run.
enum class Streams {
  kImmediate,  ///< at the call
  kDeferred,   ///< when the host waits for them, and no others then
  kRandom,  ///< at any call of the runtime, by `seed`; at the latest when the host waits for them
};
enum class Faults {
  kThrow,   ///< the call in which the fault happens throws it; of calls that free, the next one
  kReport,  ///< the device is lost: cudaErrorLaunchFailure from then on, the text in last_fault()
};
struct Device {
  Streams streams = Streams::kImmediate;
  std::uint64_t seed = 0;
  Faults faults = Faults::kThrow;
  unsigned char fresh = 0xCB;         ///< what memory holds that nothing was written to
  unsigned char freed = 0xDD;         ///< what memory holds that has been freed
  bool guard_device_memory = false;   ///< with AddressSanitizer: the host must not touch it
  bool only_device_pointers = false;  ///< pointers among a kernel's arguments lead to live memory
  std::size_t memory = std::size_t{1} << 40;  ///< bytes; beyond: cudaErrorMemoryAllocation
  int devices = 1;
  int multiprocessors = 132;
  int capability = 90;  ///< major * 10 + minor
  bool concurrent_managed_access = true;
};
Device& device();

/// A new device, with the settings at their defaults: streams, events, graphs, errors, injections
/// and figures are gone. @throws Fault  memory is still allocated (and is freed).
void reset();
/// The text of the first fault since reset(); empty without one.
std::string last_fault();

/// Queues work of the host's own on a stream: the twin of a library's device-wide algorithm, which
/// may touch device memory when it runs. Counts as a launch of `name`.
void enqueue(const char* name, cudaStream_t stream, std::function<void()> work);

/// A function of the runtime, as failures are injected into.
enum class Call {
  kAny,
  kLaunch,
  kMalloc,
  kMallocAsync,
  kMallocManaged,
  kMallocHost,
  kFree,
  kFreeAsync,
  kFreeHost,
  kMemcpy,
  kMemcpyAsync,
  kMemset,
  kMemsetAsync,
  kMemPrefetchAsync,
  kMemAdvise,
  kStreamCreate,
  kStreamDestroy,
  kStreamSynchronize,
  kStreamQuery,
  kStreamWaitEvent,
  kDeviceSynchronize,
  kEventCreate,
  kEventDestroy,
  kEventRecord,
  kEventSynchronize,
  kEventQuery,
  kGetDeviceCount,
  kGetDevice,
  kSetDevice,
  kDeviceGetAttribute,
  kPointerGetAttributes,
  kFuncSetAttribute,
  kBeginCapture,
  kEndCapture,
  kGraphInstantiate,
  kGraphLaunch,
  kGraphDestroy,
};
struct Injection {
  Call call = Call::kAny;
  std::uint64_t at = 1;  ///< which of them fails, counted from the injection on: 1 is the next
  cudaError_t error = cudaErrorMemoryAllocation;
  bool from_there_on = false;  ///< it, and all behind it
  bool while_running = false;  ///< it is queued, fails when it runs, and the device is lost
};
/// One more injection; reset() or clear_injections() takes them back.
void inject(Injection injection);
void clear_injections();
/// Calls so far since reset(), failed ones included.
std::uint64_t calls(Call call = Call::kAny);

struct Copies {
  std::uint64_t count = 0, bytes = 0;
};
struct Statistics {
  std::uint64_t switches = 0, barriers = 0, warp_ops = 0, launches = 0;
  std::uint64_t blocks = 0;
  std::map<std::string, std::uint64_t> launches_of;  ///< by the kernel's name
  std::uint64_t synchronisations = 0;  ///< calls that may wait: cudaMemcpy and cudaFree among them
  std::uint64_t allocations = 0, frees = 0;
  std::size_t live_bytes = 0, most_live_bytes = 0;
  Copies host_to_device, device_to_host, device_to_device, host_to_host;
  std::uint64_t memsets = 0, prefetches = 0, graph_launches = 0;
};
Statistics& statistics();

enum class Kind { kDevice, kManaged, kPinned };
struct Allocation {
  const void* address = nullptr;
  std::size_t bytes = 0;
  Kind kind = Kind::kDevice;
  std::uint64_t number = 0;  ///< 1 for the first since reset()
};
/// What is allocated now: at the end of a test, what has leaked.
std::vector<Allocation> live_allocations();
/// Operations queued and not yet run.
std::size_t pending_operations();

/// Whether threads change by this project's own code (false: by the C library's ucontext, which
/// takes a system call each time). @return whether the processor has it.
bool use_own_switch(bool own);

}  // namespace sim
