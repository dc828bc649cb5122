#pragma once

/// Marks a function that the CPU engine and the CUDA kernels share, so that a rule stands once.
#if defined(__CUDACC__)
#define INFOBATCH_HD __host__ __device__
#else
#define INFOBATCH_HD
#endif
