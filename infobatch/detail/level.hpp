#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace infobatch {
namespace detail {

/// One level of the partition of a shuffle: how many parts, which draws (shuffle.hpp). Item and
/// Slot are std::uint32_t or std::uint64_t.
struct Level {
  std::uint64_t seed;
  std::uint32_t epoch;
  std::uint32_t stream;
  int bits;

  std::size_t parts() const { return std::size_t{1} << bits; }
};

/// counts[part] = items at the positions [position, position + size) that go to the part.
template <typename Slot>
void count_parts(const Level& level,
                 std::int64_t position,
                 std::int64_t size,
                 std::vector<Slot>& counts);

/// Moves each item, the first of which has this position, to the next free slot of its part:
/// out[next[part]++].
template <typename Item>
void scatter(const Level& level,
             std::int64_t position,
             const Item* items,
             std::int64_t size,
             Item* next,
             Item* out);

}  // namespace detail
}  // namespace infobatch
