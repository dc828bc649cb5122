#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace infobatch {
namespace detail {

/// One level of the partition of a shuffle: how many parts, which draws (shuffle.hpp).
/// std::uint32_t and std::uint32_t are std::uint32_t or std::uint64_t.
struct Level {
  std::uint64_t seed;
  std::uint32_t epoch;
  std::uint32_t stream;
  int bits;

  std::size_t parts() const { return std::size_t{1} << bits; }
};

/// counts[part] = items at the positions [position, position + size) that go to the part.
void count_parts(const Level& level,
                 std::int64_t position,
                 std::int64_t size,
                 std::vector<std::uint32_t>& counts);

/// Moves each item, the first of which has this position, to the next free slot of its part:
/// out[next[part]++].
void scatter(const Level& level,
             std::int64_t position,
             const std::uint32_t* items,
             std::int64_t size,
             std::uint32_t* next,
             std::uint32_t* out);

}  // namespace detail
}  // namespace infobatch
