#include <infobatch/session/soundness.hpp>

#include <algorithm>

namespace infobatch::detail {
namespace {

std::int64_t batches(std::int64_t samples, std::int64_t batch) {
  return batch > 0 ? samples / batch + (samples % batch != 0 ? 1 : 0) : 0;
}

/// Whether the loader is known to run just so far ahead, so that the cursor was right at every
/// check. One that never runs ahead needs no proof: losses that are missing only make the lag
/// larger. A smaller lag than before proves nothing: of a loader that got shorter, a batch may be
/// lost as well.
bool lag_is_proven(const EpochFacts& facts) {
  if (facts.lookahead) return false;
  return facts.lag == 0 || (facts.lag == facts.known_lag && facts.batch == facts.known_batch);
}

/// Whether `count` is the first part of a short batch of `size` that is cut into as many equal
/// parts as one of `batch` samples is when its parts have `part` samples: ceil(size / k) for a k
/// with ceil(batch / k) = part.
bool is_chunk_of_short(std::int64_t batch,
                       std::int64_t part,
                       std::int64_t size,
                       std::int64_t count) {
  // NOLINTNEXTLINE(readability-suspicious-call-argument): parts of a batch, as batches of a plan
  const std::int64_t fewest = batches(batch, part);  // k
  const std::int64_t most = part > 1 ? batches(batch, part - 1) - 1 : batch;
  return count <= batches(size, fewest) && count >= batches(size, std::max(fewest, most));
}

bool tail_may_be_dropped(const EpochFacts& facts) {
  if (facts.drop_last.has_value()) return *facts.drop_last;
  return !facts.split;
}

/// The last batch is missing whole, and was short.
bool lacks_short_batch(const EpochFacts& facts) {
  const std::int64_t missing = facts.kept - facts.observed;
  if (facts.rows) {
    const std::int64_t batch = facts.batch > 0 ? facts.batch : facts.batch_before;
    const bool whole = facts.part == batch || (facts.part == 0 && facts.start > 0);
    return batch > 0 && whole && missing == (facts.kept - facts.start) % batch;
  }
  return facts.last < facts.batch && missing == facts.last && facts.offset == 0;
}

/// The resumed part shows a smaller lag than the one before it.
bool is_doubtful(const EpochFacts& facts) {
  const bool measured = facts.updates > 0 && facts.batch > 0 && !facts.lag_cut && !facts.lookahead;
  return facts.lag_batches_before > 0 && measured &&
         batches(facts.lag, facts.batch) < facts.lag_batches_before;
}

}  // namespace

UpdateFault check_update(const EpochFacts& facts, std::int64_t count, std::int64_t size) {
  if (count > facts.delivered - facts.observed) return UpdateFault::kNotDelivered;
  const std::int64_t rest = size - facts.offset;
  if (count > rest) return UpdateFault::kBeyondBatch;
  if (facts.part == 0) return UpdateFault::kNone;
  const std::int64_t part = facts.short_part > 0 ? facts.short_part : facts.part;
  if (count == std::min(part, rest)) return UpdateFault::kNone;
  const bool splits_anew = facts.offset == 0 && size < facts.batch && facts.part != kWholeBatch &&
                           is_chunk_of_short(facts.batch, facts.part, size, count);
  return splits_anew ? UpdateFault::kNone : UpdateFault::kOtherPart;
}

UpdateFault check_rows_update(const EpochFacts& facts, std::int64_t count, std::int64_t pulled) {
  if (count > facts.delivered - facts.observed) return UpdateFault::kNotDelivered;
  if (facts.part == 0) return UpdateFault::kNone;
  // What is pulled between two updates is one batch, or less at the end of the plan.
  // With lookahead it is any number.
  const bool shows_batch = facts.batch == 0 && pulled > 0 && facts.delivered < facts.kept;
  const bool lost = (shows_batch && facts.part != pulled) || pulled > facts.part;
  if (lost && !facts.lookahead) return UpdateFault::kOtherBatch;
  const bool completes = count < facts.part && facts.observed + count == facts.kept;
  return count == facts.part || completes ? UpdateFault::kNone : UpdateFault::kOtherSize;
}

Ending ending_of(const EpochFacts& facts) {
  if (!facts.begun || facts.delivered < facts.kept) return Ending::kOpen;
  const std::int64_t missing = facts.kept - facts.observed;
  if (missing == 0) return Ending::kWhole;
  if (facts.by == ObservedBy::kIds) {
    // Ids cannot shift: what is missing may be any rows, as long as it is no more than a tail.
    const bool tail = facts.last < facts.batch && missing <= facts.last;
    return tail && facts.drop_last.value_or(true) ? Ending::kTailDropped : Ending::kOpen;
  }
  if (facts.rows && facts.by == ObservedBy::kNone && facts.start == 0) {
    // Nobody knows the batch that was larger than the plan; only a declaration helps.
    return facts.drop_last.value_or(false) ? Ending::kTailDropped : Ending::kOpen;
  }
  if (!lacks_short_batch(facts) || !tail_may_be_dropped(facts)) return Ending::kOpen;
  // Of a whole epoch that is one short batch nothing comes back. A loader that only looks at it
  // asks for more behind it; one that drops it does not.
  const bool nothing_yet = facts.updates == 0 && facts.start == 0;
  if (nothing_yet && facts.came_back && !facts.drop_last.has_value()) return Ending::kOpen;
  return Ending::kTailDropped;
}

Trusted trusted_of(const EpochFacts& facts) {
  if (facts.by == ObservedBy::kNone) return {};
  if (facts.by == ObservedBy::kIds) return {facts.kept, 0, 0};
  Trusted trusted;
  if (facts.start > 0 && facts.delivered == facts.start) {
    trusted.end = facts.sure;  // what was out when it was saved was not delivered again
  } else if (ending_of(facts) != Ending::kOpen ||
             (facts.observed == facts.delivered && facts.lag == 0)) {
    // A loader that runs ahead has something out wherever a loop breaks off. Where nothing is,
    // there were more updates than batches.
    trusted.end = facts.observed;
  } else {
    trusted.end = std::max(facts.proven, lag_is_proven(facts) ? facts.verified : 0);
  }
  // A batch that was lost before the first update of the first epoch only makes the loader seem to
  // run further ahead. In one process it is missing at the end; behind a load it is delivered
  // again, and only the smaller lag of the same loader tells.
  const std::int64_t doubt_end = doubt_end_of(facts);
  if (doubt_end > facts.proven) {
    trusted.gap_begin = std::min(facts.proven, trusted.end);
    trusted.gap_end = std::min(doubt_end, trusted.end);
  }
  return trusted;
}

std::int64_t doubt_end_of(const EpochFacts& facts) {
  return is_doubtful(facts) ? facts.start : facts.doubt_end;
}

std::int64_t proven_of(const EpochFacts& facts) {
  if (facts.by != ObservedBy::kOrder) return 0;
  if (ending_of(facts) == Ending::kWhole && facts.lag_batches_before == 0 && facts.doubt_end == 0)
    return facts.observed;
  if (facts.lag_batches_before > 0 || facts.doubt_end > 0) return facts.proven;
  return std::max(facts.proven, lag_is_proven(facts) ? facts.verified : 0);
}

std::int64_t unproven_lag_batches(const EpochFacts& facts) {
  if (facts.by != ObservedBy::kOrder) return 0;
  const std::int64_t now = lag_is_proven(facts) ? 0 : batches(facts.lag, facts.batch);
  return is_doubtful(facts) ? now : std::max(now, facts.lag_batches_before);
}

}  // namespace infobatch::detail
