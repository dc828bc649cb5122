#pragma once

#include <infobatch/host_device.hpp>

#include <cstdint>
#include <limits>

namespace infobatch {

/// A cut in the order (64-bit draw, sample id).
struct DrawCut {
  std::uint64_t draw = 0;
  std::int64_t id = 0;

  /// Whether a sample lies before the cut.
  INFOBATCH_HD bool covers(std::uint64_t sample_draw, std::int64_t sample_id) const {
    return sample_draw < draw || (sample_draw == draw && sample_id < id);
  }
  /// The cut that every sample lies before.
  static DrawCut all() {
    return {std::numeric_limits<std::uint64_t>::max(), std::numeric_limits<std::int64_t>::max()};
  }
};

/// A cut in the order (key, draw64 of the stream `rank ties`, sample id), where -0 == +0.
struct RankCut {
  float key = -std::numeric_limits<float>::infinity();
  DrawCut ties;  ///< among the samples whose key equals `key`
  std::uint64_t seed = 0;
  std::uint32_t epoch = 0;
};

}  // namespace infobatch
