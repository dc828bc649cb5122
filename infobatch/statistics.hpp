#pragma once

#include <cstdint>
#include <limits>
#include <optional>

namespace infobatch {

/// What the running (or just finished) epoch delivers, and what the run saved so far.
struct Statistics {
  // The epoch's plan.
  std::int64_t epoch = 0;       ///< 0-based
  std::int64_t size = 0;        ///< N
  bool planned = false;         ///< false: not begun yet, the figures of the plan are empty
  bool prunes = false;          ///< whether this epoch leaves samples out at all
  std::int64_t kept = 0;        ///< K: samples that the epoch delivers
  std::int64_t pruned = 0;      ///< N - K
  std::int64_t candidates = 0;  ///< samples that could have been left out
  double prune_ratio =
      0.0;  ///< the policy's scale that was used, solved for where there is a target

  // The scores when it was planned.
  std::int64_t observed = 0;                                     ///< samples with a score
  double mean_score = std::numeric_limits<double>::quiet_NaN();  ///< NaN: no score yet

  // The run so far, this epoch included.
  std::int64_t samples_full = 0;     ///< N for every epoch begun
  std::int64_t samples_planned = 0;  ///< K for every epoch begun
  double saved = 0.0;                ///< 1 - samples_planned / samples_full

  // Promised against actual, over the whole run.
  std::optional<double> promised_saved;  ///< `Config::target_saved`
  double actual_saved = 0.0;             ///< samples left out so far / (E * N)

  /// Losses that were not taken over since the run began, because their epoch was broken off or
  /// unsound and nobody can tell that they belong to their samples.
  std::int64_t dropped_total = 0;

  // Losses that were NaN or infinite in float32.
  std::int64_t non_finite_epoch = 0;  ///< in the running epoch
  std::int64_t non_finite_total = 0;  ///< since the run began

  /// Samples of the plan's last batch, where `whole_batches` could not make it whole; 0: all
  /// batches are whole, or no `whole_batches` was asked for.
  std::int64_t short_batch = 0;
};

}  // namespace infobatch
