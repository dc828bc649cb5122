#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session/run.hpp>

#include <algorithm>
#include <utility>

// The step: samples are delivered, losses are written down beside them, weights are read.

namespace infobatch {

using detail::message;
using detail::ObservedBy;
using detail::UpdateFault;

namespace {

void check_array(const char* function, const char* name, const void* data, std::int64_t count) {
  if (count < 0) {
    throw InvalidArgument(message(function, ": count must be at least 0, got ", count));
  }
  if (count > 0 && data == nullptr) {
    throw InvalidArgument(message(function, ": ", name, " must not be null, got null"));
  }
}

/// Ids and weights of rows, where no row may be too many to count their bytes.
void check_rows(const char* function,
                const std::int64_t* ids,
                const float* weights,
                std::int64_t count) {
  check_array(function, "ids", ids, count);
  check_array(function, "weights", weights, count);
  if (count > kMaxSize) {
    throw InvalidArgument(message(function, ": count must be at most ", kMaxSize, ", got ", count));
  }
}

std::string suspected(const std::string& suspicion) {
  return suspicion.empty() ? suspicion : suspicion + ". ";
}

[[noreturn]] void refuse_update(UpdateFault fault,
                                const detail::EpochFacts& facts,
                                std::int64_t epoch,
                                std::int64_t count,
                                std::int64_t batch,
                                const std::string& suspicion,
                                const Wording& wording) {
  const std::string cures = message(suspected(suspicion),
                                    "Pass the ids, ",
                                    wording.update_by_ids,
                                    wording.ids_hint,
                                    "; or forget this epoch's losses with ",
                                    wording.discard);
  switch (fault) {
    case UpdateFault::kNone:
    case UpdateFault::kNotDelivered:
      break;
    case UpdateFault::kBeyondBatch:
      throw StateError(message("update: losses must belong to one batch, got ",
                               count,
                               " where ",
                               batch - facts.offset,
                               " of its ",
                               batch,
                               " samples are not observed yet (epoch ",
                               epoch,
                               "): rows of two batches in one update, or losses whose first "
                               "dimension is not the batch. ",
                               cures));
    case UpdateFault::kOtherPart:
      throw StateError(message(
          "update: a batch must come back as the first one did, ",
          facts.part == detail::kWholeBatch ? std::string("whole")
                                            : message("in parts of ", facts.part, " and a rest"),
          ", so ",
          std::min(facts.short_part > 0 ? facts.short_part : facts.part, batch - facts.offset),
          " losses are pending, got ",
          count,
          " (epoch ",
          epoch,
          "): a row or a part of a batch was lost, or parts of other sizes. ",
          cures));
    case UpdateFault::kOtherBatch:
      throw StateError(
          message("update: what the loader took since the update before must be one batch of ",
                  facts.batch > 0 ? facts.batch : facts.part,
                  " rows, got ",
                  batch,
                  " rows and ",
                  count,
                  " losses (epoch ",
                  epoch,
                  "): a batch was skipped, or a row was lost. ",
                  cures));
    case UpdateFault::kOtherSize:
      throw StateError(
          message("update: every update must bring one batch of the loader, ",
                  facts.batch > 0 ? facts.batch : facts.part,
                  " losses until the end of the plan, got ",
                  count,
                  " (epoch ",
                  epoch,
                  "): a row was lost, or the loader's batches are split, which needs a "
                  "batch sampler. ",
                  cures));
  }
  throw StateError(message(
      "update: losses must belong to samples that were delivered and not observed yet, got ",
      count,
      " losses for ",
      facts.delivered - facts.observed,
      " such samples (epoch ",
      epoch,
      "): a second update on one batch, a batch that the sampler did not deliver, or a loader "
      "without this sampler. ",
      suspected(suspicion),
      "Once per batch; or pass the ids, ",
      wording.update_by_ids));
}

}  // namespace

// --- delivery

void Session::Impl::refuse_batch(std::int64_t count) const {
  if (count < 1) throw InvalidArgument(message("next: count must be at least 1, got ", count));
  throw InvalidArgument(message("next: count must be whole_batches = ",
                                config.whole_batches,
                                ", for which the epoch was planned, got ",
                                count));
}

void Session::Impl::refuse_delivery(bool rows) const {
  const detail::EpochFacts& facts = running_.facts;
  if (rows != facts.rows && facts.delivered > facts.start) {
    throw StateError(message(rows ? "next_rows" : "next",
                             ": an epoch must be delivered in one way, got ",
                             rows ? "rows after batches" : "a batch after rows",
                             " (epoch ",
                             running_.number,
                             ")"));
  }
  throw StateError(
      message("next: no more than ",
              facts.lag,
              " samples may be out before a batch is delivered, as many as before the first update "
              "of epoch ",
              running_.number,
              ", got ",
              facts.delivered - facts.observed,
              ": a row or a batch was lost, so later losses would belong to other samples. ",
              suspected(running_.suspicion),
              "Pass the ids, ",
              wording.update_by_ids,
              wording.ids_hint,
              "; or forget this epoch's losses with ",
              wording.discard,
              "; or set lookahead where a prefetcher runs further ahead later"));
}

/// Where an epoch that was observed by ids goes on: the next positions [begin, end), at most
/// `count` of them, whose samples are pending. What lies before `begin` was observed.
Session::Impl::Span Session::Impl::next_pending(std::int64_t count) const noexcept {
  const detail::EpochFacts& facts = running_.facts;
  const detail::LossLog& log = running_.log;
  const auto pending = [&](std::int64_t p) { return p >= log.end() || is_unseen(log.data()[p]); };
  std::int64_t begin = facts.delivered;
  while (begin < facts.kept && !pending(begin)) ++begin;
  std::int64_t end = begin;
  while (end < facts.kept && end - begin < count && pending(end)) ++end;
  return {begin, end};
}

/// The loop is still in the finished epoch, although somebody asked for the next one's length.
Slice Session::Impl::deliver_nothing() {
  Slice nothing{previous_.plan.lend(), previous_.facts.kept, 0};
  previous_.facts.came_back = true;
  if (!over(previous_)) unlook();  // it was not dropped: the loader came back
  return nothing;
}

// A batch takes a few nanoseconds: what is rare is done elsewhere.
template <bool kRows>
inline Slice Session::Impl::deliver(std::int64_t asked, Lock& lock) {
  // Where an epoch observed by ids goes on, a batch may have been cut short by what was observed.
  const bool other = !kRows && config.whole_batches != 0 && asked != config.whole_batches &&
                     !(running_.skips_covered && asked < config.whole_batches);
  if (asked < 1 || other) refuse_batch(asked);
  if (looked_ && previous_.iterating) return deliver_nothing();
  if (looked_ || !running_.iterating) begin(lock);
  detail::EpochFacts& facts = running_.facts;
  Span pending{facts.delivered, facts.delivered + std::min(asked, facts.kept - facts.delivered)};
  if (running_.skips_covered) pending = next_pending(asked);
  const std::int64_t count = pending.end - pending.begin;
  const bool mixed = kRows != facts.rows && facts.delivered > facts.start;
  const bool begins = !kRows || (facts.batch > 0 && running_.delivery.pulled() == 0);
  if (mixed || (count > 0 && begins && lost_before_delivery(facts))) refuse_delivery(kRows);
  running_.delivery.reserve();
  pinned_ = false;
  facts.delivered = pending.begin;
  Slice slice{running_.plan.lend(), pending.begin, count};
  if (kRows) {
    running_.delivery.deliver_rows(facts, count);
  } else {
    running_.delivery.deliver(facts, asked, count);
  }
  return slice;
}

Slice Session::next(std::int64_t count) {
  Impl::Lock lock(impl_->mutex);
  return impl_->deliver</*kRows=*/false>(count, lock);
}

Slice Session::next_rows(std::int64_t count) {
  Impl::Lock lock(impl_->mutex);
  return impl_->deliver</*kRows=*/true>(count, lock);
}

std::int64_t Session::Impl::pending() const {
  const Epoch& epoch = reported();
  if (epoch.facts.by == ObservedBy::kIds) return 0;  // an update may bring any of them
  const std::int64_t batch = epoch.delivery.oldest();
  return batch == 0 ? 0 : batch - epoch.facts.offset;
}

// --- observation in order

/// Where a framework splits the plan, the order of delivery is not known.
void Session::Impl::check_on_ranks(const Epoch& epoch) const {
  require_open(epoch);
  if (sharded()) return;
  throw StateError(
      message("update: where a framework splits the plan among ranks, only ids say whose "
              "losses these are, got losses without ids in epoch ",
              epoch.number,
              ": pass the ids, ",
              wording.update_by_ids,
              wording.ids_hint));
}

/// The epoch that `count` losses in order belong to, which is then the running one and has room for
/// them; throws where they cannot belong to it, and then nothing has changed.
inline Session::Impl::Epoch& Session::Impl::check_observation(std::int64_t count) {
  Epoch& target = reported();
  const detail::EpochFacts& facts = target.facts;
  if (distributed()) check_on_ranks(target);
  if (facts.by == ObservedBy::kIds) {
    throw StateError(message("update: epoch ",
                             target.number,
                             " is observed by ids, so every batch of it needs them, got ",
                             count,
                             " losses without ids"));
  }
  // Samples of the oldest batch; where batches are not known, rows since the update before.
  const std::int64_t batch = facts.rows ? target.delivery.pulled() : target.delivery.oldest();
  const UpdateFault fault =
      facts.rows ? check_rows_update(facts, count, batch) : check_update(facts, count, batch);
  if (fault != UpdateFault::kNone && count > 0) {
    refuse_update(fault, facts, target.number, count, batch, target.suspicion, wording);
  }
  if (count == 0) return target;
  if (!target.log.prepared(facts.kept)) target.log.prepare(facts.kept, spare_staged_);
  unlook();
  resumed_ = false;
  return running_;
}

Slice Session::Impl::observe(const float* losses, std::int64_t count) {
  check_array("update", "losses", losses, count);
  Epoch& epoch = check_observation(count);
  Slice slice{epoch.plan.lend(), epoch.facts.observed, count};
  if (count == 0) return slice;
  epoch.log.append(losses, count);
  epoch.delivery.observed(epoch.facts, count);
  return slice;
}

Slice Session::Impl::advance(std::int64_t count) {
  if (count < 0) throw InvalidArgument(message("advance: count must be at least 0, got ", count));
  Epoch& epoch = check_observation(count);
  Slice slice{epoch.plan.lend(), epoch.facts.observed, count};
  if (count == 0) return slice;
  epoch.log.append_unseen(count);
  epoch.delivery.observed(epoch.facts, count);
  return slice;
}

// --- observation by ids

void Session::Impl::observe_ids(const float* losses,
                                const std::int64_t* ids,
                                std::int64_t count,
                                float* weights) {
  check_array("update", "losses", losses, count);
  check_rows("update", ids, weights, count);
  if (count == 0) return;
  // While set_epoch tells a warning: what it is about to leave may never have been planned.
  if (looked_ && !previous_.plan) unlook();
  Epoch& target = reported();
  require_open(target);
  const bool was_planned = static_cast<bool>(target.plan);
  bool found = false;
  try {
    if (!was_planned) ensure_plan();
    if (target.facts.by == ObservedBy::kOrder) {
      throw StateError(message("update: epoch ",
                               target.number,
                               " is observed in order, without ids, so all of it must be, got ids "
                               "after ",
                               target.facts.observed,
                               " samples"));
    }
    found =
        target.log.find(*target.plan.get(), target.facts.observed, ids, count, "update", absent());
    target.log.prepare(target.facts.kept, spare_staged_);
  } catch (...) {
    if (!was_planned) unplan(running_);  // a call that fails plans nothing
    throw;
  }
  unlook();
  resumed_ = false;
  running_.entered = true;
  detail::EpochFacts& facts = running_.facts;
  const std::int64_t fresh =
      running_.log.record(*running_.plan.get(), found, facts.observed, losses, count, weights);
  running_.delivery.observed_by_ids(facts, facts.observed + fresh);
}

/// What is worth knowing of a plan without observing: nothing but the plan and where ids are in it
/// is made.
void Session::Impl::weights(const std::int64_t* ids, std::int64_t count, float* weights) {
  check_rows("weights", ids, weights, count);
  if (count == 0) return;
  Epoch& epoch = reported();
  const bool was_planned = static_cast<bool>(epoch.plan);
  const detail::Warnings warned = warnings;
  try {
    if (!was_planned) make_plan(epoch);
    const std::int64_t expected = epoch.facts.observed;
    const Plan& plan = *epoch.plan.get();
    const bool found = epoch.log.find(plan, expected, ids, count, "weights", absent());
    epoch.log.weigh(plan, found, expected, count, weights);
  } catch (...) {
    if (!was_planned) {
      unplan(epoch);
      warnings = warned;
    }
    throw;
  }
}

// --- lent arrays

EpochArrays Session::Impl::epoch_arrays() {
  Epoch& epoch = reported();
  if (!epoch.iterating) {
    throw StateError(message(
        "epoch_arrays: an epoch must have begun, got epoch ", epoch.number, ", which has not"));
  }
  epoch.log.prepare(epoch.facts.kept, spare_staged_);
  unlook();  // what is staged is to be read and written as it came
  running_.log.lend(running_.facts.kept);
  EpochArrays arrays;
  arrays.epoch = running_.number;
  arrays.size = running_.facts.kept;
  arrays.ids = running_.plan->ids();
  arrays.weights = running_.plan->weights();
  arrays.losses = running_.log.data();
  arrays.plan = running_.plan.lend();
  return arrays;
}

void Session::Impl::stage(const float* losses, std::int64_t begin, std::int64_t count) {
  Epoch& target = reported();
  const detail::EpochFacts& facts = target.facts;
  if (begin < 0 || count < 0 || begin > facts.kept - count) {
    throw InvalidArgument(message("stage: positions must be in [0, ",
                                  facts.kept,
                                  "], got [",
                                  begin,
                                  ", ",
                                  begin,
                                  " + ",
                                  count,
                                  ")"));
  }
  if (count > 0 && losses == nullptr) {
    throw InvalidArgument("stage: losses must not be null, got null");
  }
  if (facts.by == ObservedBy::kOrder && begin + count > facts.observed) {
    throw StateError(message("stage: positions must have been advanced over, which are ",
                             facts.observed,
                             ", got ",
                             begin + count));
  }
  if (count == 0) return;
  require_open(target);
  if (!target.iterating) {
    throw StateError(
        message("stage: an epoch must have begun, got epoch ", target.number, ", which has not"));
  }
  target.log.prepare(facts.kept, spare_staged_);
  unlook();
  resumed_ = false;
  const bool in_order = running_.facts.by == ObservedBy::kOrder;
  if (!in_order) running_.log.fill_unseen(running_.facts.kept);  // before it is written over
  running_.log.write(losses, begin, count);
  if (in_order) return;
  std::int64_t covered = 0;
  for (std::int64_t p = 0; p < running_.facts.kept; ++p) {
    covered += is_unseen(running_.log.data()[p]) ? 0 : 1;
  }
  running_.delivery.observed_by_ids(running_.facts, covered);
}

}  // namespace infobatch
