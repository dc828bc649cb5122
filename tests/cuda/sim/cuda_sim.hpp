#pragma once

// CUDA on a CPU. A kernel's source includes this instead of cuda_runtime.h where nvcc does not
// compile it, and links infobatch_cuda_sim: the language here, the runtime's functions in
// runtime.hpp. What a test asks and sets (orders, faults, figures) is in control.hpp.
#include <tests/cuda/sim/atomics.hpp>
#include <tests/cuda/sim/barriers.hpp>
#include <tests/cuda/sim/control.hpp>
#include <tests/cuda/sim/intrinsics.hpp>
#include <tests/cuda/sim/launch.hpp>
#include <tests/cuda/sim/position.hpp>
#include <tests/cuda/sim/runtime.hpp>
#include <tests/cuda/sim/shared_memory.hpp>
#include <tests/cuda/sim/warp.hpp>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define INFOBATCH_RESTRICT __restrict__
#define INFOBATCH_GRID_CONSTANT
#define INFOBATCH_UNROLL

#define threadIdx (::sim::here().thread)
#define blockIdx (::sim::here().block)
#define blockDim (::sim::here().block_dim)
#define gridDim (::sim::here().grid_dim)
