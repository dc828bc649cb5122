// Copies, fills and hints.
#include <tests/cuda/sim/memory.hpp>
#include <tests/cuda/sim/runtime_state.hpp>
#include <tests/cuda/sim/sanitizers.hpp>

#include <algorithm>
#include <cstring>

namespace sim::detail {
namespace {

constexpr unsigned char kUserPoison = 0xF7;  // AddressSanitizer's byte for what forbid() forbids

/// A copy that has been asked for. Until it is made, what it will write on the host holds poison,
/// and what it will read there must stay as it is.
struct PendingCopy {
  void* to;
  const void* from;
  std::size_t bytes;
  bool reads_host, writes_host;
  bool prepared = false, overlapped = false;
  std::uint64_t source_hash = 0;
  unsigned char poison = 0;
};
std::vector<PendingCopy*> pending_copies;

std::uint64_t hash_of(const void* data, std::size_t bytes) {
  const auto* at = static_cast<const unsigned char*>(data);
  std::uint64_t hash = 14695981039346656037ULL;
  for (std::size_t i = 0; i < bytes; ++i) hash = (hash ^ at[i]) * 1099511628211ULL;
  return hash;
}

/// Whether [address, address + bytes) is still forbidden: free() and the end of a scope undo that.
bool still_forbidden(const void* address, std::size_t bytes) {
  if (__asan_get_shadow_mapping == nullptr) return true;
  std::size_t scale = 0, offset = 0;
  __asan_get_shadow_mapping(&scale, &offset);
  const std::size_t granule = std::size_t{1} << scale;
  const std::size_t first = (reinterpret_cast<std::uintptr_t>(address) + granule - 1) >> scale;
  if ((first + 1) << scale > reinterpret_cast<std::uintptr_t>(address) + bytes) return true;
  return *reinterpret_cast<const unsigned char*>((first) + offset) == kUserPoison;
}

void forget(PendingCopy& copy) {
  const auto it = std::find(pending_copies.begin(), pending_copies.end(), &copy);
  if (it != pending_copies.end()) pending_copies.erase(it);
}

bool overlap(const void* a, std::size_t a_bytes, const void* b, std::size_t b_bytes) {
  const auto x = reinterpret_cast<std::uintptr_t>(a), y = reinterpret_cast<std::uintptr_t>(b);
  return x < y + b_bytes && y < x + a_bytes;
}
/// Whether one of them writes what the other one reads or writes on the host.
bool conflict(const PendingCopy& a, const PendingCopy& b) {
  return (a.writes_host && b.writes_host && overlap(a.to, a.bytes, b.to, b.bytes)) ||
         (a.writes_host && b.reads_host && overlap(a.to, a.bytes, b.from, b.bytes)) ||
         (a.reads_host && b.writes_host && overlap(a.from, a.bytes, b.to, b.bytes));
}

void prepare(PendingCopy& copy) {
  copy.prepared = true;
  // Copies one after the other of the same memory are right, and too much to keep books on.
  for (PendingCopy* const other : pending_copies) {
    if (conflict(*other, copy)) other->overlapped = copy.overlapped = true;
  }
  pending_copies.push_back(&copy);
  if (copy.overlapped) return;
  if (copy.reads_host) copy.source_hash = hash_of(copy.from, copy.bytes);
  if (copy.writes_host) {
    copy.poison = runtime().device.fresh;
    fill_unseen(copy.to, copy.poison, copy.bytes);
    forbid(copy.to, copy.bytes);
  }
}

/// @throws Fault  the host did not leave alone what a copy was still to write or read.
void finish(PendingCopy& copy) {
  if (!copy.prepared) return;
  forget(copy);
  if (copy.writes_host) {
    if (copy.overlapped) {
      allow(copy.to, copy.bytes);
      return;
    }
    if (!still_forbidden(copy.to, copy.bytes)) {
      throw Fault("a copy into memory of the host that has been freed or left");
    }
    const auto* const to = static_cast<const unsigned char*>(copy.to);
    for (std::size_t i = 0; i < copy.bytes; ++i) {
      if (to[i] == copy.poison) continue;
      allow(copy.to, copy.bytes);
      throw Fault("memory of the host was written to before a copy into it was made");
    }
    allow(copy.to, copy.bytes);
  }
}

enum class Side { kHost, kDevice, kNowhere };
/// Of managed memory either one, as the direction asks for; nowhere: beyond the end of an
/// allocation.
Side side(const void* address, std::size_t bytes, bool device_wanted) {
  const Allocation* const found = find_allocation(address, bytes);
  if (found == nullptr)
    return find_allocation(address, 0) != nullptr ? Side::kNowhere : Side::kHost;
  if (found->kind == Kind::kDevice) return Side::kDevice;
  // The device sees pinned memory at the same address.
  return device_wanted ? Side::kDevice : Side::kHost;
}

cudaError_t copy(void* to,
                 const void* from,
                 std::size_t bytes,
                 cudaMemcpyKind kind,
                 cudaStream_t handle,
                 bool wait,
                 Call which) {
  Runtime& R = runtime();
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (wait) {
    const cudaError_t refused = refuse_while_capturing(stream.get());
    if (refused != cudaSuccess) return refused;
    ++R.statistics.synchronisations;
  }
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault)
    return cudaErrorInvalidMemcpyDirection;
  if (bytes == 0) return cudaSuccess;
  if (to == nullptr || from == nullptr) return cudaErrorInvalidValue;
  const bool inferred = kind == cudaMemcpyDefault;
  const Side to_side = side(
      to, bytes, !inferred && (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice));
  const Side from_side =
      side(from,
           bytes,
           !inferred && (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice));
  if (to_side == Side::kNowhere || from_side == Side::kNowhere) return cudaErrorInvalidValue;
  const auto direction = static_cast<cudaMemcpyKind>((from_side == Side::kDevice ? 2 : 0) +
                                                     (to_side == Side::kDevice ? 1 : 0));
  if (!inferred && direction != kind) return cudaErrorInvalidValue;
  Copies* const figures[] = {&R.statistics.host_to_host,
                             &R.statistics.host_to_device,
                             &R.statistics.device_to_host,
                             &R.statistics.device_to_device};
  ++figures[direction]->count;
  figures[direction]->bytes += bytes;

