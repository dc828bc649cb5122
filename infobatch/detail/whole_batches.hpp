#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace infobatch {
namespace detail {

/// How many samples of one class an epoch keeps.
struct KeptOfClass {
  std::int64_t members = 0;
  std::int64_t kept = 0;    ///< in [0, members]; at least 1 where `adjustable` and members > 0
  bool adjustable = false;  ///< whether a part of the class is drawn: keep ratio inside (0, 1)
};

/// Rule 16: makes the kept samples of all classes a multiple of `multiple`, where that is possible.
///
/// First by keeping more, up to all members; where those left out do not suffice, by keeping fewer,
/// down to one of each class that has members (of a class of which none may be kept no weight would
/// be unbiased). Where neither suffices nothing changes, and the last batch stays short. The
/// classes are gone through in their order, each filled (or emptied to 1) before the next is
/// touched; those that are not adjustable stay as they are.
///
/// The result depends on counts alone, never on draws, so that members / kept remains the inverse
/// of the keep probability.
/// @param multiple  at least 1, and small enough that it and the sum of kept add up in 64 bits.
inline void round_to_batches(std::vector<KeptOfClass>& classes, std::int64_t multiple) {
  std::int64_t total = 0;
  std::int64_t left_out = 0;  // what could be kept beside
  std::int64_t spare = 0;     // what need not be kept
  for (const KeptOfClass& c : classes) {
    total += c.kept;
    if (!c.adjustable || c.members == 0) continue;
    left_out += c.members - c.kept;
    spare += c.kept - 1;
  }
  const std::int64_t down = total % multiple;
  if (down == 0) return;
  std::int64_t more = multiple - down;
  std::int64_t fewer = 0;
  if (more > left_out) {
    more = 0;
    fewer = down <= spare ? down : 0;
  }
  for (KeptOfClass& c : classes) {
    if (!c.adjustable || c.members == 0) continue;
    const std::int64_t added = std::min(more, c.members - c.kept);
    const std::int64_t removed = std::min(fewer, c.kept - 1);
    c.kept += added - removed;
    more -= added;
    fewer -= removed;
  }
}

}  // namespace detail
}  // namespace infobatch
