#pragma once

#include <infobatch/detail/draw_window.hpp>
#include <infobatch/detail/exact_mean.hpp>
#include <infobatch/session.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
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

  /// Makes `plan` and returns it; what a gather threw in it is thrown as it was, whatever has
  /// become of it on its way through the table of a backend.
  template <typename Plan>
  auto call(const Plan& plan) const {
    failure_ = nullptr;
    try {
      return plan();
    } catch (...) {
      if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
      throw;
    }
  }

  /// What every rank gave, in their order. As many from each.
  /// @throws StateError  what this rank gave did not come back in its place
  template <typename T>
  std::vector<T> gather(const T* own, std::size_t count) const {
    std::vector<T> all(count * static_cast<std::size_t>(range_.ranks));
    gather_bytes(own, count * sizeof(T), all.data());
    return all;
  }

  /// Where all ranks come to plan an epoch. What they exchange behind it follows from the options
  /// and from what is exchanged, so it is the same on all of them.
  /// @throws StateError  another epoch on some rank
  void meet(std::int64_t epoch) const;
  /// The sum of all of them.
  ScoreSum total(const ScoreSum& own) const;
  /// values[i] becomes the sum of all of them.
  void add_up(std::int64_t* values, std::size_t count) const;
  /// The draw that `rank` of those of all ranks lie before; `own` are this one's, from `low` to
  /// `high`. Some rounds of 64 counts, wherever the draws lie.
  DrawCut draw_at(std::int64_t rank,
                  std::uint64_t low,
                  std::uint64_t high,
                  std::vector<Draw> own) const;
  /// @throws StateError  always: what was gathered contradicts itself
  [[noreturn]] void refuse_counts() const;

 private:
  /// The draw of the one rank that has it.
  DrawCut one_of_all(const Draw* own, std::uint64_t low, std::uint64_t high) const;
  [[noreturn]] void refuse(const std::string& rule) const;
  void gather_bytes(const void* own, std::size_t bytes, void* all) const;

  IdRange range_;
  Gather gather_;
  mutable std::exception_ptr failure_;
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
