#pragma once

#include <infobatch/detail/level.hpp>
#include <infobatch/shuffle.hpp>

#include <cmath>
#include <vector>

namespace infobatch {
namespace detail {

/// Consecutive items of a level, and the position of the first.
struct Piece {
  std::uint32_t* items;
  std::int64_t size;
  std::int64_t position;
};

/// A part of level 1, in order.
using Pieces = std::vector<Piece>;

inline std::int64_t size_of(const Pieces& pieces) {
  return pieces.back().position + pieces.back().size - pieces.front().position;
}

/// Slots for a part of this average size.
inline std::int64_t room_for(std::int64_t mean, int deviations) {
  return mean + static_cast<std::int64_t>(std::sqrt(static_cast<double>(mean)) * deviations);
}

/// Parts the kept items by level 1, in order, for the level behind it if there are two: the items
/// of a part may then lie in several pieces. They lie where the result of their own part
/// goes, so finished parts overwrite no others.
std::vector<Pieces> partition(const KeptRuns& kept,
                              const ShuffleArrays& arrays,
                              const Level& level,
                              bool two_levels,
                              Team& team,
                              const ShuffleConstants& constants);

}  // namespace detail
}  // namespace infobatch
