#pragma once

#include <cuda_kernels/device.hpp>

#include <cstdint>
#include <vector>

namespace infobatch::testing {

/// An array on the device, of exactly its size, so that whatever is read or written behind its end
/// is noticed.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(std::int64_t size) : size_(static_cast<std::size_t>(size)) {
    if (size_ > 0) cuda::require(cudaMalloc(&data_, size_ * sizeof(T)), "cudaMalloc");
  }
  explicit DeviceArray(const std::vector<T>& values)
      : DeviceArray(static_cast<std::int64_t>(values.size())) {
    copy(data_, values.data(), cudaMemcpyHostToDevice);
  }
  ~DeviceArray() { (void)cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  std::vector<T> values() const {
    std::vector<T> result(size_);
    copy(result.data(), data_, cudaMemcpyDeviceToHost);
    return result;
  }

 private:
  void copy(void* to, const void* from, cudaMemcpyKind kind) const {
    if (size_ > 0) cuda::require(cudaMemcpy(to, from, size_ * sizeof(T), kind), "cudaMemcpy");
  }

  std::size_t size_;
  T* data_ = nullptr;
};

}  // namespace infobatch::testing
