#pragma once

#include <infobatch/config.hpp>

#include <cmath>
#include <cstdint>

namespace infobatch {

/// A fraction in [0, 1] as round(fraction * 1e9) parts of 1e9, so that what follows is integer
/// arithmetic and 0.29 of 100 epochs is 29, not 28.
inline std::int64_t billionths(double fraction) { return std::llround(fraction * 1e9); }

/// floor(fraction * count) with the fraction in billionths, for fractions in [0, 1], counts up to
/// 2^63.
inline std::int64_t floor_fraction(std::int64_t parts, std::int64_t count) {
  constexpr std::int64_t kBillion = 1'000'000'000;
  return count / kBillion * parts + count % kBillion * parts / kBillion;
}

/// Number of epochs before the annealing phase: floor(delta * E).
inline std::int64_t annealing_start(const Config& config) {
  return floor_fraction(billionths(config.delta), config.epochs);
}

/// Rule 7: epoch e (0-based) prunes iff warmup <= e < floor(delta * E).
///
/// Every other epoch delivers all samples with weight exactly 1. E <= 2 prunes nothing; so do
/// epochs from E on.
inline bool prunes(const Config& config, std::int64_t epoch) {
  return config.epochs > 2 && epoch >= config.warmup && epoch < annealing_start(config);
}

/// Number of epochs of the run that prune.
inline std::int64_t pruned_epochs(const Config& config) {
  if (config.epochs <= 2) return 0;
  const std::int64_t count = annealing_start(config) - config.warmup;
  return count > 0 ? count : 0;
}

}  // namespace infobatch
