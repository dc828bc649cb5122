#pragma once

// Shared memory: a piece for each declaration, filled with the schedule's poison at the start of a
// block, with gaps between the pieces that AddressSanitizer guards.
#include <tests/cuda/sim/barriers.hpp>

#include <cstddef>

namespace sim::detail {

/// The piece of the block that runs which belongs to `key`, one static object per declaration.
void* shared_memory(
    const void* key, std::size_t bytes, std::size_t alignment, const char* file, int line);
/// The bytes that the launch asked for.
void* dynamic_shared_memory();

template <typename T, std::size_t count>
using Array = T[count];

template <typename T, std::size_t count>
Array<T, count>& shared_array(const void* key, INFOBATCH_SIM_CALLER) {
  return *static_cast<Array<T, count>*>(
      shared_memory(key, sizeof(Array<T, count>), alignof(T), file, line));
}

}  // namespace sim::detail

/// In CUDA: __shared__ type name[count].
#define INFOBATCH_SHARED(type, name, count) \
  static const char name##_key = 0;         \
  type(&name)[count] = ::sim::detail::shared_array<type, (count)>(&name##_key)
/// In CUDA: extern __shared__ type name[].
#define INFOBATCH_DYNAMIC_SHARED(type, name) \
  type* const name = static_cast<type*>(::sim::detail::dynamic_shared_memory())
