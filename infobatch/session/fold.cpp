#include <infobatch/score.hpp>
#include <infobatch/session/fold.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <limits>
#include <utility>

namespace infobatch::detail {
namespace {

constexpr std::int64_t kAhead = 16;  // the table is met at random: ask for it early

/// A loss as it is kept: of all that is not finite, one pattern. `unseen` is no loss.
float kept_loss(float loss) { return is_unseen(loss) ? loss : score_of_loss(loss); }

float folded(const FoldRule& rule, float old, float loss) {
  if (rule.ema == 0.0 || !is_finite(loss) || !is_finite(old)) return loss;
  const double kept = rule.ema * static_cast<double>(old);
  const double added = (1.0 - rule.ema) * static_cast<double>(loss);
  return static_cast<float>(kept + added);
}

/// float32 of a value that may have outgrown it.
float narrowed(double value) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  return static_cast<float>(std::min(std::max(value, -kLargest), kLargest));
}

/// The value of a column behind a loss. `mean`: that of the column before it, before this loss.
float folded_value(const FoldColumn& column, float old, float mean, float loss) {
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
void each_value(const FoldRule& rule,
                const FoldArrays& arrays,
                std::int64_t position,
                float loss,
                const Visit& visit) {
  float mean = never_observed();
  for (int c = 0; c < rule.n_columns; ++c) {
    const FoldColumn& column = rule.columns[c];
    const float old = overwritten_value(arrays, c, position);
    visit(column.values[arrays.ids[position]], old, folded_value(column, old, mean, loss));
    mean = old;
  }
}

void keep_values(const FoldRule& rule, const FoldArrays& arrays, std::int64_t position) {
  for (int c = 0; c < rule.n_columns; ++c) {
    arrays.overwritten[(1 + c) * arrays.kept + position] =
        rule.columns[c].values[arrays.ids[position]];
  }
}

std::int64_t fold_part(const FoldRule& rule, const FoldArrays& arrays, FoldRange range) {
  std::int64_t non_finite = 0;
  float* const scores = arrays.scores;
  const std::int64_t* const ids = arrays.ids;
  float* const losses = arrays.losses;
  if (!rule.needs_memory()) {
    for (std::int64_t p = range.begin; p < range.end; ++p) {
      if (p + kAhead < range.end) __builtin_prefetch(&scores[ids[p + kAhead]], 1);
      const float loss = kept_loss(losses[p]);
      if (is_unseen(loss)) continue;
      non_finite += is_finite(loss) ? 0 : 1;
      losses[p] = std::exchange(scores[ids[p]], loss);
    }
    return non_finite;
  }
  for (std::int64_t p = range.begin; p < range.end; ++p) {
    if (p + kAhead < range.end) __builtin_prefetch(&scores[ids[p + kAhead]], 1);
    const float old = scores[ids[p]];
    arrays.overwritten[p] = old;  // unseen too: what is lent may have changed when it is given back
    keep_values(rule, arrays, p);
    losses[p] = kept_loss(losses[p]);
    if (is_unseen(losses[p])) continue;
    non_finite += is_finite(losses[p]) ? 0 : 1;
    scores[ids[p]] = folded(rule, old, losses[p]);
    each_value(rule, arrays, p, losses[p], [](float& value, float, float next) { value = next; });
  }
  return non_finite;
}

}  // namespace

std::int64_t fold(const FoldRule& rule, const FoldArrays& arrays, FoldRange range, Team& team) {
  std::atomic<std::int64_t> non_finite{0};
  const std::int64_t size = range.end - range.begin;
  team.run([&](int thread) {
    const FoldRange part{range.begin + size * thread / team.size(),
                         range.begin + size * (thread + 1) / team.size()};
    non_finite += fold_part(rule, arrays, part);
  });
  return non_finite;
}

void unfold(const FoldRule& rule, const FoldArrays& arrays, FoldRange range) noexcept {
  for (std::int64_t p = range.begin; p < range.end; ++p) {
    if (p + kAhead < range.end) __builtin_prefetch(&arrays.scores[arrays.ids[p + kAhead]], 1);
    float& score = arrays.scores[arrays.ids[p]];
    if (rule.needs_memory()) {
      score = arrays.overwritten[p];
      each_value(rule, arrays, p, 0.0f, [](float& value, float old, float) { value = old; });
    } else if (!is_unseen(arrays.losses[p])) {
      std::swap(score, arrays.losses[p]);
    }
  }
}

bool still_folded(const FoldRule& rule, const FoldArrays& arrays, FoldRange range) noexcept {
  for (std::int64_t p = range.begin; p < range.end; ++p) {
    const float loss = kept_loss(arrays.losses[p]);
    const float old = arrays.overwritten[p];
    const float expected = is_unseen(loss) ? old : folded(rule, old, loss);
    if (float_bits(arrays.scores[arrays.ids[p]]) != float_bits(expected)) return false;
    bool same = true;
    each_value(rule, arrays, p, loss, [&](const float& value, float before, float next) {
      same = same && float_bits(value) == float_bits(is_unseen(loss) ? before : next);
    });
    if (!same) return false;
  }
  return true;
}

float folded_loss(const FoldRule& rule, const FoldArrays& arrays, std::int64_t position) noexcept {
  const float staged = arrays.losses[position];
  if (rule.needs_memory() || is_unseen(staged)) return staged;
  return arrays.scores[arrays.ids[position]];
}

float overwritten_score(const FoldRule& rule,
                        const FoldArrays& arrays,
                        std::int64_t position) noexcept {
  return rule.needs_memory() ? arrays.overwritten[position] : arrays.losses[position];
}

}  // namespace infobatch::detail
