#pragma once

#include <infobatch/detail/level.hpp>
#include <infobatch/detail/shuffle.hpp>

#include <vector>

namespace infobatch {
namespace detail {

/// Consecutive items of a level, and the position of the first.
struct Piece {
  std::uint32_t* items;
  std::int64_t size;
  std::int64_t position;
};

/// Parts the kept items by level 1 into arrays.scatter, which is not where they are: the parts, in
/// order.
std::vector<Piece> partition(const KeptRuns& kept,
                             const ShuffleArrays& arrays,
                             const Level& level,
                             Team& team);

}  // namespace detail
}  // namespace infobatch
