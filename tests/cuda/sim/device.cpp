// Settings, figures and attributes of the one device.
#include <tests/cuda/sim/arena.hpp>
#include <tests/cuda/sim/context.hpp>
#include <tests/cuda/sim/runtime_state.hpp>

namespace sim {
namespace detail {
Runtime& runtime() {
  static Runtime* const runtime = new Runtime;  // outlives whatever static objects free at exit
  return *runtime;
}
}  // namespace detail

Schedule& schedule() {
  static Schedule schedule;
  return schedule;
}
Statistics& statistics() { return detail::runtime().statistics; }
Device& device() { return detail::runtime().device; }
bool use_own_switch(bool own) { return detail::set_own_switch(own); }
}  // namespace sim

using sim::Call;
using sim::detail::runtime;

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  return sim::detail::call(Call::kGetDeviceCount, [&] {
    *count = runtime().device.devices;
    return cudaSuccess;
  });
}
cudaError_t cudaGetDevice(int* device) {
  return sim::detail::call(Call::kGetDevice, [&] {
    *device = 0;
    return cudaSuccess;
  });
}
cudaError_t cudaSetDevice(int device) {
  return sim::detail::call(Call::kSetDevice, [&] {
    // More devices than one have a number, and no memory of their own.
    return device == 0                                        ? cudaSuccess
           : device < 0 || device >= runtime().device.devices ? cudaErrorInvalidDevice
                                                              : cudaErrorNotSupported;
  });
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attr, int device) {
  return sim::detail::call(Call::kDeviceGetAttribute, [&] {
    const sim::Device& d = runtime().device;
    if (device < 0 || device >= d.devices) return cudaErrorInvalidDevice;
    switch (attr) {
      case cudaDevAttrMaxThreadsPerBlock:
        *value = 1024;
        return cudaSuccess;
      case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = static_cast<int>(sim::detail::kMostStaticShared);
        return cudaSuccess;
      case cudaDevAttrWarpSize:
        *value = 32;
        return cudaSuccess;
      case cudaDevAttrMultiProcessorCount:
        *value = d.multiprocessors;
        return cudaSuccess;
      case cudaDevAttrComputeCapabilityMajor:
        *value = d.capability / 10;
        return cudaSuccess;
      case cudaDevAttrComputeCapabilityMinor:
        *value = d.capability % 10;
        return cudaSuccess;
      case cudaDevAttrManagedMemory:
        *value = 1;
        return cudaSuccess;
      case cudaDevAttrConcurrentManagedAccess:
        *value = d.concurrent_managed_access ? 1 : 0;
        return cudaSuccess;
      case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = static_cast<int>(sim::detail::kMostShared);
        return cudaSuccess;
      case cudaDevAttrMemoryPoolsSupported:
        *value = 1;
        return cudaSuccess;
    }
    return cudaErrorInvalidValue;
  });
}
cudaError_t cudaFuncSetAttribute(const void* func, cudaFuncAttribute attr, int value) {
  return sim::detail::call(Call::kFuncSetAttribute, [&] {
    if (func == nullptr || value < 0) return cudaErrorInvalidValue;
    if (attr == cudaFuncAttributeMaxDynamicSharedMemorySize) {
      if (value > static_cast<int>(sim::detail::kMostShared)) return cudaErrorInvalidValue;
      // For all kernels: a launch knows its kernel by name only.
      if (value > runtime().most_dynamic) runtime().most_dynamic = value;
    }
    return cudaSuccess;
  });
}
