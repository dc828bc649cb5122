#pragma once

#include <infobatch/buffer.hpp>

#include <cstdint>
#include <limits>

namespace infobatch::detail {

/// From a sample id to its position in a plan. 4 bytes a sample of the data set, 8 where the plan
/// has 2^32 - 1 positions or more.
class PositionTable {
 public:
  bool empty() const { return size_ == 0; }

  /// Fills the table from the plan's ids. Cost: O(N).
  void build(const std::int64_t* ids, std::int64_t count, std::int64_t data_size) {
    wide_ = count >= std::numeric_limits<std::uint32_t>::max();
    if (wide_) {
      fill(wide_positions_, ids, count, data_size);
    } else {
      fill(positions_, ids, count, data_size);
    }
    size_ = data_size;  // last: without memory the table stays empty
  }

  void clear() { *this = PositionTable{}; }

  /// Position of `id`, or -1 when the plan does not have it. `id` must be in [0, N).
  std::int64_t find(std::int64_t id) const {
    return wide_ ? lookup(wide_positions_, id) : lookup(positions_, id);
  }

 private:
  template <typename T>
  static void fill(Buffer<T>& table,
                   const std::int64_t* ids,
                   std::int64_t count,
                   std::int64_t data_size) {
    table = Buffer<T>(data_size);
    T* out = table.data();
    for (std::int64_t id = 0; id < data_size; ++id) out[id] = std::numeric_limits<T>::max();
    for (std::int64_t p = 0; p < count; ++p) out[ids[p]] = static_cast<T>(p);
  }
  template <typename T>
  static std::int64_t lookup(const Buffer<T>& table, std::int64_t id) {
    const T position = table.data()[id];
    return position == std::numeric_limits<T>::max() ? -1 : static_cast<std::int64_t>(position);
  }

  std::int64_t size_ = 0;
  bool wide_ = false;
  Buffer<std::uint32_t> positions_;
  Buffer<std::uint64_t> wide_positions_;
};

}  // namespace infobatch::detail
