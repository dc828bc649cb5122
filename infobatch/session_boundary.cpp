#include <infobatch/annealing.hpp>
#include <infobatch/budget.hpp>
#include <infobatch/error.hpp>
#include <infobatch/policy.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <string>
#include <utility>

// Where one epoch ends and the next begins: whether it is over, how its losses enter the scores,
// how the next plan is made, and what is warned of on the way.

namespace infobatch {

using detail::message;

// --- the end of an epoch

std::int64_t Session::observed(const Running& running) {
  return running.mode == Mode::kIds ? running.covered : running.cursor;
}

/// Rule 15: handed out to the end, and observed but for a last batch that was short and dropped.
bool Session::over(const Running& running) {
  if (running.plan == nullptr || running.handed < running.plan->size()) return false;
  const std::int64_t size = running.plan->size();
  if (size == 0) return running.begun;
  // Nothing observed: all of it is such a tail where the plan is smaller than a batch. A loader
  // that drops it never comes back for more; one that only looks at the batches does.
  if (running.mode == Mode::kNone) return size < running.batch && !running.drained;
  // A loader drops the last batch where it is short. Who asked for the whole plan at once dropped
  // nothing of it; only the loop's last step may lack.
  const std::int64_t missing = size - observed(running);
  if (running.batch >= size) return missing < std::max<std::int64_t>(running.step, 1);
  return missing <= running.tail;
}

/// The cursor is right only where no batch was skipped: at the end of the plan it stands at the
/// end.
void Session::require_sound(const char* function) const {
  const Running& run = running_;
  if (run.mode != Mode::kCursor || run.handed < run.plan->size() || over(run)) return;
  throw StateError(message(
      function,
      ": all samples handed out must be observed before the next epoch, got losses of ",
      run.cursor,
      " of the ",
      run.plan->size(),
      " samples of epoch ",
      run.epoch,
      ": a batch was skipped, or the loop ended early while the loader prefetched, so losses may "
      "stand with the wrong samples. Pass the ids, update(losses, ids), with Indexed(dataset) "
      "putting them into the batch; or forget these losses with discard_epoch()"));
}

/// Swaps the staged losses with the scores of their samples; done twice it changes nothing.
void Session::exchange_staged() {
  const std::int64_t end = running_.staged_end;
  if (end == 0) return;
  const std::int64_t* ids = running_.plan->ids();
  float* staged = running_.staged.data();
  Team team(threads_for(end, threads_));
  team.run([&](int thread) {
    const std::int64_t last = end * (thread + 1) / team.size();
    for (std::int64_t p = end * thread / team.size(); p < last; ++p) {
      constexpr std::int64_t kAhead = 16;  // the table is met at random: ask for it early
      if (p + kAhead < last) __builtin_prefetch(&scores_[ids[p + kAhead]], 1);
      if (!is_unseen(staged[p])) std::swap(staged[p], scores_[ids[p]]);
    }
  });
}

/// Ends the running epoch: its losses enter the scores, and `next_epoch` stands at its beginning.
Session::Running Session::close_epoch(std::int64_t next_epoch) {
  exchange_staged();
  if (running_.mode != Mode::kNone || over(running_) || running_.delivered) {
    totals_.epochs += 1;
    totals_.pruned += size_ - running_.plan->size();
    totals_.non_finite += running_.non_finite;
  }
  if (running_.non_finite > 0 && !warned_non_finite_) {
    warned_non_finite_ = true;
    warn(message("update: ",
                 running_.non_finite,
                 " losses of epoch ",
                 running_.epoch,
                 " were NaN or infinite. Their samples count as never observed (kept, weight 1) "
                 "until a finite loss comes; further ones only show in the statistics"));
  }
  resumed_ = false;
  Running closed = std::exchange(running_, Running{});
  running_.epoch = next_epoch;
  return closed;
}

/// Keeps the memory of a closed epoch for the next plan, unless somebody still reads it.
void Session::recycle(Running closed) {
  spare_staged_ = std::move(closed.staged);
  if (closed.plan != nullptr && closed.plan.use_count() == 1) {
    // Another thread may have let go last: what it read comes before what is written now.
    std::atomic_thread_fence(std::memory_order_acquire);
    spare_plan_ = std::move(closed.plan->arrays_);
  }
}

/// Where the epoch is over, makes the next one the running one, in a way that can be taken back.
void Session::peek_next() {
  if (peeked_ || pinned_ || !over(running_) || running_.epoch >= kMaxEpochs) return;
  previous_totals_ = totals_;
  previous_ = close_epoch(running_.epoch + 1);
  peeked_ = true;
}

void Session::undo_peek() {
  if (!peeked_) return;
  peeked_ = false;
  recycle(std::exchange(running_, std::exchange(previous_, Running{})));
  totals_ = previous_totals_;
  exchange_staged();
}

void Session::commit_peek() {
  if (!peeked_) return;
  peeked_ = false;
  warn_if_forgotten(previous_);
  recycle(std::exchange(previous_, Running{}));
}

/// The running epoch at its beginning: nothing handed out, nothing observed, the same plan.
void Session::rewind() {
  running_.begun = running_.skips_covered = running_.drained = running_.delivered = false;
  running_.handed = running_.batch = running_.step = running_.tail = 0;
  running_.cursor = running_.covered = 0;
  running_.staged_end = running_.non_finite = 0;
  running_.mode = Mode::kNone;
  resumed_ = false;
}

// --- the next plan

void Session::ensure_plan() {
  if (running_.plan != nullptr) return;
  const detail::PlanRequest request{
      config_, *policy_, running_.epoch, size_, scores_.data(), totals_.pruned, nullptr, threads_};
  detail::PlannedEpoch planned = detail::plan_epoch(request, std::move(spare_plan_));
  running_.plan = std::move(planned.plan);
  running_.choice = planned.choice;
  running_.statistics = planned.statistics;
  warn_of_plan();
}

void Session::warn_of_plan() {
  if (!warned_unpruned_ && policy_->prunes() && pruned_epochs(config_) == 0) {
    warned_unpruned_ = true;
    warn(message("no epoch of this run leaves samples out: epochs = ",
                 config_.epochs,
                 ", warmup = ",
                 config_.warmup,
                 ", annealing from epoch ",
                 annealing_start(config_),
                 " on",
                 config_.epochs <= 2 ? " (2 epochs or fewer never prune)" : ""));
  }
  // The last pruned epoch's plan settles it.
  const std::int64_t pruned = totals_.pruned + running_.statistics.pruned;
  if (!warned_shortfall_ && config_.target_saved && policy_->prunes() &&
      pruned_epochs(config_) > 0 && running_.epoch >= annealing_start(config_) - 1 &&
      falls_short(config_, size_, pruned, running_.choice.limited)) {
    warned_shortfall_ = true;
    const double all = static_cast<double>(config_.epochs) * static_cast<double>(size_);
    warn(message("target_saved: promised ",
                 *config_.target_saved,
                 " of the run's samples, got ",
                 static_cast<double>(pruned) / all,
                 ": the candidates and max_prune_ratio = ",
                 config_.max_prune_ratio,
                 " did not allow more"));
  }
}

// --- warnings

void Session::set_warning_handler(WarningHandler handler) { warning_handler_ = std::move(handler); }

void Session::warn(std::string text) { warnings_.push_back(std::move(text)); }

/// The last thing that a call does: whatever a handler throws, the session has changed as a whole.
void Session::deliver_warnings() {
  while (!warnings_.empty()) {
    const std::string text = std::move(warnings_.front());
    warnings_.erase(warnings_.begin());
    if (warning_handler_) {
      warning_handler_(text);
    } else {
      std::fprintf(stderr, "infobatch: warning: %s\n", text.c_str());
    }
  }
}

/// An epoch that was delivered and never observed: the third line is missing.
void Session::warn_if_forgotten(const Running& run) {
  if (warned_forgotten_ || run.mode != Mode::kNone || run.plan == nullptr) return;
  if (run.handed == 0 || run.handed < run.plan->size()) return;
  warned_forgotten_ = true;
  warn(message("all ",
               run.handed,
               " samples of epoch ",
               run.epoch,
               " were handed out and no loss came back, so nothing can be skipped: call "
               "update(losses) after the forward pass (the third line)",
               run.batch > run.plan->size()
                   ? message("; or the loader dropped them: drop_last with a batch of ", run.batch)
                   : ""));
}

}  // namespace infobatch
