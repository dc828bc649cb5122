#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

namespace infobatch {

namespace detail {

/// Uninitialised memory, aligned to 64 bytes; from 2 MiB on aligned to 2 MiB and, on Linux, backed
/// by huge pages where the system has them. Pages that are never touched cost nothing.
/// @throws std::bad_alloc
void* allocate_pages(std::size_t bytes);
/// Frees what allocate_pages(bytes) returned.
void free_pages(void* data, std::size_t bytes) noexcept;
/// Gives the memory behind the first `used` bytes back to the system; the addresses stay valid,
/// their content is lost.
void release_tail(void* data, std::size_t bytes, std::size_t used) noexcept;
/// Bytes of memory of this machine; 2^63 - 1 where the system does not tell.
std::int64_t physical_memory() noexcept;

/// Who gives memory in the place of the system: C functions, because it may be another library.
struct MemorySource {
  /// Aligned to 64 bytes, undefined. @return nullptr where there is none.
  void* (*allocate)(std::size_t bytes) = nullptr;
  void (*release)(void* data, std::size_t bytes) = nullptr;
};

}  // namespace detail

/// An owning array without initialisation, movable, for trivial types.
///
/// Large arrays come straight from the system (see detail::allocate_pages), so capacity that is
/// never touched takes no memory.
template <typename T>
class Buffer {
  static_assert(std::is_trivial_v<T>, "Buffer holds trivial types only");

 public:
  Buffer() = default;
  /// Empty; what it will hold comes from `source`. So does what is moved into its place later.
  explicit Buffer(const detail::MemorySource& source) : source_(source) {}
  /// An array of `size` elements with undefined content.
  /// @throws std::bad_alloc
  explicit Buffer(std::int64_t size, const detail::MemorySource& source = {})
      : data_(static_cast<T*>(allocate(source, bytes_of(size)))),
        size_(size),
        capacity_(size),
        source_(source) {}
  ~Buffer() { reset(); }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)),
        source_(other.source_) {}
  Buffer& operator=(Buffer&& other) noexcept {
    if (this != &other) {
      reset();
      source_ = other.source_;
      data_ = std::exchange(other.data_, nullptr);
      size_ = std::exchange(other.size_, 0);
      capacity_ = std::exchange(other.capacity_, 0);
    }
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::int64_t size() const { return size_; }
  /// Elements that resize() can reach without new memory.
  std::int64_t capacity() const { return capacity_; }
  T& operator[](std::int64_t i) { return data_[i]; }
  const T& operator[](std::int64_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }

  /// Where its memory comes from.
  const detail::MemorySource& source() const { return source_; }

  /// Makes room for `size` elements; the content is undefined when the capacity did not suffice.
  /// @throws std::bad_alloc; the buffer is then empty.
  void resize(std::int64_t size) {
    if (size > capacity_) {
      reset();
      *this = Buffer(size, source_);
    }
    size_ = size;
  }

  /// Keeps the first `size` (<= size()) elements in place and gives whole pages of the system
  /// behind them back to it. The capacity stays: growing again takes fresh pages.
  void shrink(std::int64_t size) {
    size_ = size;
    if (data_ != nullptr && source_.release == nullptr)
      detail::release_tail(data_, bytes_of(capacity_), bytes_of(size));
  }

 private:
  static std::size_t bytes_of(std::int64_t size) {
    return static_cast<std::size_t>(size) * sizeof(T);
  }
  static void* allocate(const detail::MemorySource& source, std::size_t bytes) {
    if (source.allocate == nullptr) return detail::allocate_pages(bytes);
    void* const data = source.allocate(bytes);
    if (data == nullptr) throw std::bad_alloc();
    return data;
  }
  void reset() {
    if (data_ != nullptr && source_.release != nullptr) {
      source_.release(data_, bytes_of(capacity_));
    } else if (data_ != nullptr) {
      detail::free_pages(data_, bytes_of(capacity_));
    }
    data_ = nullptr;
    size_ = capacity_ = 0;
  }

  T* data_ = nullptr;
  std::int64_t size_ = 0;
  std::int64_t capacity_ = 0;
  detail::MemorySource source_;
};

}  // namespace infobatch
