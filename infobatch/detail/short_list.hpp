#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace infobatch {
namespace detail {

/// Up to kCapacity values, in place: plain data, where a vector could not cross between libraries.
/// What is added beyond counts and is not kept, so that a check of size() finds it.
template <typename T, int kCapacity>
struct ShortList {
  T items[kCapacity] = {};
  std::int32_t count = 0;

  ShortList() = default;
  ShortList(std::initializer_list<T> values) {
    for (const T& value : values) push_back(value);
  }

  void push_back(const T& value) {
    if (count < kCapacity) items[count] = value;
    ++count;
  }
  void clear() { count = 0; }
  void assign(std::size_t size, const T& value) {
    clear();
    while (this->size() < size) push_back(value);
  }

  std::size_t size() const { return static_cast<std::size_t>(count); }
  T& operator[](std::size_t i) { return items[i]; }
  const T& operator[](std::size_t i) const { return items[i]; }
  const T* begin() const { return items; }
  const T* end() const { return items + (count < kCapacity ? count : kCapacity); }
};

}  // namespace detail
}  // namespace infobatch
