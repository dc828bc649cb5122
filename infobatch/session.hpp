#pragma once

#include <infobatch/buffer.hpp>
#include <infobatch/config.hpp>
#include <infobatch/export.h>
#include <infobatch/plan.hpp>
#include <infobatch/planner.hpp>
#include <infobatch/position_table.hpp>
#include <infobatch/statistics.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace infobatch {

class Policy;

/// A part of a plan in order of delivery, kept alive by `plan`.
struct Slice {
  std::shared_ptr<const Plan> plan;
  std::int64_t begin = 0;  ///< position of the first sample in the plan
  std::int64_t count = 0;

  const std::int64_t* ids() const { return plan->ids() + begin; }
  const float* weights() const { return plan->weights() + begin; }
};

/// How `Session::update` reduces the weighted losses of a batch.
enum class Reduction {
  kMean,          ///< sum(w * loss) / B, the official reduction
  kSum,           ///< sum(w * loss), unbiased for the sum over all samples
  kNone,          ///< w * loss for each sample
  kWeightedMean,  ///< sum(w * loss) / sum(w), a ratio estimate
};

/// What `Session::load` found.
struct LoadReport {
  std::int64_t epoch = 0;            ///< the epoch that goes on
  std::int64_t position = 0;         ///< samples of it that were already observed
  std::vector<std::string> changes;  ///< options that differ and may, e.g. "epochs: 90 -> 100"
};

/// The state machine of a run: plans epochs, hands out samples in order, records their losses.
///
/// The loop of a framework in terms of a session:
///
///     session.begin();                                   // the loader begins to iterate
///     while (slice = session.next(batch), slice.count)   // ids of the next batch
///       session.observe(losses, slice.count);            // their losses, in the same order
///
/// Epochs follow one another by themselves (rule 15) or by `set_epoch`. Losses are staged while
/// the epoch runs and enter the score table when the next one begins. Calls must not overlap in
/// time; the plans handed out may be read from any thread. Bad input is refused before anything
/// changes.
class INFOBATCH_API Session {
 public:
  using WarningHandler = std::function<void(const std::string&)>;

  /// @param size     N in [0, 2^40]: samples are 0 .. N-1.
  /// @param config   validated here.
  /// @param threads  threads of the epoch boundary; 0: as many as the process may use. Never
  ///                 changes a plan.
  /// @throws InvalidArgument  listing every problem at once.
  Session(std::int64_t size, Config config, int threads = 0);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Every broken rule of a size and a number of threads; empty when there is none.
  static std::vector<std::string> problems(std::int64_t size, int threads);

  std::int64_t size() const { return size_; }
  const Config& config() const { return config_; }

  // --- epochs -----------------------------------------------------------------------------------

  /// The running epoch, 0-based; once it is over (rule 15), the next one. An epoch that a loop
  /// broke off is not over: it is still this one, until `begin` goes on to the next.
  std::int64_t epoch() const;
  /// Begins `epoch`, unless it is the running one; then nothing changes, and a begin() behind it
  /// repeats this epoch from its start, without what was observed of it so far. Only behind a load
  /// it goes on where the epoch was interrupted.
  /// @param epoch  in [0, 2^32 - 1]; none follows the last one.
  /// @throws StateError  the running epoch was handed out to the end but not observed to the end.
  void set_epoch(std::int64_t epoch);
  /// The frozen plan of `epoch()`, made when first asked for. Cost of making it: O(N).
  std::shared_ptr<const Plan> plan();
  /// Number of samples of that plan.
  std::int64_t length() { return plan()->size(); }
  /// Forgets what the running (or just finished) epoch observed; its plan begins anew.
  void discard_epoch();

  // --- delivery ---------------------------------------------------------------------------------

  /// An iteration begins: the same plan again while nothing was observed, else the next epoch;
  /// after `load` the rest of the epoch that was interrupted.
  /// @throws StateError  as `set_epoch`.
  void begin();
  /// The next samples in the order of delivery, at most `count`; none at the end of the epoch.
  /// Fewer than `count` before the end only where an epoch that was observed by ids out of order is
  /// resumed: what was observed is left out.
  Slice next(std::int64_t count);

  // --- observation ------------------------------------------------------------------------------

  /// Records the losses of the next `count` samples and moves the cursor. No allocation but for
  /// the first call of an epoch; O(count).
  /// @param losses  [count] float32, raw and unweighted. Non-finite ones count as never observed.
  /// @return the samples that these losses belong to, with their weights.
  /// @throws StateError  more losses than samples handed out, or an epoch observed by ids.
  Slice observe(const float* losses, std::int64_t count);
  /// The same with the samples named, in any order, repeated or not.
  /// @param ids      [count], each in the plan of the running epoch.
  /// @param weights  [count] receives each row's weight.
  /// @throws IndexError  an id outside the data set or the plan; nothing was recorded.
  /// @note The first call of an epoch builds a table of 4 bytes a sample of the data set.
  void observe_ids(const float* losses,
                   const std::int64_t* ids,
                   std::int64_t count,
                   float* weights);
  /// `observe`, then the reduced loss in float64 arithmetic, rounded to float32.
  /// @param out  one value, or [count] for `Reduction::kNone`. May be `losses` itself. The means of
  ///             no losses are NaN.
  void update(const float* losses, std::int64_t count, Reduction reduction, float* out);

