#include <infobatch/detail/limits.hpp>
#include <infobatch/error.hpp>
#include <infobatch/planner.hpp>
#include <infobatch/policy.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

// Epochs, delivery, figures. What happens where one epoch ends and the next begins is in
// session_boundary.cpp, observation in session_observe.cpp, the saved state in session_state.cpp.

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
  } else {
    const detail::MemoryLimit memory = detail::memory_limit();
    const std::int64_t each = detail::bytes_per_sample(size);
    if (size > memory.bytes / each) {
      found.push_back(message("size must leave room for scores, plan and losses, ",
                              each,
                              " bytes a sample, in ",
                              memory.bytes,
                              " bytes of memory (the limit of ",
                              memory.source,
                              "), got ",
                              size));
    }
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

// --- epochs

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

// --- delivery

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
  if (slice.count > 0) run.tail = end == size && slice.count < count ? slice.count : 0;
  run.handed = end;
  return slice;
}

// --- position, figures

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
