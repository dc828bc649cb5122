#pragma once

#include <infobatch/threads.hpp>

#include <cstdint>

namespace infobatch::detail {

/// How a loss enters the score of its sample at the boundary of an epoch.
struct FoldRule {
  double ema = 0.0;   ///< a: score = a * score + (1 - a) * loss; 0: the last loss
  bool lent = false;  ///< the caller may write to the losses at any time: no score may lie there

  /// Whether what is overwritten needs memory of its own; the last loss changes places with it.
  bool needs_memory() const { return ema != 0.0 || lent; }
};

/// A part of a plan whose losses enter the scores.
struct FoldRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// Arrays that a fold works on, all by position but for the scores.
struct FoldArrays {
  float* scores;            ///< [N] by sample
  const std::int64_t* ids;  ///< [K]
  float* losses;            ///< staged, raw; unseen positions change nothing
  float* overwritten;       ///< [K], where the rule needs memory: receives what was overwritten
};

/// Folds the losses of the range into the scores: a pure function of (scores, ids, losses),
/// whatever the team. A loss that is not finite makes its sample never observed (rule 10).
/// @return how many of them were not finite.
/// @note Allocates nothing and cannot fail.
std::int64_t fold(const FoldRule& rule, const FoldArrays& arrays, FoldRange range, Team& team);

/// Gives back what `fold` overwrote: scores and losses are as before, but that a loss which was not
/// finite is now the one pattern that stands for it. No thread, no allocation.
void unfold(const FoldRule& rule, const FoldArrays& arrays, FoldRange range) noexcept;

/// Whether the losses, which were lent and may have been written since, are those that were folded.
/// For rules that need memory.
bool still_folded(const FoldRule& rule, const FoldArrays& arrays, FoldRange range) noexcept;

/// The raw loss of a position that lies in a folded range; unseen where it was.
float folded_loss(const FoldRule& rule, const FoldArrays& arrays, std::int64_t position) noexcept;

/// The score that a sample had before the fold, for a position that was seen.
float overwritten_score(const FoldRule& rule,
                        const FoldArrays& arrays,
                        std::int64_t position) noexcept;

}  // namespace infobatch::detail
