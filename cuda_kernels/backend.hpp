#pragma once

#include <cuda_kernels/device.hpp>
#include <infobatch/detail/backend.hpp>

namespace infobatch::cuda {

/// The backend of the calling thread's current device: plans and folds there, equal to the
/// processor's to the bit.
///
/// Arrays may lie anywhere: what kernels cannot reach is copied, read-only columns once for each
/// epoch's calls. Every call is over when it returns.
const detail::Backend& cuda_backend();

/// Why this process cannot use CUDA, or nullptr where it can: no driver, no device, or one that is
/// older than the kernels.
const char* why_no_device();

/// From now on the calling thread's calls of the backend work on this stream, behind what is
/// already on it. nullptr, as before the first call: on the default stream, behind all of the
/// device's work.
void use_stream(cudaStream_t stream);

/// From now on scratch memory comes from this allocator, which must outlive every call; for the
/// whole process.
void use_allocator(const Allocator& allocator);

}  // namespace infobatch::cuda
