#pragma once

#include <infobatch/session/soundness.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace infobatch::detail {

/// What of a plan was delivered: batches, in order, and which of them are not observed whole yet.
/// Moves the figures of `EpochFacts` that speak of delivery.
class Delivery {
 public:
  /// Makes room for one batch more, so that `deliver` cannot fail.
  /// @throws std::bad_alloc
  void reserve() {
    if (runs_.size() == runs_.capacity()) grow();
  }

  /// Delivery (re)starts at a position: no batch is out.
  void start_at(EpochFacts& facts, std::int64_t position) noexcept;

  /// A batch of `count` samples where `asked` were asked for; 0: the end of the plan.
  void deliver(EpochFacts& facts, std::int64_t asked, std::int64_t count) noexcept;
  /// `count` rows of a loader whose batches are not known.
  void deliver_rows(EpochFacts& facts, std::int64_t count) noexcept;

  /// Size of the oldest batch that is not observed whole; 0: there is none.
  std::int64_t oldest() const { return first_ < runs_.size() ? runs_[first_].size : 0; }
  /// Rows delivered since the last update.
  std::int64_t pulled() const { return pulled_; }

  /// An update in order that passed its checks observed `count` samples.
  void observed(EpochFacts& facts, std::int64_t count) noexcept;
  /// The same by ids; `covered` positions are observed now.
  void observed_by_ids(EpochFacts& facts, std::int64_t covered) noexcept;

 private:
  /// Batches of one size that follow one another. Loaders ask for batches of one size, so a few
  /// runs stand for an epoch, however far ahead it is delivered.
  struct Run {
    std::int64_t size;
    std::int64_t count;
  };

  void grow();
  void check_lag(EpochFacts& facts) noexcept;
  void note_update(EpochFacts& facts) noexcept;

  std::vector<Run> runs_;  // from first_ on: not observed whole
  std::size_t first_ = 0;  // the oldest
  std::int64_t pulled_ = 0;
  std::int64_t pulled_before_update_ = 0;  // all rows until the first update
};

// Delivering a batch is all that `next` does in the midst of an epoch: inline.

/// Check (a), which the session has made: what was observed so far is verified, if as many samples
/// are out as ever.
inline void Delivery::check_lag(EpochFacts& facts) noexcept {
  if (facts.updates == 0) {
    facts.lag = std::max(facts.lag, facts.delivered - facts.observed);
  } else if (facts.by == ObservedBy::kOrder && !facts.lookahead) {
    // Fewer are out than the loader uses to have out: more updates than batches, from somewhere on.
    if (facts.delivered - facts.observed < facts.lag) facts.slipped = true;
    if (!facts.slipped) facts.verified = facts.observed;
  }
}

inline void Delivery::deliver(EpochFacts& facts, std::int64_t asked, std::int64_t count) noexcept {
  if (count == 0) {
    facts.came_back = true;
    return;
  }
  check_lag(facts);
  facts.delivered += count;
  facts.batch = asked;
  facts.last = count;
  if (first_ < runs_.size() && runs_.back().size == count) {
    ++runs_.back().count;
  } else {
    runs_.push_back({count, 1});  // there is room: reserve()
  }
}

}  // namespace infobatch::detail
