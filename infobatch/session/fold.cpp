#include <infobatch/score.hpp>
#include <infobatch/session/fold.hpp>
#include <infobatch/session/folded.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <limits>
#include <utility>

namespace infobatch::detail {
namespace {

constexpr std::int64_t kAhead = 16;  // the table is met at random: ask for it early

std::int64_t fold_part(const FoldRule& rule, const FoldArrays& arrays, FoldRange range) {
  const bool needs_memory = rule.needs_memory();
  std::int64_t non_finite = 0;
  for (std::int64_t p = range.begin; p < range.end; ++p) {
    if (p + kAhead < range.end) __builtin_prefetch(&arrays.scores[arrays.ids[p + kAhead]], 1);
    const bool bad = fold_position(rule.columns, rule.n_columns, rule.ema, needs_memory, arrays, p);
    non_finite += bad ? 1 : 0;
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
  const bool needs_memory = rule.needs_memory();
  for (std::int64_t p = range.begin; p < range.end; ++p) {
    if (p + kAhead < range.end) __builtin_prefetch(&arrays.scores[arrays.ids[p + kAhead]], 1);
    unfold_position(rule.columns, rule.n_columns, needs_memory, arrays, p);
  }
}

bool still_folded(const FoldRule& rule, const FoldArrays& arrays, FoldRange range) noexcept {
  for (std::int64_t p = range.begin; p < range.end; ++p) {
    const float loss = kept_loss(arrays.losses[p]);
    const float old = arrays.overwritten[p];
    const float expected = is_unseen(loss) ? old : folded(rule.ema, old, loss);
    if (float_bits(arrays.scores[arrays.ids[p]]) != float_bits(expected)) return false;
    bool same = true;
    each_value(rule.columns,
               rule.n_columns,
               arrays,
               p,
               loss,
               [&](const float& value, float before, float next) {
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
