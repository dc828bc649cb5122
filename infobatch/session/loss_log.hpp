#pragma once

#include <infobatch/detail/buffer.hpp>
#include <infobatch/detail/position_table.hpp>
#include <infobatch/plan.hpp>

#include <cstdint>

namespace infobatch::detail {

/// The losses of an epoch by position, raw, until they are folded into the scores.
///
/// In order the positions [0, end) are written; by ids all of them, with `unseen` where no loss
/// came.
class LossLog {
 public:
  /// Memory for a whole epoch of `kept` samples. Content is kept.
  /// @param recycled  memory of an earlier log; taken over where it helps.
  /// @throws std::bad_alloc
  void prepare(std::int64_t kept, Buffer<float>& recycled);
  bool prepared(std::int64_t kept) const { return staged_.size() >= kept; }

  /// Forgets all losses; the memory stays, and stays lent where it was.
  void clear() noexcept;

  /// In order: writes the next losses and returns how many of them are not finite.
  void append(const float* losses, std::int64_t count) noexcept;
  /// In order: the next positions are observed, their losses come later (`write`, or the caller
  /// writes to `data`). Until then they are unseen.
  void append_unseen(std::int64_t count) noexcept;

  /// Where ids are in the plan; false: `ids` are just the positions from `expected` on.
  /// Cost of the first call that says true in an epoch: O(N) time, 4 bytes a sample. Nothing counts
  /// as observed by it.
  /// @param function  that a message names. @param absent  what it says of an id that is not there.
  /// @throws IndexError  naming row and id; std::bad_alloc.
  bool find(const Plan& plan,
            std::int64_t expected,
            const std::int64_t* ids,
            std::int64_t count,
            const char* function = "update",
            const char* absent = "which this epoch leaves out");
  /// The weights at the positions just found, or from `expected` on.
  void weigh(const Plan& plan,
             bool found,
             std::int64_t expected,
             std::int64_t count,
             float* weights) const noexcept;
  /// Another plan is made: where ids are is not known any more.
  void forget_positions() noexcept { positions_.clear(); }
  /// By ids: writes losses at the positions just found, or from `expected` on, and their weights.
  /// @return positions that had no loss before.
  std::int64_t record(const Plan& plan,
                      bool found,
                      std::int64_t expected,
                      const float* losses,
                      std::int64_t count,
                      float* weights) noexcept;

  /// Writes raw losses to [begin, begin + count), unseen ones included.
  void write(const float* losses, std::int64_t begin, std::int64_t count) noexcept;
  /// By ids: every position that was not written yet is unseen.
  void fill_unseen(std::int64_t kept) noexcept;
  /// Lends the whole array: from now on the caller may write anywhere in it. What was not written
  /// yet is unseen.
  void lend(std::int64_t kept) noexcept;

  float* data() { return staged_.data(); }
  const float* data() const { return staged_.data(); }
  /// Positions that are written.
  std::int64_t end() const { return end_; }
  /// Losses that were not finite, as far as they went through `append` and `record`.
  std::int64_t non_finite() const { return non_finite_; }
  /// Whether positions were lent, so that their losses are judged at the boundary.
  bool lent() const { return lent_; }
  /// For a log that is read from a saved state, or lent from the start.
  void restore(std::int64_t end, std::int64_t non_finite, bool lent) noexcept;
  Buffer<float> release() noexcept;

 private:
  Buffer<float> staged_;
  std::int64_t end_ = 0;
  std::int64_t non_finite_ = 0;
  bool lent_ = false;
  std::int64_t filled_ = 0;  // positions from end_ to here were made unseen when they were lent
  PositionTable positions_;
  Buffer<std::int64_t> found_;
};

}  // namespace infobatch::detail
