#pragma once

#include <infobatch/config.hpp>
#include <infobatch/detail/budget.hpp>
#include <infobatch/detail/plan_builder.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/detail/sampling_weights.hpp>
#include <infobatch/session/plan_holder.hpp>
#include <infobatch/statistics.hpp>

#include <cstdint>

namespace infobatch::detail {

struct Backend;

/// The two figures that, with the config and the scores, determine a plan to the bit.
struct EpochChoice {
  bool prunes = false;   ///< false: every sample, weight 1
  double scale = 0.0;    ///< of the policy's rule
  bool limited = false;  ///< the budget asked for more than `max_prune_ratio` allows
};

/// A plan and the figures of its making.
struct PlannedEpoch {
  PlanHolder plan;
  EpochChoice choice;
  Statistics statistics;  ///< those of the plan and of the scores; no sums over the run
};

/// Scores and everything else that one planning needs.
struct PlanRequest {
  const Config& config;
  const Policy& policy;
  std::int64_t epoch;
  std::int64_t size;
  const float* scores;
  const float* const* columns;  ///< those of the policy's card, in its order
  SamplingWeights weights;      ///< the user's, if any
  const Peers* peers;           ///< who holds the rest of a larger table; nullptr: this is all
  RunSoFar before;              ///< the epochs before
  const EpochChoice* restored;  ///< not null: plan with this choice again
  int threads;
  const Backend& backend;
};

/// Bytes of memory a sample that a session takes while it plans an epoch and keeps all of it:
/// score and staged loss, ids and weights of the finished epoch, which can be taken back until
/// then, and those of the planned one.
/// @param columns  that the policy keeps beside the score; with these, what a fold overwrites
///                 needs memory of its own.
/// @param records  whether there is a record.
constexpr std::int64_t bytes_per_sample(int columns, bool records = false) {
  return 4 + 4 + 2 * (8 + 4) + (columns > 0 ? 4 + 8 * columns : 0) + (records ? 8 : 0);
}

/// Whether pruned epochs leave out samples that a sampling weight below the mean makes rarer. Where
/// numbers of samples are promised, by `keep` = "exact" or `target_saved`, they stay and weigh
/// less.
inline bool thins(const Config& config) { return config.keep != "exact" && !config.target_saved; }

/// Plans one epoch: exact mean, choice of the scale, keep, weigh, shuffle. Cost: O(N).
/// The floating-point environment of the caller has no influence on it.
PlannedEpoch plan_epoch(const PlanRequest& request, PlanArrays recycled);

/// A fingerprint of ids and weights in order, to recognise a plan that was made anew. O(K).
std::uint64_t fingerprint(const Plan& plan);

}  // namespace infobatch::detail
