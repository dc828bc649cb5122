#pragma once

#include <infobatch/config.hpp>
#include <infobatch/detail/annealing.hpp>
#include <infobatch/detail/options.hpp>
#include <infobatch/detail/policy.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace infobatch {

/// What of a run is behind an epoch.
struct RunSoFar {
  std::int64_t pruned = 0;  ///< samples left out in the epochs before
  /// What these epochs had in samples more than N each: 0, but where the data set had another size.
  std::int64_t surplus = 0;
};

/// Samples of all epochs: E * N, but for those that had another N.
inline std::int64_t samples_of_run(const Config& config,
                                   std::int64_t size,
                                   const RunSoFar& before) {
  return std::max<std::int64_t>(config.epochs * size + before.surplus, 0);
}

/// Samples that the whole run promises to leave out: floor(target_saved * E * N).
inline std::int64_t promised_samples(const Config& config,
                                     std::int64_t size,
                                     const RunSoFar& before = {}) {
  return floor_fraction(billionths(config.target_saved.value_or(0.0)),
                        samples_of_run(config, size, before));
}

/// Rule 14: the fraction of N that epoch `epoch` has to leave out, when what is left of the promise
/// is spread evenly over the pruned epochs that are left. What chance added or withheld in an epoch
/// is made good in the next ones.
inline double fraction_to_prune(const Config& config,
                                std::int64_t size,
                                std::int64_t epoch,
                                const RunSoFar& before) {
  const std::int64_t epochs_left = annealing_start(config) - epoch;
  const std::int64_t samples_left = promised_samples(config, size, before) - before.pruned;
  if (epochs_left <= 0 || samples_left <= 0 || size == 0) return 0.0;
  return static_cast<double>(samples_left) / static_cast<double>(epochs_left) /
         static_cast<double>(size);
}

/// The scale of a rule without a fixed budget.
inline double configured_scale(const Config& config, const PolicyCard& card) {
  return card.scale == nullptr ? 1.0 : number_of(config, card.scale);
}

/// The largest scale that `max_prune_ratio` allows a rule.
inline double largest_scale(const Config& config, const RuleReach& reach) {
  return reach.class_ratio > 0.0 ? config.max_prune_ratio / reach.class_ratio : 0.0;
}

/// Upper bound of the fraction of N that a pruned epoch leaves out at the largest scale.
inline double largest_pruned_fraction(const Config& config, const RuleReach& reach) {
  return reach.of_all * largest_scale(config, reach);
}

/// The scale at which `fraction` of the N samples are left out in expectation; may exceed the
/// largest, and is infinite where no scale leaves anything out.
/// @param candidates  what the rule leaves out at scale 1, in samples.
inline double solve_scale(double fraction, std::int64_t size, double candidates) {
  if (fraction <= 0.0) return 0.0;
  if (candidates <= 0.0) return std::numeric_limits<double>::infinity();
  return fraction * static_cast<double>(size) / candidates;
}

/// The most samples that rule 16 keeps beyond what a pruned epoch of `size` samples asks for.
inline std::int64_t whole_batches_extra(const Config& config, std::int64_t size) {
  return config.whole_batches > 0 && config.whole_batches <= size ? config.whole_batches - 1 : 0;
}

/// Whether the run ends its pruned epochs short of its promise, by more than chance and the
/// rounding of its last pruned epoch explain.
/// @param run      samples left out by the whole run, this epoch included.
/// @param limited  the last pruned epoch was not allowed all that it needed; then nothing is left
///                 to chance. Else its Bernoulli draws may withhold six standard deviations, and
///                 the exact rule a sample that it rounds down. Either way `whole_batches` may have
///                 kept up to B - 1 samples more than that, which no later epoch makes good.
inline bool falls_short(const Config& config,
                        std::int64_t size,
                        const RunSoFar& run,
                        bool limited) {
  const std::int64_t missing =
      promised_samples(config, size, run) - run.pruned - whole_batches_extra(config, size);
  if (limited) return missing > 0;
  const bool draws = config.keep == "bernoulli";
  const double chance = draws ? 3.0 * std::sqrt(static_cast<double>(size)) : 0.0;
  return static_cast<double>(missing) > chance + 1.0;
}

}  // namespace infobatch
