#pragma once

#include <infobatch/detail/policy.hpp>

namespace infobatch {

/// A uniform pool of s * N samples is drawn each epoch, and the fraction k of it with the largest
/// last losses is kept. Scale: a factor on the fraction 1 - s * k that is left out, 1 unless a
/// fixed budget solves for it; it acts on 1 - s and lets k follow.
///
/// Ties go by a draw. Samples of the pool that were never observed are kept, beyond k. Nothing is
/// rescaled, as published.
/// @source OrderDP, as its paper defines it: a pool of half the data, 0.6 of which is kept.
extern const Policy kOrderDpPolicy;

}  // namespace infobatch