  auto pending = std::make_shared<PendingCopy>();
  pending->to = to;
  pending->from = from;
  pending->bytes = bytes;
  pending->reads_host = from_side == Side::kHost;
  pending->writes_host = to_side == Side::kHost;
  Operation operation;
  if (!wait) operation.prepare = [pending] { prepare(*pending); };
  operation.run = [pending] {
    PendingCopy& c = *pending;
    finish(c);
    visibly([&c] { std::memcpy(c.to, c.from, c.bytes); });
    if (c.prepared && c.reads_host && !c.overlapped && hash_of(c.to, c.bytes) != c.source_hash) {
      throw Fault("memory of the host changed before a copy from it was made");
    }
  };
  operation.drop = [pending] {
    if (!pending->prepared) return;
    forget(*pending);
    if (pending->writes_host && still_forbidden(pending->to, pending->bytes))
      allow(pending->to, pending->bytes);
  };
  const cudaError_t error = queue(stream, std::move(operation), which);
  if (wait && error == cudaSuccess) wait_until(end_of(stream));
  return error;
}

cudaError_t fill(void* address, int value, std::size_t bytes, cudaStream_t handle, Call which) {
  if (bytes == 0) return cudaSuccess;
  if (find_allocation(address, bytes) == nullptr) return cudaErrorInvalidValue;
  ++runtime().statistics.memsets;
  Operation operation;
  operation.run = [=] {
    if (find_allocation(address, bytes) == nullptr)
      throw Fault("a fill of memory that has been freed");
    visibly([=] { std::memset(address, value, bytes); });
  };
  return queue(handle, std::move(operation), which);
}

cudaError_t check_managed(const void* address, std::size_t bytes, cudaMemLocation location) {
  const Device& d = runtime().device;
  const Allocation* const found = find_allocation(address, bytes);
  if (bytes == 0 || found == nullptr || found->kind != Kind::kManaged) return cudaErrorInvalidValue;
  switch (location.type) {
    case cudaMemLocationTypeDevice:
      if (location.id < 0 || location.id >= d.devices) return cudaErrorInvalidDevice;
      return d.concurrent_managed_access ? cudaSuccess : cudaErrorInvalidDevice;
    case cudaMemLocationTypeHost:
    case cudaMemLocationTypeHostNuma:
    case cudaMemLocationTypeHostNumaCurrent:
      return cudaSuccess;
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace
}  // namespace sim::detail

using sim::Call;
using sim::detail::call;

cudaError_t cudaMemcpy(void* dst, const void* src, std::size_t count, cudaMemcpyKind kind) {
  return call(Call::kMemcpy, [&] {
    return sim::detail::copy(dst, src, count, kind, nullptr, true, Call::kMemcpy);
  });
}
cudaError_t cudaMemcpyAsync(
    void* dst, const void* src, std::size_t count, cudaMemcpyKind kind, cudaStream_t stream) {
  return call(Call::kMemcpyAsync, [&] {
    return sim::detail::copy(dst, src, count, kind, stream, false, Call::kMemcpyAsync);
  });
}
cudaError_t cudaMemset(void* devPtr, int value, std::size_t count) {
  return call(Call::kMemset,
              [&] { return sim::detail::fill(devPtr, value, count, nullptr, Call::kMemset); });
}
cudaError_t cudaMemsetAsync(void* devPtr, int value, std::size_t count, cudaStream_t stream) {
  return call(Call::kMemsetAsync,
              [&] { return sim::detail::fill(devPtr, value, count, stream, Call::kMemsetAsync); });
}
cudaError_t cudaMemPrefetchAsync(const void* devPtr,
                                 std::size_t count,
                                 cudaMemLocation location,
                                 unsigned flags,
                                 cudaStream_t stream) {
  return call(Call::kMemPrefetchAsync, [&] {
    if (flags != 0) return cudaErrorInvalidValue;
    const cudaError_t error = sim::detail::check_managed(devPtr, count, location);
    if (error != cudaSuccess) return error;
    ++sim::statistics().prefetches;
    return sim::detail::queue(stream, sim::detail::Operation{}, Call::kMemPrefetchAsync);
  });
}
cudaError_t cudaMemAdvise(const void* devPtr,
                          std::size_t count,
                          cudaMemoryAdvise advice,
                          cudaMemLocation location) {
  return call(Call::kMemAdvise, [&] {
    if (advice < cudaMemAdviseSetReadMostly || advice > cudaMemAdviseUnsetAccessedBy) {
      return cudaErrorInvalidValue;
    }
    // These three look at no location.
    if (advice == cudaMemAdviseSetReadMostly || advice == cudaMemAdviseUnsetReadMostly ||
        advice == cudaMemAdviseUnsetPreferredLocation) {
      location = {cudaMemLocationTypeHost, 0};
    }
    return sim::detail::check_managed(devPtr, count, location);
  });
}
