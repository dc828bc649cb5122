#pragma once

#include <cstdint>

namespace infobatch::detail {

/// What the epochs before the running one leave behind, beside the scores.
struct Totals {
  std::int64_t epochs = 0;
  std::int64_t samples = 0;     ///< N of each of them: another number before a resize
  std::int64_t pruned = 0;      ///< samples left out
  std::int64_t non_finite = 0;  ///< losses that were NaN or infinite
  std::int64_t dropped = 0;     ///< losses that were not taken over, their epoch being unsound
  /// How far the loader ran ahead in the last epoch that came to its end, in samples; -1: none.
  std::int64_t known_lag = -1;
  std::int64_t known_batch = 0;  ///< size of its batches

  friend bool operator==(const Totals& a, const Totals& b) {
    return a.epochs == b.epochs && a.samples == b.samples && a.pruned == b.pruned &&
           a.non_finite == b.non_finite && a.dropped == b.dropped && a.known_lag == b.known_lag &&
           a.known_batch == b.known_batch;
  }
};

}  // namespace infobatch::detail
