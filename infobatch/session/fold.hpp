#pragma once

#include <infobatch/card.hpp>
#include <infobatch/detail/threads.hpp>

#include <cstdint>

namespace infobatch::detail {

/// A column of a policy that follows the losses beside the score.
struct FoldColumn {
  FoldKind kind = FoldKind::kEma;
  double keep = 0.0;        ///< a: the weight of what was there before
  float* values = nullptr;  ///< [N] by sample
};

/// How a loss enters the score of its sample, and the policy's columns, at the boundary of an
/// epoch. Plain data.
struct FoldRule {
  double ema = 0.0;   ///< a: score = a * score + (1 - a) * loss; 0: the last loss
  bool lent = false;  ///< the caller may write to the losses at any time: no score may lie there
  const FoldColumn* columns = nullptr;
  int n_columns = 0;

  /// Whether what is overwritten needs memory of its own; the last loss changes places with it.
  bool needs_memory() const { return ema != 0.0 || lent || n_columns > 0; }
  /// Floats of that memory, for a plan of `kept` samples.
  std::int64_t memory(std::int64_t kept) const {
    return needs_memory() ? kept * (1 + n_columns) : 0;
  }
};

/// A part of a plan whose losses enter the scores.
struct FoldRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// All parts of a plan whose losses enter the scores: before a gap and behind it.
struct FoldRanges {
  FoldRange part[2];
};

/// Arrays that a fold works on, all by position but for the scores.
struct FoldArrays {
  float* scores;            ///< [N] by sample
  const std::int64_t* ids;  ///< [K]
  float* losses;            ///< staged, raw; unseen positions change nothing
  float* overwritten;       ///< [1 + columns][K], where the rule needs memory: receives what was
                            ///< overwritten, of the scores and of each column
  std::int64_t kept = 0;    ///< K
  std::int64_t size = 0;    ///< N
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

/// The value that its column `column` of the rule had then.
inline float overwritten_value(const FoldArrays& arrays,
                               int column,
                               std::int64_t position) noexcept {
  return arrays.overwritten[(1 + column) * arrays.kept + position];
}

}  // namespace infobatch::detail
