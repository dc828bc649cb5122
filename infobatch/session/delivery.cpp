#include <infobatch/session/delivery.hpp>

#include <algorithm>

namespace infobatch::detail {

void Delivery::grow() {
  constexpr std::size_t kFewest = 16;
  runs_.reserve(std::max(kFewest, 2 * runs_.capacity()));
}

void Delivery::start_at(EpochFacts& facts, std::int64_t position) noexcept {
  runs_.clear();
  first_ = 0;
  pulled_ = pulled_before_update_ = 0;
  facts.start = facts.delivered = position;
  facts.updates = facts.batch = facts.last = facts.offset = facts.lag = 0;
  facts.part = facts.short_part = 0;
  facts.rows = facts.came_back = facts.lag_cut = facts.slipped = false;
}

void Delivery::deliver_rows(EpochFacts& facts, std::int64_t count) noexcept {
  if (count == 0) {
    facts.came_back = true;
    return;
  }
  facts.rows = true;
  if (facts.updates == 0) {
    pulled_before_update_ += count;
  } else if (pulled_ == 0 && facts.batch > 0) {  // a batch begins
    check_lag(facts);
  }
  pulled_ += count;
  facts.delivered += count;
}

void Delivery::note_update(EpochFacts& facts) noexcept {
  if (facts.updates == 0) facts.lag_cut = facts.delivered == facts.kept;
  ++facts.updates;
}

void Delivery::observed(EpochFacts& facts, std::int64_t count) noexcept {
  if (facts.rows) {
    // What was out at the first update, less the batch that it brought, is how far it runs ahead.
    const bool shows_batch = pulled_ > 0 && facts.delivered < facts.kept && !facts.lookahead;
    if (facts.updates > 0 && facts.batch == 0 && shows_batch) {
      facts.batch = pulled_;
      facts.lag = pulled_before_update_ - facts.batch;
    }
    if (facts.part == 0) facts.part = count;
    pulled_ = 0;
  } else {
    const std::int64_t size = oldest();
    if (facts.part == 0) facts.part = count == size - facts.offset ? kWholeBatch : count;
    facts.split = facts.split || facts.part != kWholeBatch;
    if (facts.offset == 0 && count < std::min(facts.part, size)) facts.short_part = count;
    facts.offset += count;
    if (facts.offset == size) {
      facts.offset = facts.short_part = 0;
      if (--runs_[first_].count == 0) ++first_;
      if (first_ == runs_.size()) {
        runs_.clear();
        first_ = 0;
      }
    }
  }
  note_update(facts);
  facts.by = ObservedBy::kOrder;
  facts.observed += count;
}

void Delivery::observed_by_ids(EpochFacts& facts, std::int64_t covered) noexcept {
  note_update(facts);
  facts.by = ObservedBy::kIds;
  facts.observed = covered;
  pulled_ = 0;
}

}  // namespace infobatch::detail