  // --- position, figures ------------------------------------------------------------------------

  /// (epoch + observed share of its plan) / E, at most 1. A tail that the loader drops is not
  /// observed, so with drop_last the value jumps at the end of an epoch.
  double progress() const;
  /// Samples of the running (or just finished) epoch that were observed.
  std::int64_t position() const;
  /// E * ceil(N / batch_size): no run has more steps.
  std::int64_t max_steps(std::int64_t batch_size) const;
  /// Figures of the running (or just finished) epoch. Never plans or advances anything.
  Statistics statistics() const;
  /// [N] scores; NaN: never observed. The losses of an epoch enter when the next one is planned,
  /// that is, begun or asked for its length.
  const float* scores() const { return scores_.data(); }

  /// Where warnings go; default: standard error. They are delivered when the call that found them
  /// has done its work, so a handler may throw.
  void set_warning_handler(WarningHandler handler);

  // --- state ------------------------------------------------------------------------------------

  /// The whole state as the bytes of a safetensors file. Any step will do.
  std::string serialize();
  /// Takes over a state. N, seed and policy with its parameters must match; E, delta and the
  /// number of threads may differ.
  /// @throws FileError        the bytes are no such state, or damaged.
  /// @throws InvalidArgument  the state is that of another run; every difference is listed.
  LoadReport deserialize(const std::string& bytes);
  /// Writes the state to a file, atomically: a crash leaves the old file or the new one. It is
  /// written beside it first, as `path`.tmp; several savers of one path take turns. A symbolic link
  /// is followed.
  /// @throws FileError
  void save(const std::string& path);
  LoadReport load(const std::string& path);

 private:
  /// How the losses of an epoch reach the session.
  enum class Mode { kNone, kCursor, kIds };

  /// One epoch in progress.
  struct Running {
    std::int64_t epoch = 0;
    std::shared_ptr<Plan> plan;  // null until asked for
    detail::EpochChoice choice;  // how the plan was made
    Statistics statistics;       // of the plan
    bool begun = false;          // an iteration began
    std::int64_t handed = 0;     // positions handed out
    std::int64_t batch = 0;      // largest batch asked for
    std::int64_t step = 0;       // most losses recorded at once
    std::int64_t tail = 0;       // samples of the last batch, where it was shorter than asked for
    bool drained = false;        // asked for more at the end of the plan: no batch was dropped
    bool delivered = false;      // resumed: it was over, although nothing of it was observed
    Mode mode = Mode::kNone;
    std::int64_t cursor = 0;      // kCursor: positions observed
    std::int64_t covered = 0;     // kIds: distinct positions observed
    bool skips_covered = false;   // kIds, resumed: positions that were observed are not due again
    Buffer<float> staged;         // [K] losses by position; swapped with the scores at the end
    std::int64_t staged_end = 0;  // positions from here on are not written
    std::int64_t non_finite = 0;
    detail::PositionTable positions;  // kIds, once a batch came out of order
  };

  /// Sums over the epochs before the running one.
  struct Totals {
    std::int64_t epochs = 0;
    std::int64_t pruned = 0;
    std::int64_t non_finite = 0;
  };

  /// The running epoch, or the finished one while the next is only looked at.
  const Running& shown() const { return peeked_ ? previous_ : running_; }
  const Totals& shown_totals() const { return peeked_ ? previous_totals_ : totals_; }
  static std::int64_t observed(const Running& running);
  static bool over(const Running& running);
  void require_sound(const char* function) const;
  void ensure_plan();
  void warn_of_plan();
  void warn_if_forgotten(const Running& left);
  void exchange_staged();
  Running close_epoch(std::int64_t next_epoch);
  void recycle(Running closed);
  void peek_next();
  void undo_peek();
  void commit_peek();
  void rewind();
  void prepare_staged();
  float staged_score(std::int64_t position, float loss) const;
  void find_positions(Running& target, const std::int64_t* ids, std::int64_t count);
  void warn(std::string text);
  void deliver_warnings();

  std::int64_t size_;
  Config config_;
  const Policy* policy_;
  int threads_;
  Buffer<float> scores_;  // [N]
  Running running_;
  Totals totals_;
  bool pinned_ = false;   // set_epoch was called and its iteration has not begun
  bool resumed_ = false;  // load was called and nothing was observed since
  // `length` was asked after the end of an epoch: `running_` is the next one, `previous_` the
  // finished one, and the step can be taken back as long as no iteration of the next began.
  bool peeked_ = false;
  Running previous_;
  Totals previous_totals_;
  PlanArrays spare_plan_;  // memory of a plan that nobody holds any more
  Buffer<float> spare_staged_;
  Buffer<std::int64_t> found_positions_;  // of the ids of one batch
  bool warned_non_finite_ = false;
  bool warned_forgotten_ = false;
  bool warned_shortfall_ = false;
  bool warned_unpruned_ = false;
  WarningHandler warning_handler_;
  std::vector<std::string> warnings_;  // found and not delivered yet
};

}  // namespace infobatch
