// Memory of the device: exact blocks, filled with poison when they are new and when they are freed.
#include <tests/cuda/sim/memory.hpp>
#include <tests/cuda/sim/runtime_state.hpp>
#include <tests/cuda/sim/sanitizers.hpp>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>

namespace sim::detail {
namespace {

constexpr std::size_t kAlignment = 256;  // CUDA's
// Without AddressSanitizer: bytes before and behind, which must stay as they are.
constexpr std::size_t kGuard = 256;
constexpr unsigned char kGuardByte = 0xE7;
constexpr std::size_t kMostFreed = std::size_t{64} << 20;

struct Block {
  Allocation allocation;
  unsigned char* begin;  // of what the C library gave
};
struct Freed {
  Block block;
  unsigned char byte;
};
std::map<std::uintptr_t, Block> blocks;
std::deque<Freed> freed;  // without AddressSanitizer, which keeps its own
std::size_t freed_bytes = 0;
std::uint64_t numbers = 0;

bool guarded() { return !with_address_sanitizer(); }
unsigned char* data(const Block& block) { return block.begin + (guarded() ? kGuard : 0); }
bool all_are(const unsigned char* bytes, std::size_t n, unsigned char byte) {
  for (std::size_t i = 0; i < n; ++i) {
    if (bytes[i] != byte) return false;
  }
  return true;
}
std::string describe(const Block& block) {
  return "allocation " + std::to_string(block.allocation.number) + " of " +
         std::to_string(block.allocation.bytes) + " bytes";
}
void fill_guards(const Block& block) {
  fill_unseen(block.begin, kGuardByte, kGuard);
  fill_unseen(data(block) + block.allocation.bytes, kGuardByte, kGuard);
}
std::string check_guards(const Block& block) {
  if (!guarded()) return {};
  const unsigned char* const end = data(block) + block.allocation.bytes;
  if (!all_are(block.begin, kGuard, kGuardByte)) return "a write before the " + describe(block);
  if (!all_are(end, kGuard, kGuardByte)) return "a write behind the " + describe(block);
  return {};
}
std::string forget_one_freed() {
  const Freed oldest = freed.front();
  freed.pop_front();
  freed_bytes -= oldest.block.allocation.bytes;
  std::string wrong = check_guards(oldest.block);
  if (!all_are(data(oldest.block), oldest.block.allocation.bytes, oldest.byte)) {
    wrong = "a write to memory that has been freed: " + describe(oldest.block);
  }
  std::free(oldest.block.begin);
  return wrong;
}

}  // namespace

cudaError_t allocate(void** address, std::size_t bytes, Kind kind) {
  Runtime& R = runtime();
  if (address == nullptr) return cudaErrorInvalidValue;
  *address = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (bytes > R.device.memory || R.statistics.live_bytes > R.device.memory - bytes) {
    return cudaErrorMemoryAllocation;
  }
  void* begin = nullptr;
  if (posix_memalign(&begin, kAlignment, bytes + (guarded() ? 2 * kGuard : 0)) != 0) {
    return cudaErrorMemoryAllocation;
  }
  Block block{{nullptr, bytes, kind, ++numbers}, static_cast<unsigned char*>(begin)};
  unsigned char* const at = data(block);
  block.allocation.address = at;
  fill_unseen(at, R.device.fresh, bytes);
  if (guarded()) fill_guards(block);
  if (R.device.guard_device_memory && kind == Kind::kDevice) forbid(at, bytes);
  blocks[reinterpret_cast<std::uintptr_t>(at)] = block;
  ++R.statistics.allocations;
  R.statistics.live_bytes += bytes;
  if (R.statistics.live_bytes > R.statistics.most_live_bytes) {
    R.statistics.most_live_bytes = R.statistics.live_bytes;
  }
  *address = at;
  return cudaSuccess;
}

const Allocation* find_allocation(const void* address, std::size_t bytes) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  auto it = blocks.upper_bound(at);
  if (it == blocks.begin()) return nullptr;
  --it;
  const std::size_t offset = at - it->first;
  const Allocation& found = it->second.allocation;
  return offset < found.bytes && bytes <= found.bytes - offset ? &found : nullptr;
}

void release_allocation(const void* address) {
  Runtime& R = runtime();
  const auto it = blocks.find(reinterpret_cast<std::uintptr_t>(address));
  if (it == blocks.end()) {
    notice("memory is freed twice");
    return;
  }
  const Block block = it->second;
  blocks.erase(it);
  ++R.statistics.frees;
  R.statistics.live_bytes -= block.allocation.bytes;
  std::string wrong = check_guards(block);
  allow(data(block), block.allocation.bytes);
  visibly([&] { std::memset(data(block), R.device.freed, block.allocation.bytes); });
  if (!guarded()) {
    std::free(block.begin);
  } else {
    if (!wrong.empty()) fill_guards(block);  // said once
    freed.push_back({block, R.device.freed});
    freed_bytes += block.allocation.bytes;
    while (freed_bytes > kMostFreed) {
      const std::string more = forget_one_freed();
      if (wrong.empty()) wrong = more;
    }
  }
  if (!wrong.empty()) notice(wrong);
}

std::string clear_memory() {
  std::string wrong;
  for (const auto& [at, block] : blocks) {
    if (wrong.empty()) wrong = check_guards(block);
    allow(data(block), block.allocation.bytes);
    std::free(block.begin);
  }
  blocks.clear();
  numbers = 0;
  while (!freed.empty()) {
    const std::string more = forget_one_freed();
    if (wrong.empty()) wrong = more;
  }
  return wrong;
}

