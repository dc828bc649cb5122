#pragma once

#include <infobatch/detail/sample_class.hpp>
#include <infobatch/host_device.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session/fold.hpp>

#include <cstdint>

// What a loss makes of the values of its sample: the rules that CPU and GPU share.

namespace infobatch::detail {

/// A loss as it is kept: of all that is not finite, one pattern. `unseen` is no loss.
INFOBATCH_HD inline float kept_loss(float loss) {
  return is_unseen(loss) ? loss : score_of_loss(loss);
}

/// The score behind a kept loss.
INFOBATCH_HD inline float folded(double ema, float old, float loss) {
  if (ema == 0.0 || !is_finite(loss) || !is_finite(old)) return loss;
  const double kept = ema * static_cast<double>(old);
  const double added = (1.0 - ema) * static_cast<double>(loss);
  return static_cast<float>(kept + added);
}

/// The value of a column behind a kept loss. `mean`: that of the column before it, before this
/// loss.
INFOBATCH_HD inline float folded_value(const FoldColumn& column,
                                       float old,
                                       float mean,
                                       float loss) {
  if (!is_finite(loss)) return never_observed();
  const bool first = !is_finite(old);
  const double share = 1.0 - column.keep;
  if (column.kind == FoldKind::kEma) {
    if (first) return loss;
    return narrowed(column.keep * static_cast<double>(old) + share * static_cast<double>(loss));
  }
  if (first || !is_finite(mean)) return 0.0f;
  const double away = static_cast<double>(loss) - static_cast<double>(mean);
  return narrowed(column.keep * static_cast<double>(old) + share * (away * away));
}

/// Calls visit(value, old, folded) for each column of the sample behind a position; the old values
/// are those that the fold kept.
template <typename Visit>
INFOBATCH_HD void each_value(const FoldColumn* columns,
                             int n_columns,
                             const FoldArrays& arrays,
                             std::int64_t position,
                             float loss,
                             const Visit& visit) {
  float mean = never_observed();
  for (int c = 0; c < n_columns; ++c) {
    const FoldColumn& column = columns[c];
    const float old = arrays.overwritten[(1 + c) * arrays.kept + position];
    visit(column.values[arrays.ids[position]], old, folded_value(column, old, mean, loss));
    mean = old;
  }
}

/// Folds the loss of one position, and keeps what it overwrites.
/// @return whether there was a loss that was not finite.
INFOBATCH_HD inline bool fold_position(const FoldColumn* columns,
                                       int n_columns,
                                       double ema,
                                       bool needs_memory,
                                       const FoldArrays& arrays,
                                       std::int64_t position) {
  float& score = arrays.scores[arrays.ids[position]];
  const float loss = kept_loss(arrays.losses[position]);
  if (!needs_memory) {
    if (is_unseen(loss)) return false;
    arrays.losses[position] = score;
    score = loss;
    return !is_finite(loss);
  }
  const float old = score;
  arrays.overwritten[position] = old;  // unseen too: what is lent may change until it is given back
  for (int c = 0; c < n_columns; ++c) {
    arrays.overwritten[(1 + c) * arrays.kept + position] = columns[c].values[arrays.ids[position]];
  }
  arrays.losses[position] = loss;
  if (is_unseen(loss)) return false;
  score = folded(ema, old, loss);
  each_value(columns, n_columns, arrays, position, loss, [](float& value, float, float next) {
    value = next;
  });
  return !is_finite(loss);
}

/// Gives back what fold_position() overwrote.
INFOBATCH_HD inline void unfold_position(const FoldColumn* columns,
                                         int n_columns,
                                         bool needs_memory,
                                         const FoldArrays& arrays,
                                         std::int64_t position) {
  float& score = arrays.scores[arrays.ids[position]];
  if (needs_memory) {
    score = arrays.overwritten[position];
    each_value(columns, n_columns, arrays, position, 0.0f, [](float& value, float old, float) {
      value = old;
    });
  } else if (!is_unseen(arrays.losses[position])) {
    const float folded_score = score;
    score = arrays.losses[position];
    arrays.losses[position] = folded_score;
  }
}

}  // namespace infobatch::detail
