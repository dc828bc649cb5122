#pragma once

// The CUDA language and runtime. Files of this folder include it and nothing else of CUDA: the real
// thing, or, where INFOBATCH_CUDA_EMULATED is defined, an emulation whose folder is on the include
// path (tests/cuda/sim), so that the same source runs on a CPU.

#if !defined(INFOBATCH_CUDA_EMULATED)

#include <cuda_runtime.h>

#define INFOBATCH_RESTRICT __restrict__
#define INFOBATCH_GRID_CONSTANT __grid_constant__
#define INFOBATCH_UNROLL _Pragma("unroll")
#define INFOBATCH_SHARED(type, name, count) __shared__ type name[count]
#define INFOBATCH_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)

#else

#include <cuda_sim.hpp>

#endif
