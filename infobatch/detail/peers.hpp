#pragma once

#include <infobatch/detail/draw_window.hpp>
#include <infobatch/detail/exact_mean.hpp>
#include <infobatch/session.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace infobatch::detail {

/// The sessions that hold the other ranges of a table (IdRange), as whoever plans sees them: sums,
/// counts and draws of one range become those of all. Every call is one of all ranks, in the same
/// order.
class Peers {
 public:
  Peers() = default;
  Peers(const IdRange& range, Gather gather) : range_(range), gather_(std::move(gather)) {}

  const IdRange& range() const { return range_; }

  /// What every rank gave, in their order.
  template <typename T>
  std::vector<T> gather(const T* own, std::size_t count) const {
    std::vector<T> all(count * static_cast<std::size_t>(range_.ranks));
    gather_(own, count * sizeof(T), all.data());
    return all;
  }

  /// The sum of all of them.
  ScoreSum total(const ScoreSum& own) const;
  /// values[i] becomes the sum of all of them.
  void add_up(std::int64_t* values, std::size_t count) const;
  /// The draws of all ranks.
  DrawWindow all_of(const DrawWindow& own) const;

 private:
  IdRange range_;
  Gather gather_;
};

/// What a rank tells the others of its range.
struct RangeReport {
  std::int64_t first = 0;
  std::int64_t size = 0;
  std::int64_t total = 0;
  std::int64_t rule_version = 0;
  std::uint64_t config = 0;  ///< a digest of all options
};

/// Whether the ranges of all ranks are one table of one run.
/// @throws StateError  naming what differs, the gap or the overlap, and the rank.
void check_ranges(const std::vector<RangeReport>& reports);

}  // namespace infobatch::detail
