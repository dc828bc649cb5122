#pragma once

// The memory that the runtime has given out.
#include <tests/cuda/sim/control.hpp>

#include <cstddef>

namespace sim::detail {

/// `bytes` exactly, filled with poison; null for none.
cudaError_t allocate(void** address, std::size_t bytes, Kind kind);
/// What [address, address + bytes) lies in; null: memory of the host's own, or beyond an end.
const Allocation* find_allocation(const void* address, std::size_t bytes);
/// `address` as it was given out.
void release_allocation(const void* address);

}  // namespace sim::detail
