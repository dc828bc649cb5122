#pragma once

#include <cuda_kernels/port.hpp>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace infobatch::cuda {

/// What CUDA said no to.
class CudaError : public std::runtime_error {
 public:
  CudaError(const char* what, cudaError_t error);
  cudaError_t error() const { return error_; }

 private:
  cudaError_t error_;
};

/// @throws CudaError  std::bad_alloc where memory was short.
void require(cudaError_t error, const char* what);

/// Launches a kernel of one grid dimension, and throws what the launch was refused with. A kernel
/// of several template arguments stands in parentheses.
#define INFOBATCH_CUDA_LAUNCH(kernel, grid, block, stream, ...)                           \
  do {                                                                                    \
    INFOBATCH_LAUNCH(kernel, static_cast<unsigned>(grid), block, 0, stream, __VA_ARGS__); \
    ::infobatch::cuda::require(cudaGetLastError(), #kernel);                              \
  } while (false)

/// Blocks of `each` threads for `count` items.
constexpr std::int64_t blocks_for(std::int64_t count, std::int64_t each) {
  return (count + each - 1) / each;
}

/// Where scratch memory comes from: a caller's allocator, whose memory is ordered by streams as
/// cudaMallocAsync's is.
struct Allocator {
  void* context = nullptr;
  /// @return nullptr where there is none.
  void* (*allocate)(void* context, std::size_t bytes, cudaStream_t stream) = nullptr;
  void (*release)(void* context, void* data, cudaStream_t stream) = nullptr;
};

/// cudaMallocAsync of the device's own pool.
const Allocator& default_allocator();

/// A stream, and the scratch memory of the work on it, which goes back when this ends.
class Work {
 public:
  explicit Work(cudaStream_t stream, const Allocator& allocator = default_allocator())
      : stream_(stream), allocator_(allocator) {}
  ~Work();
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

  cudaStream_t stream() const { return stream_; }

  /// `count` elements on the device, undefined.
  /// @throws std::bad_alloc
  template <typename T>
  T* make(std::int64_t count) {
    return static_cast<T*>(allocate(static_cast<std::size_t>(count) * sizeof(T)));
  }
  /// Of zeros.
  template <typename T>
  T* zeros(std::int64_t count) {
    T* const data = make<T>(count);
    fill(data, 0, static_cast<std::size_t>(count) * sizeof(T));
    return data;
  }
  /// Gives back what `make` returned, for what is made later. Not of this object: nothing happens.
  void give_back(const void* data);

  void fill(void* data, int byte, std::size_t bytes);
  /// Device to host, blocking: everything before it on the stream is done.
  template <typename T>
  T fetch(const T* data) {
    T value;
    fetch_bytes(&value, data, sizeof(T));
    return value;
  }
  void fetch_bytes(void* to, const void* from, std::size_t bytes);
  /// Between device and host, in the order of the stream.
  void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind);
  /// Waits for all of it.
  void wait();

 private:
  void* allocate(std::size_t bytes);

  cudaStream_t stream_;
  const Allocator& allocator_;
  std::vector<void*> held_;
  bool copies_ = false;  // to or from the host, and nobody has waited since
};

/// Whether kernels may read and write the memory: device or managed memory, or the host's where the
/// device reads that.
bool reachable(const void* data);
/// Whether it is managed memory, whose pages move between host and device.
bool managed(const void* data);
/// Begins to move pages of managed memory to the host, in the order of the stream.
cudaError_t prefetch_to_host(const void* data, std::size_t bytes, cudaStream_t stream);

/// An array of the engine's as kernels may use it: itself, or a copy on the device.
template <typename T>
class OnDevice {
 public:
  enum Use { kRead = 1, kWrite = 2, kReadAndWrite = 3 };

  OnDevice(Work& work, T* data, std::int64_t count, Use use)
      : work_(work),
        given_(data),
        count_(count),
        use_(use),
        direct_(count == 0 || reachable(data)) {
    if (direct_) {
      used_ = given_;
      return;
    }
    used_ = work.make<Plain>(count);
    if ((use & kRead) != 0) work.copy(used_copy(), given_, bytes(count), cudaMemcpyHostToDevice);
  }

  T* data() const { return used_; }
  /// Brings the first `count` elements back to where they were given, in the order of the stream.
  void bring_back(std::int64_t count) {
    if (direct_ || (use_ & kWrite) == 0 || count == 0) return;
    work_.copy(const_cast<Plain*>(given_), used_, bytes(count), cudaMemcpyDeviceToHost);
  }
  void bring_back() { bring_back(count_); }

 private:
  using Plain = std::remove_const_t<T>;

  static std::size_t bytes(std::int64_t count) {
    return static_cast<std::size_t>(count) * sizeof(T);
  }
  Plain* used_copy() const { return const_cast<Plain*>(used_); }

  Work& work_;
  T* given_;
  std::int64_t count_;
  Use use_;
  bool direct_;
  T* used_ = nullptr;
};

}  // namespace infobatch::cuda