void guard_device_memory(bool forbidden) {
  for (const auto& [at, block] : blocks) {
    if (block.allocation.kind != Kind::kDevice) continue;
    if (forbidden) {
      forbid(data(block), block.allocation.bytes);
    } else {
      allow(data(block), block.allocation.bytes);
    }
  }
}

void check_pointers(const std::string& kernel, const std::vector<const void*>& pointers) {
  if (!runtime().device.only_device_pointers) return;
  for (std::size_t i = 0; i < pointers.size(); ++i) {
    // One past the end is what an empty tail is given by.
    const auto* const before = static_cast<const char*>(pointers[i]) - 1;
    if (find_allocation(pointers[i], 0) != nullptr || find_allocation(before, 0) != nullptr)
      continue;
    throw Fault(kernel + ": pointer " + std::to_string(i) +
                " among the arguments leads to no live memory of the device");
  }
}

}  // namespace sim::detail

namespace sim {
std::vector<Allocation> live_allocations() {
  const std::lock_guard<std::recursive_mutex> lock(detail::runtime().mutex);
  std::vector<Allocation> all;
  for (const auto& [at, block] : detail::blocks) all.push_back(block.allocation);
  return all;
}
}  // namespace sim

using sim::Call;
using sim::Kind;
using sim::detail::allocate;
using sim::detail::call;
using sim::detail::call_that_frees;
using sim::detail::find_allocation;
using sim::detail::refuse_unsafe;
using sim::detail::runtime;

namespace {
cudaError_t allocate_safely(void** address, std::size_t bytes, Kind kind) {
  const cudaError_t refused = refuse_unsafe();
  return refused != cudaSuccess ? refused : allocate(address, bytes, kind);
}
/// Frees after the whole device has been waited for.
cudaError_t free_safely(void* address, bool pinned) {
  if (address == nullptr) return cudaSuccess;
  const cudaError_t refused = refuse_unsafe();
  if (refused != cudaSuccess) return refused;
  const sim::Allocation* const found = find_allocation(address, 0);
  if (found == nullptr || found->address != address) return cudaErrorInvalidValue;
  if ((found->kind == Kind::kPinned) != pinned) return cudaErrorInvalidValue;
  ++runtime().statistics.synchronisations;
  sim::detail::run_all();
  sim::detail::release_allocation(address);
  return cudaSuccess;
}
}  // namespace

cudaError_t cudaMalloc(void** devPtr, std::size_t size) {
  return call(Call::kMalloc, [&] { return allocate_safely(devPtr, size, Kind::kDevice); });
}
cudaError_t cudaMallocManaged(void** devPtr, std::size_t size, unsigned flags) {
  return call(Call::kMallocManaged, [&] {
    if (size == 0) return cudaErrorInvalidValue;
    if (flags != cudaMemAttachGlobal && flags != cudaMemAttachHost) return cudaErrorInvalidValue;
    return allocate_safely(devPtr, size, Kind::kManaged);
  });
}
cudaError_t cudaMallocHost(void** ptr, std::size_t size) {
  return call(Call::kMallocHost, [&] { return allocate_safely(ptr, size, Kind::kPinned); });
}
cudaError_t cudaMallocAsync(void** devPtr, std::size_t size, cudaStream_t hStream) {
  return call(Call::kMallocAsync, [&] {
    const auto stream = sim::detail::stream_of(hStream);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (stream->capture != nullptr) return cudaErrorNotSupported;  // CUDA: a node of the graph
    return allocate(devPtr, size, Kind::kDevice);
  });
}
cudaError_t cudaFree(void* devPtr) {
  return call_that_frees(Call::kFree, [&] { return free_safely(devPtr, false); });
}
cudaError_t cudaFreeHost(void* ptr) {
  return call_that_frees(Call::kFreeHost, [&] { return free_safely(ptr, true); });
}
cudaError_t cudaFreeAsync(void* devPtr, cudaStream_t hStream) {
  return call_that_frees(Call::kFreeAsync, [&] {
    const sim::Allocation* const found = find_allocation(devPtr, 0);
    if (found == nullptr || found->address != devPtr) return cudaErrorInvalidValue;
    if (found->kind != Kind::kDevice) return cudaErrorInvalidValue;
    const auto stream = sim::detail::stream_of(hStream);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (stream->capture != nullptr) return cudaErrorNotSupported;
    sim::detail::Operation operation;
    operation.run = operation.drop = [devPtr] { sim::detail::release_allocation(devPtr); };
    return sim::detail::queue(stream, std::move(operation), Call::kFreeAsync);
  });
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* ptr) {
  return call(Call::kPointerGetAttributes, [&] {
    const sim::Allocation* const found = find_allocation(ptr, 0);
    auto* const same = const_cast<void*>(ptr);
    if (found == nullptr) {
      *attributes = {cudaMemoryTypeUnregistered, cudaInvalidDeviceId, nullptr, same};
    } else if (found->kind == Kind::kDevice) {
      *attributes = {cudaMemoryTypeDevice, 0, same, nullptr};
    } else {
      const bool managed = found->kind == Kind::kManaged;
      *attributes = {managed ? cudaMemoryTypeManaged : cudaMemoryTypeHost, 0, same, same};
    }
    return cudaSuccess;
  });
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  return call(Call::kAny, [&] {
    *total = runtime().device.memory;
    *free = *total - runtime().statistics.live_bytes;
    return cudaSuccess;
  });
}
