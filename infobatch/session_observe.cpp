#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

// The step: losses of a batch are written down beside its samples, and its weights are read.

namespace infobatch {

using detail::message;

namespace {

void check_array(const char* function, const char* name, const void* data, std::int64_t count) {
  if (count < 0) {
    throw InvalidArgument(message(function, ": count must be at least 0, got ", count));
  }
  if (count > 0 && data == nullptr) {
    throw InvalidArgument(message(function, ": ", name, " must not be null, got null"));
  }
}

[[noreturn]] void refuse_id(std::int64_t id, std::int64_t row, std::int64_t size) {
  throw IndexError(message("update: ids must be in [0, ", size, "), got ", id, " in row ", row));
}

inline void check_id(std::int64_t id, std::int64_t row, std::int64_t size) {
  if (id < 0 || id >= size) refuse_id(id, row, size);
}

/// The sum of term(0) .. term(count - 1), always in the same order: eight sums side by side, which
/// the compiler vectorises and of which none waits for the other.
template <typename Term>
double sum_in_lanes(std::int64_t count, Term term) {
  constexpr std::int64_t kLanes = 8;
  double sums[kLanes] = {};
  const std::int64_t whole = count - count % kLanes;
  for (std::int64_t i = 0; i < whole; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += term(i + lane);
  }
  for (std::int64_t i = whole; i < count; ++i) sums[i - whole] += term(i);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace

/// Makes room for the losses of a whole epoch, once an epoch.
void Session::prepare_staged() {
  if (running_.staged.size() >= running_.plan->size()) return;
  if (running_.staged.size() == 0) running_.staged = std::move(spare_staged_);
  running_.staged.resize(running_.plan->size());
}

/// What a loss is staged as: itself, or its moving average with the sample's score.
float Session::staged_score(std::int64_t position, float loss) const {
  if (config_.score_ema == 0.0 || !is_finite(loss)) return score_of_loss(loss);
  const float old = scores_[running_.plan->ids()[position]];
  if (!is_finite(old)) return loss;
  const double a = config_.score_ema;
  const double kept = a * static_cast<double>(old);
  const double added = (1.0 - a) * static_cast<double>(loss);
  return static_cast<float>(kept + added);
}

Slice Session::observe(const float* losses, std::int64_t count) {
  check_array("update", "losses", losses, count);
  const Running& target = shown();
  if (target.mode == Mode::kIds) {
    throw StateError(message("update: epoch ",
                             target.epoch,
                             " is observed by ids, so every batch of it needs them, got ",
                             count,
                             " losses without ids"));
  }
  if (count > target.handed - target.cursor) {
    throw StateError(message(
        "update: losses must belong to samples that were handed out and not observed yet, got ",
        count,
        " losses for ",
        target.handed - target.cursor,
        " such samples (epoch ",
        target.epoch,
        "): a second update on one batch, a batch that the sampler did not "
        "deliver, or a loader without this sampler. Once per batch; or pass the ids, "
        "update(losses, ids)"));
  }
  if (count == 0) return Slice{target.plan, target.cursor, 0};
  undo_peek();
  prepare_staged();
  resumed_ = false;
  Running& run = running_;
  float* staged = run.staged.data() + run.cursor;
  std::int64_t finite = 0;
  if (config_.score_ema == 0.0) {
    // Kept apart so that the compiler vectorises it.
    for (std::int64_t i = 0; i < count; ++i) {
      staged[i] = score_of_loss(losses[i]);
      finite += is_finite(losses[i]) ? 1 : 0;
    }
  } else {
    for (std::int64_t i = 0; i < count; ++i) {
      staged[i] = staged_score(run.cursor + i, losses[i]);
      finite += is_finite(losses[i]) ? 1 : 0;
    }
  }
  Slice slice{run.plan, run.cursor, count};
  run.mode = Mode::kCursor;
  run.step = std::max(run.step, count);
  run.non_finite += count - finite;
  run.cursor += count;
  run.staged_end = run.cursor;
  return slice;
}

void Session::observe_ids(const float* losses,
                          const std::int64_t* ids,
                          std::int64_t count,
                          float* weights) {
  check_array("update", "losses", losses, count);
  check_array("update", "ids", ids, count);
  check_array("update", "weights", weights, count);
  if (count == 0) return;
  if (count > kMaxSize) {
    throw InvalidArgument(message("update: count must be at most ", kMaxSize, ", got ", count));
  }
  if (!peeked_ && running_.plan == nullptr) {
    for (std::int64_t i = 0; i < count; ++i) check_id(ids[i], i, size_);  // before it is planned
    ensure_plan();
  }
  Running& target = peeked_ ? previous_ : running_;
  if (target.mode == Mode::kCursor) {
    throw StateError(message("update: epoch ",
                             target.epoch,
                             " is observed in order, without ids, so all of it must be, got ids "
                             "after ",
                             target.cursor,
                             " samples"));
  }
  // The usual batch is the next part of the plan, and then needs no table.
  const std::int64_t first = target.covered;
  const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(*ids);
  const bool in_order = count <= target.plan->size() - first &&
                        std::memcmp(target.plan->ids() + first, ids, bytes) == 0;
  if (!in_order) find_positions(target, ids, count);
  undo_peek();
  prepare_staged();
  resumed_ = false;
  Running& run = running_;
  float* staged = run.staged.data();
  for (std::int64_t p = run.staged_end; p < run.plan->size(); ++p) staged[p] = unseen();
  run.staged_end = run.plan->size();
  const auto place = [&](std::int64_t i, std::int64_t p) {
    run.covered += is_unseen(staged[p]) ? 1 : 0;
    run.non_finite += is_finite(losses[i]) ? 0 : 1;
    weights[i] = run.plan->weights()[p];
    staged[p] = staged_score(p, losses[i]);
  };
  if (in_order) {
    for (std::int64_t i = 0; i < count; ++i) place(i, first + i);
  } else {
    for (std::int64_t i = 0; i < count; ++i) place(i, found_positions_[i]);
  }
  run.mode = Mode::kIds;
  run.step = std::max(run.step, count);
}

/// Where the ids stand in the plan; the first call of an epoch builds its table.
void Session::find_positions(Running& target, const std::int64_t* ids, std::int64_t count) {
  if (target.positions.empty()) {
    target.positions.build(target.plan->ids(), target.plan->size(), size_);
  }
  if (found_positions_.size() < count) found_positions_.resize(count);
  for (std::int64_t i = 0; i < count; ++i) {
    check_id(ids[i], i, size_);
    const std::int64_t p = target.positions.find(ids[i]);
    found_positions_[i] = p;
    if (p < 0) {
      throw IndexError(message("update: ids must be in the plan of epoch ",
                               target.epoch,
                               ", got ",
                               ids[i],
                               " in row ",
                               i,
                               ", which this epoch leaves out"));
    }
  }
}

void Session::update(const float* losses, std::int64_t count, Reduction reduction, float* out) {
  check_array("update", "losses", losses, count);
  if (out == nullptr) throw InvalidArgument("update: out must not be null, got null");
  const Slice slice = observe(losses, count);
  const float* weights = slice.plan != nullptr ? slice.weights() : nullptr;
  if (reduction == Reduction::kNone) {
    for (std::int64_t i = 0; i < count; ++i) out[i] = weights[i] * losses[i];
    return;
  }
  const double sum =
      sum_in_lanes(count, [&](std::int64_t i) { return double{weights[i]} * double{losses[i]}; });
  double divisor = 1.0;
  if (reduction == Reduction::kMean) divisor = static_cast<double>(count);
  if (reduction == Reduction::kWeightedMean) {
    divisor = sum_in_lanes(count, [&](std::int64_t i) { return double{weights[i]}; });
  }
  *out = static_cast<float>(sum / divisor);
}

}  // namespace infobatch
