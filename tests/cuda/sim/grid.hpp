#pragma once

// The run of one grid: its blocks one after the other, the threads of each by turns.
#include <tests/cuda/sim/launch.hpp>

namespace sim::detail {

/// @throws Fault  as soon as a thread does what CUDA gives no meaning to.
void run_grid(const Launch& launch);

}  // namespace sim::detail
