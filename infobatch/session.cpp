#include <infobatch/annealing.hpp>
#include <infobatch/budget.hpp>
#include <infobatch/error.hpp>
#include <infobatch/policy.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <utility>

// Epochs and delivery. Observation is in session_observe.cpp, the saved state in session_state.cpp.

namespace infobatch {

using detail::message;

namespace {

/// Size, config and threads are checked together, so that the message lists everything.
std::int64_t checked(std::int64_t size, const Config& config, int threads) {
  std::vector<std::string> found = Session::problems(size, threads);
  for (std::string& problem : config.problems()) found.push_back(std::move(problem));
  constexpr std::int64_t kMaxTotal = std::int64_t{1} << 62;
  if (size > 0 && size <= kMaxSize && config.epochs <= kMaxEpochs &&
      config.epochs > kMaxTotal / size) {
    found.push_back(
        message("epochs * size must be at most 2^62, got ", config.epochs, " * ", size));
  }
  if (!found.empty()) throw InvalidArgument("Session: " + detail::join(found, "; "));
  return size;
}

}  // namespace

std::vector<std::string> Session::problems(std::int64_t size, int threads) {
  std::vector<std::string> found;
  if (size < 0 || size > kMaxSize) {
    found.push_back(message("size must be in [0, ", kMaxSize, "], got ", size));
  } else if (size > detail::physical_memory() / std::int64_t{sizeof(float)}) {
    found.push_back(message("size must leave room for the scores, 4 bytes a sample, in ",
                            detail::physical_memory(),
                            " bytes of memory, got ",
                            size));
  }
  if (threads < 0) found.push_back(message("threads must be at least 0, got ", threads));
  return found;
}

Session::Session(std::int64_t size, Config config, int threads)
    : size_(checked(size, config, threads)),
      config_(std::move(config)),
      policy_(find_policy(config_.policy)),
      threads_(threads),
      scores_(size) {
  std::fill(scores_.begin(), scores_.end(), never_observed());
}

Session::~Session() = default;

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

// --- the end of an epoch
// --------------------------------------------------------------------------

std::int64_t Session::observed(const Running& running) {
  return running.mode == Mode::kIds ? running.covered : running.cursor;
}

/// Rule 15: handed out to the end, and observed but for a tail of less than one batch.
bool Session::over(const Running& running) {
  if (running.plan == nullptr || running.handed < running.plan->size()) return false;
  const std::int64_t size = running.plan->size();
  if (size == 0) return running.begun;
  // Nothing observed: all of it is such a tail where the plan is smaller than a batch. A loader
  // that drops it never comes back for more; one that only looks at the batches does.
  if (running.mode == Mode::kNone) return size < running.batch && !running.drained;
  // Who asked for the whole plan at once dropped nothing of it; only the loop's last step may lack.
  const std::int64_t batch = running.batch < size ? running.batch : running.step;
  return size - observed(running) < std::max<std::int64_t>(batch, 1);
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
  if (running_.mode != Mode::kNone || over(running_)) {
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
  running_.begun = running_.skips_covered = running_.drained = false;
  running_.handed = running_.batch = running_.step = running_.cursor = running_.covered = 0;
  running_.staged_end = running_.non_finite = 0;
  running_.mode = Mode::kNone;
  resumed_ = false;
}

// --- epochs
// ---------------------------------------------------------------------------------------

std::int64_t Session::epoch() const {
  const bool next = !peeked_ && !pinned_ && over(running_);
  return running_.epoch + (next ? 1 : 0);
}

void Session::set_epoch(std::int64_t epoch) {
  if (epoch < 0 || epoch > kMaxEpochs) {
    throw InvalidArgument(
        message("set_epoch: epoch must be in [0, ", kMaxEpochs, "], got ", epoch));
  }
  if (peeked_ && epoch == previous_.epoch) undo_peek();  // the finished epoch once more
  commit_peek();
  if (epoch != running_.epoch) {
    require_sound("set_epoch");
    warn_if_forgotten(running_);
    recycle(close_epoch(epoch));
  }
  pinned_ = true;
  deliver_warnings();
}

std::shared_ptr<const Plan> Session::plan() {
  peek_next();
  ensure_plan();
  deliver_warnings();
  return running_.plan;
}

void Session::discard_epoch() {
  undo_peek();
  rewind();
}

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

// --- delivery
// -------------------------------------------------------------------------------------

void Session::begin() {
  const bool finished = over(running_);
  if (peeked_) {
    commit_peek();
  } else if (resumed_ && !finished) {
    running_.handed = running_.skips_covered ? 0 : running_.cursor;
  } else if (pinned_ || (running_.mode == Mode::kNone && !finished)) {
    if (!pinned_) warn_if_forgotten(running_);
    rewind();
  } else {
    require_sound("begin");
    if (running_.epoch >= kMaxEpochs) {
      throw StateError(message("begin: epochs must be at most ", kMaxEpochs, ", got the next one"));
    }
    warn_if_forgotten(running_);
    recycle(close_epoch(running_.epoch + 1));
  }
  pinned_ = false;
  ensure_plan();
  running_.begun = true;
  deliver_warnings();
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

Slice Session::next(std::int64_t count) {
  if (count < 1) throw InvalidArgument(message("next: count must be at least 1, got ", count));
  // The loop is still in the finished epoch, although somebody asked for the next one's length.
  if (peeked_ && previous_.begun) {
    const std::shared_ptr<const Plan> finished = previous_.plan;
    previous_.drained = true;
    if (!over(previous_)) undo_peek();  // it was not dropped: the loader came back
    return Slice{finished, finished->size(), 0};
  }
  if (peeked_ || !running_.begun) begin();
  pinned_ = false;
  Running& run = running_;
  run.batch = std::max(run.batch, count);
  const std::int64_t size = run.plan->size();
  std::int64_t end = run.handed + std::min(count, size - run.handed);
  if (run.skips_covered) {
    const auto due = [&](std::int64_t p) {
      return p >= run.staged_end || is_unseen(run.staged[p]);
    };
    while (run.handed < size && !due(run.handed)) ++run.handed;
    end = run.handed;
    while (end < size && end - run.handed < count && due(end)) ++end;
  }
  Slice slice{run.plan, run.handed, end - run.handed};
  run.drained = run.drained || slice.count == 0;
  run.handed = end;
  return slice;
}

// --- position, figures
// ----------------------------------------------------------------------------

std::int64_t Session::position() const { return observed(shown()); }

double Session::progress() const {
  const Running& run = shown();
  const double kept = run.plan == nullptr ? 0.0 : static_cast<double>(run.plan->size());
  double share = run.begun ? 1.0 : 0.0;  // an empty epoch is over when it has begun
  if (kept > 0.0) share = static_cast<double>(observed(run)) / kept;
  return std::min(1.0,
                  (static_cast<double>(run.epoch) + share) / static_cast<double>(config_.epochs));
}

std::int64_t Session::max_steps(std::int64_t batch_size) const {
  if (batch_size < 1) {
    throw InvalidArgument(message("max_steps: batch_size must be at least 1, got ", batch_size));
  }
  return config_.epochs * (size_ / batch_size + (size_ % batch_size != 0 ? 1 : 0));
}

Statistics Session::statistics() const {
  const Running& run = shown();
  const Totals& totals = shown_totals();
  Statistics figures = run.statistics;
  figures.epoch = run.epoch;
  figures.size = size_;
  const std::int64_t pruned = totals.pruned + figures.pruned;
  figures.samples_full = size_ * (totals.epochs + (figures.planned ? 1 : 0));
  figures.samples_planned = figures.samples_full - pruned;
  if (figures.samples_full > 0) {
    figures.saved = static_cast<double>(pruned) / static_cast<double>(figures.samples_full);
    figures.actual_saved = static_cast<double>(pruned) /
                           (static_cast<double>(config_.epochs) * static_cast<double>(size_));
  }
  figures.promised_saved = config_.target_saved;
  figures.non_finite_epoch = run.non_finite;
  figures.non_finite_total = totals.non_finite + run.non_finite;
  return figures;
}

}  // namespace infobatch
