#pragma once

#include <infobatch/detail/buffer.hpp>

#include <cstdint>
#include <limits>

namespace infobatch::detail {

/// From a sample id to its position in a plan. 4 bytes a sample of the data set.
class PositionTable {
 public:
  bool empty() const { return size_ == 0; }

  /// Fills the table from the plan's ids. Cost: O(N).
  void build(const std::int64_t* ids, std::int64_t count, std::int64_t data_size) {
    positions_ = Buffer<std::uint32_t>(data_size);
    std::uint32_t* const out = positions_.data();
    for (std::int64_t id = 0; id < data_size; ++id) out[id] = kNone;
    for (std::int64_t p = 0; p < count; ++p) out[ids[p]] = static_cast<std::uint32_t>(p);
    size_ = data_size;  // last: without memory the table stays empty
  }

  void clear() { *this = PositionTable{}; }

  /// Position of `id`, or -1 when the plan does not have it. `id` must be in [0, N).
  std::int64_t find(std::int64_t id) const {
    const std::uint32_t position = positions_.data()[id];
    return position == kNone ? -1 : std::int64_t{position};
  }

 private:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

  std::int64_t size_ = 0;
  Buffer<std::uint32_t> positions_;
};

}  // namespace infobatch::detail
