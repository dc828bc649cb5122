#include <cuda_kernels/device.hpp>

#include <algorithm>
#include <new>
#include <string>

namespace infobatch::cuda {

CudaError::CudaError(const char* what, cudaError_t error)
    : std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(error) + " (" +
                         cudaGetErrorName(error) + ")"),
      error_(error) {}

void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();  // told here: not once more by the next launch
  if (error == cudaErrorMemoryAllocation) throw std::bad_alloc();
  throw CudaError(what, error);
}

const Allocator& default_allocator() {
  static const Allocator allocator = {nullptr,
                                      [](void*, std::size_t bytes, cudaStream_t stream) -> void* {
                                        void* data = nullptr;
                                        const cudaError_t error =
                                            cudaMallocAsync(&data, bytes, stream);
                                        if (error == cudaErrorMemoryAllocation) {
                                          (void)cudaGetLastError();
                                          return nullptr;
                                        }
                                        require(error, "cudaMallocAsync");
                                        return data;
                                      },
                                      [](void*, void* data, cudaStream_t stream) {
                                        // Not to be told by the next launch, whose error it is not.
                                        if (cudaFreeAsync(data, stream) != cudaSuccess)
                                          (void)cudaGetLastError();
                                      }};
  return allocator;
}

Work::~Work() {
  // Nothing may be written to, or read from, memory of the host that its owner may free from now
  // on.
  if (copies_) (void)cudaStreamSynchronize(stream_);
  for (void* const data : held_) allocator_.release(allocator_.context, data, stream_);
}

void* Work::allocate(std::size_t bytes) {
  held_.reserve(held_.size() + 1);
  void* const data =
      allocator_.allocate(allocator_.context, std::max<std::size_t>(bytes, 1), stream_);
  if (data == nullptr) throw std::bad_alloc();
  held_.push_back(data);
  return data;
}

void Work::give_back(const void* data) {
  const auto found = std::find(held_.begin(), held_.end(), data);
  if (found == held_.end()) return;
  allocator_.release(allocator_.context, *found, stream_);
  held_.erase(found);
}

void Work::fill(void* data, int byte, std::size_t bytes) {
  if (bytes > 0) require(cudaMemsetAsync(data, byte, bytes, stream_), "cudaMemsetAsync");
}

void Work::fetch_bytes(void* to, const void* from, std::size_t bytes) {
  copy(to, from, bytes, cudaMemcpyDeviceToHost);
  wait();
}

void Work::copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return;
  require(cudaMemcpyAsync(to, from, bytes, kind, stream_), "cudaMemcpyAsync");
  copies_ = true;
}

void Work::wait() {
  const cudaError_t error = cudaStreamSynchronize(stream_);
  // A copy that is under way must not outlive what it copies to.
  if (error != cudaSuccess && copies_) (void)cudaStreamSynchronize(stream_);
  copies_ = false;
  require(error, "cudaStreamSynchronize");
}

namespace {

cudaMemoryType type_of(const void* data) {
  cudaPointerAttributes attributes;
  if (cudaPointerGetAttributes(&attributes, data) != cudaSuccess) {
    (void)cudaGetLastError();
    return cudaMemoryTypeUnregistered;
  }
  return attributes.type;
}

}  // namespace

bool reachable(const void* data) {
  const cudaMemoryType type = type_of(data);
  return type == cudaMemoryTypeDevice || type == cudaMemoryTypeManaged;
}

bool managed(const void* data) { return type_of(data) == cudaMemoryTypeManaged; }

cudaError_t prefetch_to_host(const void* data, std::size_t bytes, cudaStream_t stream) {
#if defined(CUDART_VERSION) && CUDART_VERSION < 13000
  return cudaMemPrefetchAsync(data, bytes, cudaCpuDeviceId, stream);
#else
  return cudaMemPrefetchAsync(data, bytes, {cudaMemLocationTypeHost, 0}, 0, stream);
#endif
}

}  // namespace infobatch::cuda
