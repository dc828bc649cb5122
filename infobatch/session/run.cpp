#include <infobatch/detail/annealing.hpp>
#include <infobatch/detail/backend.hpp>
#include <infobatch/detail/budget.hpp>
#include <infobatch/detail/float_environment.hpp>
#include <infobatch/detail/options.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session/run.hpp>

#include <algorithm>
#include <cstdio>
#include <new>
#include <utility>

// How epochs follow one another: the end of one, the plan of the next, and what is warned of.

namespace infobatch {

using detail::message;

namespace {

detail::FoldRanges ranges_of(const detail::Trusted& trusted) {
  return {{{0, trusted.gap_begin}, {trusted.gap_end, trusted.end}}};
}

const detail::Backend& named_backend(const std::string& name) {
  if (const detail::Backend* const found = detail::find_backend(name)) return *found;
  std::vector<std::string> names;
  for (const detail::Backend* const backend : detail::backends()) names.emplace_back(backend->name);
  throw InvalidArgument(message("Session: backend must be one that was loaded (",
                                detail::join(names, ", "),
                                "), got \"",
                                name,
                                "\""));
}

/// Of what a session is made of that works on this backend; "": the system's.
detail::MemorySource memory_of(const std::string& name) {
  return name.empty() ? detail::MemorySource{} : named_backend(name).memory;
}

/// Size, config and threads are checked together, so that the message lists everything.
std::int64_t checked(std::int64_t size, const Config& config, int threads) {
  const std::vector<std::string> found = Session::problems(size, config, threads);
  if (!found.empty()) throw InvalidArgument("Session: " + detail::join(found, "; "));
  return size;
}

}  // namespace

Session::Impl::Impl(std::int64_t given_size,
                    Config given,
                    int threads,
                    Wording words,
                    const std::string& backend_name)
    : size(checked(given_size, given, threads)),
      config(std::move(given)),
      wording(std::move(words)),
      columns(
          size, find_policy(config.policy)->card.columns, memory_of(backend_name), config.record),
      policy_(find_policy(config.policy)),
      plan_config_(config),
      threads_(threads),
      made_for_(backend_name.empty() ? nullptr : &named_backend(backend_name)),
      drop_last_(config.drop_last),
      spare_staged_(memory_of(backend_name)),
      spare_overwritten_(memory_of(backend_name)) {
  for (int c = 0; c < policy_->card.columns.size; ++c) {
    const ColumnCard& card = policy_->card.columns[c];
    const double weight = number_of(config, card.weight);
    fold_columns_.push_back(
        {card.fold, 1.0 - weight, columns.policy()[static_cast<std::size_t>(c)]});
  }
  start(running_, totals_);
}

/// What the facts of an epoch take over from the run, and from the epochs before it.
void Session::Impl::start(Epoch& epoch, const detail::Totals& before) const noexcept {
  epoch.facts.drop_last = drop_last_;
  epoch.facts.lookahead = config.lookahead;
  epoch.facts.known_lag = before.known_lag;
  epoch.facts.known_batch = before.known_batch;
}

void Session::Impl::declare_drop_last(std::optional<bool> drop_last) noexcept {
  drop_last_ = drop_last;
  running_.facts.drop_last = previous_.facts.drop_last = drop_last_;
}

void Session::Impl::set_column(const std::string& name, ColumnType type, const void* data) {
  const bool frozen = reported().entered || reported().number > 0 || totals_.epochs > 0;
  if (name != detail::SamplingWeights::kColumn) return columns.set(name, type, data, frozen);
  const double mean = checked_sampling_weights(type, data);
  columns.set(name, type, data, frozen);
  if (frozen) return;  // it has these values already
  weights_ = {reinterpret_cast<const float*>(columns.find(name)->values.data()), mean};
  unplan(running_);
}

/// Their mean, rounded once.
double Session::Impl::checked_sampling_weights(ColumnType type, const void* data) const {
  const auto refuse = [](const std::string& what) {
    throw InvalidArgument(message("set_column: ", detail::SamplingWeights::kColumn, " ", what));
  };
  const PolicyCard& card = policy_->card;
  if (peers_) refuse("must not be set in a range of a larger table: its mean is not known");
  if (card.prunes && !(card.rescales && config.rescale)) {
    refuse(
        message("needs a policy that rescales what it keeps, got ",
                card.rescales ? "rescale = false" : "policy \"" + std::string(card.name) + "\""));
  }
  if (type != ColumnType::kFloat32) {
    refuse(message("must be float32, got ", detail::dtype_name(type)));
  }
  const auto* const values = static_cast<const float*>(data);
  if (values == nullptr) return 1.0;  // refused with every other column, but for an empty set
  const detail::DefaultFloatEnvironment float_environment;
  for (std::int64_t i = 0; i < size; ++i) {
    if (is_finite(values[i])) continue;
    refuse(message("must be finite and above 0, got ", values[i], " at ", i));
  }
  Team team(1);
  const double mean = sum_scores(values, size, team).mean();
  const std::string problem = detail::sampling_weights_problem(values, size, mean);
  if (!problem.empty()) refuse(problem);
  return mean;
}

// --- position

bool Session::Impl::over(const Epoch& epoch) const {
  return epoch.plan && ending_of(epoch.facts) != detail::Ending::kOpen;
}

std::int64_t Session::Impl::epoch() const {
  const bool next = !looked_ && !pinned_ && over(running_);
  return running_.number + (next ? 1 : 0);
}

double Session::Impl::progress() const {
  const Epoch& run = reported();
  std::int64_t observed = run.facts.observed;
  // Where a framework splits, this rank observes its part of the whole plan; a state has all parts.
  if (distributed() && !sharded()) {
    observed =
        std::min(run.facts.kept, run.facts.loaded + (observed - run.facts.loaded) * ranks_.size);
    // What fills the last batch up may have been observed by another rank, before the load.
    if (run.facts.loaded > 0 && run.facts.kept - observed < ranks_.size) observed = run.facts.kept;
  }
  double share = run.facts.begun ? 1.0 : 0.0;  // an empty epoch is over when it has begun
  if (run.facts.kept > 0) {
    share = static_cast<double>(observed) / static_cast<double>(run.facts.kept);
  }
  // A tail that is declared to be dropped does not come any more. Where a part of it comes all the
  // same, the epoch is open again, but progress does not go back: a learning rate follows it.
  const bool tail_was_due = !run.facts.rows && run.facts.delivered == run.facts.kept &&
                            run.facts.last < run.facts.batch &&
                            run.facts.observed + run.facts.last >= run.facts.kept;
  if (run.facts.drop_last.value_or(false) && (over(run) || tail_was_due)) share = 1.0;
  return std::min(1.0,
                  (static_cast<double>(run.number) + share) / static_cast<double>(config.epochs));
}

Statistics Session::Impl::statistics() const {
  const Epoch& run = reported();
  const detail::Totals& totals = reported_totals();
  Statistics figures = run.statistics;
  figures.epoch = run.number;
  figures.size = size;
  const std::int64_t pruned = totals.pruned + figures.pruned;
  figures.samples_full = totals.samples + (figures.planned ? size : 0);
  figures.samples_planned = figures.samples_full - pruned;
  if (figures.samples_full > 0) {
    figures.saved = static_cast<double>(pruned) / static_cast<double>(figures.samples_full);
    figures.actual_saved = static_cast<double>(pruned) /
                           static_cast<double>(samples_of_run(config, size, so_far(totals)));
  }
  figures.promised_saved = config.target_saved;
  figures.dropped_total = totals.dropped;
  figures.non_finite_epoch = run.log.non_finite();
  figures.non_finite_total = totals.non_finite + figures.non_finite_epoch;
  return figures;
}

// --- the next plan

void Session::Impl::make_plan(Epoch& epoch) {
  const detail::DefaultFloatEnvironment float_environment;
  const detail::PlanRequest request{plan_config_,
                                    *policy_,
                                    epoch.number,
                                    size,
                                    columns.scores(),
                                    columns.policy_data(),
                                    weights_,
                                    peers_.get(),
                                    so_far(totals_),
                                    /*restored=*/nullptr,
                                    threads_,
                                    backend()};
  epoch.delivery.reserve();
  detail::PlannedEpoch planned = detail::plan_epoch(request, std::exchange(spare_plan_, {}));
  if (sharded()) {
    deal(epoch, std::move(planned.plan), /*origin=*/0, {});
  } else {
    epoch.plan = std::move(planned.plan);
  }
  epoch.plan_ranks = ranks_.size;
  epoch.choice = planned.choice;
  epoch.statistics = planned.statistics;
  epoch.facts.kept = epoch.plan->size();
  note_plan(epoch);
}

void Session::Impl::ensure_plan() {
  if (!running_.plan) make_plan(running_);
}

/// The epoch is not planned, as before `make_plan`. Nothing of it may have begun.
void Session::Impl::unplan(Epoch& epoch) noexcept {
  recycle_plan(epoch);
  epoch.plan = detail::PlanHolder();
  epoch.whole = detail::PlanHolder();
  epoch.share = {};
  epoch.statistics = Statistics{};
  epoch.facts.kept = 0;
  epoch.log.forget_positions();
}

/// The memory of a plan that nobody reads any more serves the next one.
void Session::Impl::recycle_plan(Epoch& epoch) noexcept {
  detail::PlanHolder& holder = epoch.whole ? epoch.whole : epoch.plan;
  if (auto arrays = holder.release_arrays()) spare_plan_ = std::move(*arrays);
}

void Session::Impl::note_plan(const Epoch& epoch) noexcept {
  if (policy_->card.prunes && pruned_epochs(config) == 0) {
    warnings.found(WarningKind::kNeverPrunes, {});
  }
  // The last pruned epoch's plan settles it.
  detail::Totals settled = totals_;
  settled.pruned += epoch.statistics.pruned;
  if (config.target_saved && policy_->card.prunes && pruned_epochs(config) > 0 &&
      epoch.number >= annealing_start(config) - 1 &&
      falls_short(plan_config_, size, so_far(settled), epoch.choice.limited)) {
    detail::WarningFigures figures;
    figures.promised = *config.target_saved;
    figures.got = static_cast<double>(settled.pruned) /
                  static_cast<double>(samples_of_run(config, size, so_far(settled)));
    warnings.found(WarningKind::kShortfall, figures);
  }
}

/// An epoch that was delivered and never observed: the third line is missing.
void Session::Impl::note_forgotten(const Epoch& left) noexcept {
  const detail::EpochFacts& facts = left.facts;
  if (!left.plan || facts.by != detail::ObservedBy::kNone) return;
  if (facts.delivered == 0 || facts.delivered < facts.kept) return;
  detail::WarningFigures figures;
  figures.epoch = left.number;
  figures.count = facts.delivered;
  figures.of = facts.kept;
  figures.batch = facts.batch;
  warnings.found(WarningKind::kForgotten, figures);
}

// --- the end of an epoch

detail::FoldArrays Session::Impl::fold_arrays(const Epoch& epoch) const noexcept {
  // Reading and folding share the arrays; who folds is not const.
  auto& self = const_cast<Impl&>(*this);
  auto& its = const_cast<Epoch&>(epoch);
  if (epoch.taken.done) {
    return {self.columns.scores(),
            whole_of(epoch)->ids(),
            its.taken.losses.data(),
            its.overwritten.data(),
            kept_of(epoch),
            self.columns.size()};
  }
  return {self.columns.scores(),
          epoch.plan->ids(),
          its.log.data(),
          its.overwritten.data(),
          epoch.facts.kept,
          self.columns.size()};
}

/// Folds the running epoch, and makes `next` the running one, planned. Nothing has changed where it
/// throws.
void Session::Impl::look(std::int64_t next) {
  const detail::Warnings before = warnings;
  end_epoch(next);
  try {
    make_plan(running_);
  } catch (...) {
    unlook();
    warnings = before;
    throw;
  }
}

/// The same without a plan.
void Session::Impl::end_epoch(std::int64_t next) {
  const detail::DefaultFloatEnvironment float_environment;
  detail::EpochFacts& facts = running_.facts;
  const bool taken = running_.taken.done;  // what is not to enter is unseen in it
  const std::int64_t kept = kept_of(running_);
  const detail::Trusted trusted = taken ? detail::Trusted{kept, 0, 0} : trusted_of(facts);
  const bool folds = trusted.count() > 0;
  if (folds && fold_rule(running_).needs_memory()) {
    const std::int64_t memory = fold_rule(running_).memory(kept);
    spare_overwritten_.resize(memory);
    running_.overwritten = std::move(spare_overwritten_);
  }

  std::int64_t non_finite = 0;
  if (folds) {
    const detail::FoldArrays arrays = fold_arrays(running_);
    const detail::FoldRule rule = fold_rule(running_);
    const detail::Workers workers(trusted.end, threads_, backend());
    non_finite = workers.fold(rule, arrays, ranges_of(trusted));
  }
  running_.folded = trusted;

  detail::Totals totals = totals_;
  const detail::Ending ending = ending_of(facts);
  bool counts = facts.by != detail::ObservedBy::kNone || running_.delivered ||
                (running_.plan && ending != detail::Ending::kOpen);
  std::int64_t lost = facts.by == detail::ObservedBy::kOrder ? facts.observed - trusted.count() : 0;
  if (taken) {  // all ranks count alike
    counts = running_.taken.observed > 0 || running_.taken.over;
    lost = running_.taken.dropped;
  } else if (!running_.log.lent()) {
    non_finite = running_.log.non_finite();
  }
  if (counts) {
    totals.epochs += 1;
    totals.samples += size;
    totals.pruned += size - kept;
    totals.non_finite += non_finite;
    totals.dropped += lost;
  }
  if (facts.by == detail::ObservedBy::kOrder && ending != detail::Ending::kOpen && !facts.lag_cut &&
      facts.updates > 0 && !facts.lookahead) {
    totals.known_lag = facts.lag;
    totals.known_batch = facts.batch;
  }
  detail::WarningFigures figures;
  figures.epoch = running_.number;
  figures.of = kept;
  figures.count = lost;
  if (lost > 0) warnings.found(WarningKind::kUnsound, figures);
  figures.count = non_finite;
  if (non_finite > 0) warnings.found(WarningKind::kNonFinite, figures);

  previous_ = std::exchange(running_, Epoch{});
  previous_totals_ = std::exchange(totals_, totals);
  looked_ = true;
  look_at(next);
}

/// The finished epoch stays folded, and another one is looked at. Where it throws, it is the one
/// from before, which `ensure_plan` plans again.
void Session::Impl::look_elsewhere(std::int64_t next) {
  const std::int64_t before = running_.number;
  look_at(next);
  try {
    make_plan(running_);
  } catch (...) {
    look_at(before);
    throw;
  }
}

/// What is looked at is this epoch, not planned.
void Session::Impl::look_at(std::int64_t number) noexcept {
  unplan(running_);
  running_ = Epoch{};
  running_.number = number;
  start(running_, totals_);
}

/// The finished epoch is the running one again, and the scores are what they were.
void Session::Impl::unlook() noexcept {
  if (!looked_) return;
  looked_ = false;
  recycle_plan(running_);
  running_ = std::exchange(previous_, Epoch{});
  totals_ = previous_totals_;
  const detail::Trusted folded = std::exchange(running_.folded, {});
  if (folded.count() > 0) {
    const detail::FoldArrays arrays = fold_arrays(running_);
    const detail::FoldRule rule = fold_rule(running_);
    const detail::Workers workers(folded.end, /*threads=*/1, backend());
    workers.unfold(rule, arrays, ranges_of(folded));
  }
  if (running_.overwritten.capacity() > 0) spare_overwritten_ = std::move(running_.overwritten);
}

/// The finished epoch is history; its memory serves the next one, unless somebody still reads it.
void Session::Impl::commit_look() noexcept {
  if (!looked_) return;
  looked_ = false;
  resumed_ = false;
  if (totals_.epochs > previous_totals_.epochs) note_kept(previous_);
  spare_staged_ = previous_.log.release();
  if (previous_.overwritten.capacity() > 0) spare_overwritten_ = std::move(previous_.overwritten);
  recycle_plan(previous_);
  previous_ = Epoch{};
}

/// The record of an epoch that counts: what its plan had.
// NOLINTNEXTLINE(readability-make-member-function-const): the columns are the session's
void Session::Impl::note_kept(const Epoch& left) noexcept {
  const auto record = columns.record();
  if (record.size == 0) return;
  const Plan& plan = *whole_of(left).get();
  const auto epoch = static_cast<std::int32_t>(std::min<std::int64_t>(left.number, INT32_MAX));
  for (std::int64_t p = 0; p < plan.size(); ++p) {
    const std::int64_t id = plan.ids()[p];
    record[0].values[id] += 1;
    record[1].values[id] = epoch;
  }
}

/// The running epoch at its beginning: nothing delivered, nothing observed, the same plan.
void Session::Impl::rewind() noexcept {
  detail::EpochFacts fresh;
  fresh.kept = running_.facts.kept;
  running_.facts = fresh;
  start(running_, totals_);
  running_.delivery.start_at(running_.facts, 0);
  running_.log.clear();
  running_.taken = {};
  running_.iterating = running_.skips_covered = running_.delivered = false;
  running_.suspicion.clear();
  resumed_ = false;
}

void Session::Impl::discard_epoch() noexcept {
  unlook();
  rewind();
}

// --- from one epoch to the next

/// What may fail of a call is done by `prepare`, in a way that can be taken back. Then what it
/// found to warn of is delivered, with the lock released, and whatever other calls changed
/// meanwhile, `prepare` is asked again, until there is nothing to deliver and the caller may
/// commit.
template <typename Prepare>
void Session::Impl::prepare_and_deliver(Lock& lock, const Prepare& prepare) {
  const bool looked_before = looked_;
  const bool planned_before = static_cast<bool>(running_.plan);
  const std::int64_t number_before = running_.number;
  try {
    while (true) {
      prepare();
      if (!warnings.pending() || warnings_held) return;
      const detail::Warnings before = warnings;
      deliver(lock);
      if (warnings.same_pending(before)) return;  // no memory for the text: it stays for later
    }
  } catch (...) {
    if (!looked_before) {
      unlook();
    } else if (looked_ && running_.number != number_before) {
      look_at(number_before);
    }
    if (!planned_before && running_.number == number_before && !running_.entered) unplan(running_);
    throw;
  }
}

/// A lent array may have been written to since the next epoch was looked at: then the look is old.
void Session::Impl::drop_old_look() noexcept {
  if (!looked_ || !previous_.log.lent() || previous_.folded.count() == 0) return;
  if (previous_.taken.done) return;  // what all ranks have taken stays
  const detail::DefaultFloatEnvironment float_environment;
  const detail::FoldArrays arrays = fold_arrays(previous_);
  const detail::FoldRule rule = fold_rule(previous_);
  const detail::Trusted folded = previous_.folded;
  const bool current = still_folded(rule, arrays, {0, folded.gap_begin}) &&
                       still_folded(rule, arrays, {folded.gap_end, folded.end});
  if (!current) unlook();
}

void Session::Impl::prepare_begin() {
  drop_old_look();
  if (looked_) {
    ensure_plan();
    return note_forgotten(previous_);
  }
  if (distributed()) {
    if (stays() != 0 && !running_.taken.done) return ensure_plan();
    require_exchange("begin");
  }
  const bool taken = running_.taken.done;
  const bool finished = taken ? running_.taken.over : over(running_);
  if (resumed_ && !finished && !taken) return;
  const bool observed =
      taken ? running_.taken.observed > 0 : running_.facts.by != detail::ObservedBy::kNone;
  if (pinned_ || (!observed && !finished)) {
    ensure_plan();
    if (!pinned_) note_forgotten(running_);
    return;
  }
  if (running_.number >= kMaxEpochs) {
    throw StateError(message("begin: epochs must be at most ", kMaxEpochs, ", got the next one"));
  }
  look(running_.number + 1);
  note_forgotten(previous_);
}

void Session::Impl::begin(Lock& lock) {
  prepare_and_deliver(lock, [&] { prepare_begin(); });
  if (looked_) {
    commit_look();
    rewind();
  } else if (resumed_ && !over(running_)) {
    detail::EpochFacts& facts = running_.facts;
    facts.verified = facts.proven;
    running_.delivery.start_at(facts, running_.skips_covered ? 0 : facts.observed);
  } else {
    rewind();
  }
  pinned_ = false;
  running_.iterating = running_.entered = running_.facts.begun = true;
}

/// Plans an epoch and looks at it, unless it is the running one.
void Session::Impl::prepare_epoch(std::int64_t epoch) {
  drop_old_look();
  if (reported().number == epoch) return;  // the same one once more
  if (distributed() && !looked_ && running_.entered) require_exchange("set_epoch");
  if (!looked_) {
    look(epoch);
  } else if (running_.number != epoch) {
    look_elsewhere(epoch);
  } else {
    ensure_plan();
  }
  note_forgotten(previous_);
}

void Session::Impl::set_epoch(std::int64_t epoch, Lock& lock) {
  if (epoch < 0 || epoch > kMaxEpochs) {
    throw InvalidArgument(
        message("set_epoch: epoch must be in [0, ", kMaxEpochs, "], got ", epoch));
  }
  prepare_and_deliver(lock, [&] { prepare_epoch(epoch); });
  if (looked_ && running_.number == epoch) {
    commit_look();
  } else {
    unlook();
  }
  pinned_ = true;
}

void Session::Impl::prepare_plan() {
  drop_old_look();
  // On several ranks the next epoch shows when their losses were exchanged.
  const bool shows_next = !distributed() && over(running_);
  if (!looked_ && !pinned_ && shows_next && running_.number < kMaxEpochs) {
    look(running_.number + 1);
  } else {
    ensure_plan();
  }
}

std::shared_ptr<const Plan> Session::Impl::plan(Lock& lock) {
  // What holds the plan takes memory, so it is made before anything is planned.
  const auto held = std::make_shared<PlanRef>();
  prepare_and_deliver(lock, [&] { prepare_plan(); });
  *held = running_.plan.lend();
  return {held, held->get()};
}

std::int64_t Session::Impl::length(Lock& lock) {
  prepare_and_deliver(lock, [&] { prepare_plan(); });
  return running_.facts.kept;
}

// --- warnings

void Session::Impl::deliver(Lock& lock) {
  while (warnings.pending() && !warnings_held) {
    std::string text;
    try {
      text = warnings.take(config, wording);
    } catch (const std::bad_alloc&) {
      return;  // it is still pending, and told when there is memory
    }
    const std::shared_ptr<const WarningHandler> receiver = handler;
    lock.unlock();
    try {
      if (receiver != nullptr && *receiver) {
        (*receiver)(text);
      } else {
        std::fprintf(stderr, "infobatch: warning: %s\n", text.c_str());
      }
    } catch (...) {
      lock.lock();
      throw;
    }
    lock.lock();
  }
}

bool Session::Impl::next_warning(std::string* text, WarningKind* kind) {
  if (!warnings.pending()) return false;
  *text = warnings.take(config, wording, kind);
  return true;
}

}  // namespace infobatch
