#pragma once

#include <infobatch/detail/buffer.hpp>
#include <infobatch/detail/owned_plan.hpp>
#include <infobatch/plan.hpp>
#include <infobatch/session.hpp>

#include <algorithm>
#include <cstdint>

namespace infobatch::detail {

/// How the samples of a plan are dealt to ranks, row by row: row j of a share is what its rank
/// delivers as its j-th sample, and row j of all ranks together is one stretch of the plan.
///
/// Places of a plan are dealt round robin. Where an epoch is resumed, what was observed before (the
/// first `origin` places) and the rest are dealt apart, each from rank 0 on, so that all ranks go
/// on in the same row whatever their number was. Rows that run out of places are padding.
///
///     origin = 0, 7 places, 3 ranks:   rank 0: 0 3 6    rank 1: 1 4 -    rank 2: 2 5 -
class Deal {
 public:
  Deal() = default;
  /// @param kept    K, places of the plan
  /// @param origin  places that were observed before, in [0, K]
  Deal(Ranks ranks, std::int64_t kept, std::int64_t origin)
      : ranks_(ranks), kept_(kept), origin_(origin) {
    history_ = rows_for(origin_, /*trims=*/false);
    rows_ = history_ + rows_for(kept_ - origin_, ranks_.padding == Padding::kTrim);
  }

  const Ranks& ranks() const { return ranks_; }
  std::int64_t kept() const { return kept_; }
  std::int64_t origin() const { return origin_; }
  /// Rows of what was observed before.
  std::int64_t history() const { return history_; }
  /// Rows of each share, the same for all ranks.
  std::int64_t rows() const { return rows_; }

  /// The place that a row stands for; -1: padding.
  std::int64_t place(std::int64_t rank, std::int64_t row) const {
    const bool old = row < history_;
    const std::int64_t place = (old ? row : row - history_) * ranks_.size + rank;
    if (old) return place < origin_ ? place : -1;
    return origin_ + place < kept_ ? origin_ + place : -1;
  }
  /// The place whose sample stands in for padding: one that another rank delivers.
  std::int64_t stand_in(std::int64_t rank, std::int64_t row) const {
    const bool old = row < history_;
    const std::int64_t begin = old ? 0 : origin_;
    const std::int64_t places = old ? origin_ : kept_ - origin_;
    return begin + ((old ? row : row - history_) * ranks_.size + rank) % places;
  }
  /// Places that the rows [0, row) of all ranks stand for: a prefix.
  std::int64_t places_before(std::int64_t row) const {
    if (row <= history_) return std::min(row * ranks_.size, origin_);
    return std::min(origin_ + (row - history_) * ranks_.size, kept_);
  }
  /// Rows that stand for places of the prefix [0, places) alone; `places` is at most `origin`.
  std::int64_t rows_within(std::int64_t places) const {
    return places == origin_ ? history_ : places / ranks_.size;
  }

 private:
  std::int64_t rows_for(std::int64_t places, bool trims) const {
    return places / ranks_.size + (!trims && places % ranks_.size != 0 ? 1 : 0);
  }

  Ranks ranks_;
  std::int64_t kept_ = 0;
  std::int64_t origin_ = 0;
  std::int64_t history_ = 0;
  std::int64_t rows_ = 0;
};

/// What a rank has of an epoch, beside the whole plan.
struct Share {
  Deal deal;
  Buffer<std::int64_t> order;  ///< [K] positions of the plan by place; empty: they are the same
  Buffer<float> row_weights;   ///< [rows] sum of the weights that all ranks have in a row

  std::int64_t position(std::int64_t place) const {
    return order.size() > 0 ? order[place] : place;
  }
};

/// The losses of all ranks, behind an exchange.
struct TakenLosses {
  bool done = false;
  Buffer<float> losses;       ///< [K] by position of the plan, raw; unseen where none entered
  std::int64_t observed = 0;  ///< samples that were observed, on all ranks
  std::int64_t dropped = 0;   ///< of which the losses do not enter
  bool over = false;          ///< on some rank nothing is to come any more
};

/// Ids and weights of one rank's rows; padding has the id of another rank's sample, and weight 0.
/// Fills in `share.row_weights`. O(K).
/// @throws std::bad_alloc
OwnedPlan* make_share(const Plan& whole, Share& share);

/// float32 as integers of the same order; smallest: no loss (`unseen`). Never-observed is the
/// largest, so that it wins.
std::int32_t ordered_bits(float loss) noexcept;
float loss_of_ordered(std::int32_t bits) noexcept;

/// 64 bits that differ where plans do, order included. O(K), a pass over ids and weights.
std::uint64_t plan_digest(const Plan& plan) noexcept;

}  // namespace infobatch::detail
