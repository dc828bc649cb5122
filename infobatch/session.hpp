#pragma once

#include <infobatch/column.hpp>
#include <infobatch/config.hpp>
#include <infobatch/export.h>
#include <infobatch/plan.hpp>
#include <infobatch/statistics.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace infobatch {

/// A part of a plan in order of delivery, kept alive by `plan`.
struct Slice {
  PlanRef plan;
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
  std::string text;                  ///< the changes, one a line
};

/// How the state of a data set that has grown or shrunk since is taken over: scores follow their
/// samples, and new samples have none.
struct Resize {
  /// [N] the id that each sample had when the state was saved, -1: it is new. nullptr: ids are what
  /// they were, those from the saved number on are new.
  const std::int64_t* origin = nullptr;

  std::int64_t saved_id(std::int64_t id, std::int64_t saved_size) const {
    if (origin != nullptr) return origin[id];
    return id < saved_size ? id : -1;
  }
};

/// The arrays of an epoch, lent to a program that does the step itself.
///
/// They live until the next epoch begins or a state is loaded; `plan` keeps ids and weights for
/// longer. Losses may be written until then, also behind a look at the next epoch (`length`,
/// `plan`).
struct EpochArrays {
  std::int64_t epoch = 0;
  std::int64_t size = 0;              ///< K
  const std::int64_t* ids = nullptr;  ///< [K] in the order of delivery
  const float* weights = nullptr;     ///< [K]
  float* losses = nullptr;            ///< [K] staged losses by position; see Session::advance
  PlanRef plan;
};

/// How the samples of an epoch get to the ranks of a distributed run.
enum class Split {
  kSharded,  ///< the session deals them: it delivers the share of its rank
  kGlobal,   ///< a framework does: every session delivers all of them, and losses come by ids
};

/// What becomes of a share that is shorter than others, so that all ranks make as many batches.
enum class Padding {
  kPad,   ///< one row more: another rank's sample, with weight 0, whose loss is not recorded
  kTrim,  ///< the places of the plan that would make shares longer than others are left out
};

/// Which part of a distributed run a session is. Plans do not depend on it (but for
/// Config::whole_batches, which counts the samples of one rank's batch).
struct Ranks {
  int rank = 0;
  int size = 1;
  Split split = Split::kSharded;
  Padding padding = Padding::kPad;
};

/// The largest table that ranges make up.
constexpr std::int64_t kMaxTable = std::int64_t{1} << 53;

/// A session's part of a table that is larger than one session, or one machine, may hold. Sample i
/// of the session is sample `first + i` of the table.
struct IdRange {
  std::int64_t first = 0;  ///< a multiple of 2048
  std::int64_t total = 0;  ///< samples of the whole table, at most 2^53
  int rank = 0;            ///< of the session that holds this part, in the order of the ranges
  int ranks = 1;
};

/// Gathers the bytes of all ranks: `all` [ranks * bytes] receives them in the order of the ranks.
/// What it throws is thrown by the call that asked for it, which has then changed nothing.
using Gather = std::function<void(const void* own, std::size_t bytes, void* all)>;

/// What a rank tells all others before losses are exchanged: a header of fixed size. On all ranks
/// everything must be equal but `rank`, `observed`, `entering` and `over`.
struct RankReport {
  std::int64_t rank = 0;
  std::int64_t ranks = 1;
  std::int64_t split = 0;
  std::int64_t padding = 0;
  std::int64_t rule_version = 0;
  std::int64_t size = 0;  ///< N
  std::uint64_t seed = 0;
  std::uint64_t config = 0;  ///< a digest of all options
  std::uint64_t scores = 0;  ///< a digest of the scores, behind a load; 0: not looked at
  std::int64_t epoch = 0;
  std::int64_t target = 0;    ///< the epoch that set_epoch is to begin; -1: the next iteration
  std::int64_t begun = 0;     ///< an iteration of the epoch has begun: there may be losses
  std::int64_t stays = 0;     ///< it goes on with this epoch: 1; 2: unless another rank does not
  std::int64_t kept = 0;      ///< K, samples of the whole plan; 0: not planned
  std::uint64_t plan = 0;     ///< a digest of it
  std::int64_t origin = 0;    ///< samples of it that were observed before a load
  std::int64_t observed = 0;  ///< rows of the share that were observed, those included
  std::int64_t entering = 0;  ///< of which the losses are sound
  std::int64_t over = 0;      ///< nothing of it is to come any more
};

/// The losses of one rank, for all others: 4 bytes a row.
struct RankLosses {
  /// kSharded: [rows of a share] bits of float32, raw, by row; those of no or an unsound loss are
  /// 0x7fc00002. To be gathered from all ranks, in their order.
  /// kGlobal: [K] integers in the order of the losses, by position of the plan. To be reduced to
  /// the largest ones of all ranks.
  const std::int32_t* bits = nullptr;
  std::int64_t count = 0;
};

/// What a rank knows of the rows of its share without asking others. Row j of all ranks together is
/// what one process would deliver as the samples [j * ranks, (j + 1) * ranks).
struct RankRows {
  std::int64_t rows = 0;
  const float* weights = nullptr;  ///< [rows] sum of the weights that all ranks have in a row
  int short_rows = 0;              ///< rows in which ranks have padding: 0 to 2
  std::int64_t row[2] = {0, 0};
  std::int64_t missing[2] = {0, 0};  ///< ranks that have padding there: the last ones
};

/// What a run may be warned of, each kind once.
enum class WarningKind {
  kNeverPrunes,  ///< no epoch of the run leaves samples out
  kForgotten,    ///< an epoch was delivered and no loss came back
  kUnsound,      ///< losses were dropped, because an epoch did not end as it should
  kNonFinite,    ///< losses were NaN or infinite
  kShortfall,    ///< the promised share was not saved
  kNotFlushed,   ///< the file system cannot flush
};

/// What messages call the functions that they name as cures; a binding gives its own.
struct Wording {
  std::string update = "update(losses)";
  std::string update_by_ids = "update(losses, ids)";
  std::string ids_hint = ", with Indexed(dataset) putting them into the batch";
  std::string discard = "discard_epoch()";
};

/// The state machine of a run: plans epochs, delivers samples in order, records their losses.
///
/// The loop of a framework in terms of a session:
///
///     session.begin();                                   // the loader begins to iterate
///     while (slice = session.next(batch), slice.count)   // ids of the next batch
///       session.observe(losses, slice.count);            // their losses, in the same order
///
/// Epochs follow one another by themselves (rule 15) or by `set_epoch`. Losses are staged while
/// the epoch runs and enter the scores when the next one begins, as far as they are sure to belong
/// to their samples (docs/rules.md, soundness).
///
/// A call that fails changes nothing: whatever it throws, it can be made again (rule 17). Calls may
/// come from any thread and wait for one another; which comes first is the caller's business.
/// Plans, once delivered, may be read from any thread.
class INFOBATCH_API Session {
 public:
  using WarningHandler = std::function<void(const std::string&)>;

  /// @param size     N in [0, 2^31], fewer with more than two classes: samples are 0 .. N-1.
  /// @param config   validated here.
  /// @param threads  threads of the epoch boundary; 0: as many as the process may use. Never
  ///                 changes a plan.
  /// @param backend  "cpu", or the name of one that load_backend() (backends.hpp) has loaded: its
  ///                 device works through the boundaries, and the session's arrays are in memory
  ///                 that host and device share. "": what the process works with, the processor
  ///                 but in tests. Never changes a plan.
  /// @throws InvalidArgument  listing every problem at once; std::bad_alloc.
  Session(std::int64_t size,
          Config config,
          int threads = 0,
          Wording wording = {},
          const std::string& backend = {});
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Every broken rule of a size and a number of threads; empty when there is none.
  static std::vector<std::string> problems(std::int64_t size, int threads);
  /// The same together with those of a config: what the constructor refuses.
  static std::vector<std::string> problems(std::int64_t size, const Config& config, int threads);

  std::int64_t size() const;
  /// The options as they were given, but for `drop_last`: see `declare_drop_last`.
  const Config& config() const;

  // --- columns ----------------------------------------------------------------------------------

  /// Gives every sample a value, e.g. `class`. Kept in the state; on load it must be equal.
  ///
  /// The engine reads one of them: `sampling_weight` (float32, above 0), what a weighted sampler
  /// would be given to balance classes. Sample i then counts weight_i / mean times an epoch, in
  /// expectation, whatever the policy leaves out (docs/policies.md, sampling weights).
  /// @param name  1 to 64 characters of a-z, 0-9 and _, no digit first, not "score", "times_kept"
  /// or
  ///              "last_kept".
  /// @param data  [N] values, copied. Any bit pattern is a value.
  /// @throws InvalidArgument  another type than before, a bad name or type, no data.
  /// @throws StateError  the first epoch has begun and the values are not those of before.
  /// @note O(N). A column's memory never moves while the session lives.
  void set_column(const std::string& name, ColumnType type, const void* data);
  /// A column as it lies in memory; "score" is the engine's.
  /// @throws InvalidArgument  there is none of that name.
  ColumnView column(const std::string& name) const;
  /// "score", those of the policy, "times_kept" and "last_kept" where there is a record, then the
  /// user's in the order of their names.
  std::vector<std::string> column_names() const;

  // --- epochs -----------------------------------------------------------------------------------

  /// The running epoch, 0-based; once it is over (rule 15), the next one. An epoch that a loop
  /// broke off is not over: it is still this one, until `begin` goes on to the next.
  std::int64_t epoch() const;
  /// Plans `epoch` and makes it the running one, unless it is that already; then nothing changes,
  /// and a begin() behind it repeats this epoch from its start, without what was observed of it so
  /// far. Only behind a load it goes on where the epoch was interrupted.
  /// @param epoch  in [0, 2^32 - 1]; none follows the last one.
  void set_epoch(std::int64_t epoch);
  /// The frozen plan of `epoch()`, made when first asked for. Cost of making it: O(N).
  std::shared_ptr<const Plan> plan();
  /// Number of samples of that plan.
  std::int64_t length();
  /// Forgets what the running (or just finished) epoch observed; its plan begins anew.
  void discard_epoch();

  // --- delivery ---------------------------------------------------------------------------------

  /// An iteration begins: the same plan again while nothing was observed, else the next epoch;
  /// after `load` the rest of the epoch that was interrupted.
  void begin();
  /// The next batch: samples in the order of delivery, at most `count`; none at the end of the
  /// epoch. Fewer than `count` before the end only where an epoch that was observed by ids out of
  /// order is resumed: what was observed is left out.
  /// @throws StateError  more samples are out than this loader uses to have out: a row or a batch
  ///                     was lost, and later losses would belong to other samples.
  /// @throws InvalidArgument  count < 1, or another size than Config::whole_batches.
  Slice next(std::int64_t count);
  /// The same for a loader that takes rows one by one, or some at a time, so that its batches are
  /// not known. Soundness is then judged by the sizes of the updates. Not to be mixed with `next`
  /// in one epoch.
  Slice next_rows(std::int64_t count);
  /// Samples of the oldest batch that are not observed yet: what the next update may bring at most.
  /// 0: no batch is out, batches are not known, or the epoch is observed by ids.
  std::int64_t pending() const;
  /// Says whether the loader drops a last batch that is short (Config::drop_last); empty: not
  /// declared.
  void declare_drop_last(std::optional<bool> drop_last);

  /// Names a cause that a refusal for unsoundness in this epoch is to mention, for what only a
  /// binding sees: the shape of a tensor, for example. It is forgotten where an epoch begins, also
  /// anew. "" names none.
  void suspect(std::string cause);

  // --- observation ------------------------------------------------------------------------------

  /// Records the losses of the next `count` samples and moves the cursor. No allocation but for
  /// the first call of an epoch; O(count).
  /// @param losses  [count] float32, raw and unweighted. Non-finite ones count as never observed.
  /// @return the samples that these losses belong to, with their weights.
  /// @throws StateError  more losses than samples delivered; not the rest of a batch or the part
  /// of
  ///                     it that the first batch fixed; an epoch observed by ids.
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
  /// Weights of samples in the plan of the running (or just finished) epoch, by id. Nothing counts
  /// as observed, and nothing but the plan is made, where there is none yet.
  /// @param ids      [count], in any order, repeated or not, each in that plan.
  /// @param weights  [count] receives each row's weight.
  /// @throws IndexError  an id outside the data set or the plan; nothing was written or planned.
  /// @note O(count), but for the first call of an epoch: O(N), and a table as for `observe_ids`.
  /// What
  ///       its plan gives to warn of waits for the next call that delivers warnings.
  void weights(const std::int64_t* ids, std::int64_t count, float* weights);
  /// `observe`, then the reduced loss in float64 arithmetic, rounded to float32.
  /// @param out  one value, or [count] for `Reduction::kNone`. May be `losses` itself. The means of
  ///             no losses are NaN.
  void update(const float* losses, std::int64_t count, Reduction reduction, float* out);

  // --- lent arrays ------------------------------------------------------------------------------

  /// The arrays of the epoch that has begun. A program that does the step itself reads weights
  /// there and writes losses there, or keeps losses of its own and hands them over with `stage`.
  /// @throws StateError  no epoch has begun.
  /// @note The first call of an epoch takes 4 bytes a sample of its plan.
  EpochArrays epoch_arrays();
  /// `observe` without the losses: checks, moves the cursor and returns the slice. The caller
  /// writes the losses to `EpochArrays::losses` at these positions, or hands them over later;
  /// positions that nobody writes until the boundary or a save count as unseen. Errors as
  /// `observe`.
  Slice advance(std::int64_t count);
  /// Hands over losses by position: those of [begin, begin + count), raw.
  ///
  /// Behind `advance`: positions that were advanced over. In an epoch without `observe` and
  /// `advance`: losses that were written by ids; positions that hold `unseen` (the bit pattern
  /// 0x7fc00002) were not met.
  /// @param losses  may be the lent array itself: then nothing is copied.
  /// @throws InvalidArgument  positions outside the plan. @throws StateError  not advanced over.
  void stage(const float* losses, std::int64_t begin, std::int64_t count);

  // --- ranks ------------------------------------------------------------------------------------
  //
  // Each rank has a session of its own, and all make the same plan. Row j of a rank's share is
  // position j * size + rank of it. A session of several ranks delivers its share: `next`, `plan`,
  // `length`, `observe` and the lent arrays speak of that, with weights of 0 for padding. Nothing
  // is exchanged in a step. Between epochs the losses have to be:
  //
  //     report = session.report_to_share(epoch);  ... gather the reports of all ranks ...
  //     session.agree(reports, ranks);            // throws on all ranks where they differ
  //     if (session.must_share(reports, ranks)) {
  //       own = session.losses_to_share();        ... gather or reduce them ...
  //       session.take_losses(all, count, reports, ranks);
  //     }
  //     session.set_epoch(epoch);                 // or begin(), with report_to_share(-1)
  //
  // Then all of them fold the same losses, so that all have the same scores: those of a rank whose
  // epoch was unsound enter nowhere, those of the others everywhere. `length`, `plan`, `epoch` and
  // `statistics` never look at the next epoch before the exchange.

  /// This session is rank `ranks.rank` of `ranks.size` from now on.
  /// @throws InvalidArgument  rank outside [0, size), size outside [1, 2^20], whole_batches * size
  ///                          above 2^31. @throws StateError  an epoch has begun.
  void set_ranks(const Ranks& ranks);
  Ranks ranks() const;
  /// The header of an exchange. O(K) in an epoch that has begun, for the digest of its plan.
  /// @param target  the epoch that is to begin; -1: the next iteration does.
  RankReport report_to_share(std::int64_t target);
  /// Whether these headers are of one run at one place.
  /// @param reports  [ranks] in the order of the ranks.
  /// @throws StateError  naming every field that differs, and which rank differs.
  void agree(const RankReport* reports, std::int64_t ranks) const;
  /// Whether losses must be exchanged now: the epoch has begun and is to be left.
  static bool must_share(const RankReport* reports, std::int64_t ranks);
  /// This rank's losses. They live until the next call of this function. O(K / ranks).
  /// @throws StateError  no epoch has begun.
  RankLosses losses_to_share();
  /// Takes over the losses of all ranks. Afterwards `begin` and `set_epoch` go on as one process
  /// would that had observed all of them; until then no more losses are taken.
  /// @param bits   [ranks][count] as gathered (kSharded), or [count] as reduced (kGlobal).
  /// @param count  that of `losses_to_share`.
  void take_losses(const std::int32_t* bits,
                   std::int64_t count,
                   const RankReport* reports,
                   std::int64_t ranks);
  /// The rows of this rank's share in the epoch that has begun; empty on one rank and in kGlobal.
  /// They live as `epoch_arrays`.
  RankRows rank_rows() const;

  // --- ranges -----------------------------------------------------------------------------------

  /// This session holds one range of a larger table from now on, as one of several ranks.
  ///
  /// Threshold, keep decisions and weights (rules 2 to 5) are then those of the whole table, to the
  /// bit as one session of it would have them; order, budget of memory and figures are of this
  /// range. A rank delivers the samples of its own range alone, so no losses travel: what does is
  /// the epoch and the exact sum of the scores, 64 bytes a rank and epoch, and with keep = "exact"
  /// counts in five or six rounds, 2 to 3 KB a rank, wherever the candidates lie.
  ///
  /// Whatever plans an epoch is then a call of all ranks together: the first of `set_epoch`,
  /// `begin`, `length` and `plan` in an epoch, and a load in the midst of one. Ranks keep as many
  /// samples as chance leaves them: how a loop of equal numbers of steps comes about is the
  /// caller's.
  ///
  /// @throws InvalidArgument  a range that is none; a policy that needs ranks of scores; another
  ///                          backend; target_saved, whole_batches, sampling weights, set_ranks.
  /// @throws StateError  the ranges are not one table of one run; an epoch has begun.
  void set_range(const IdRange& range, Gather gather);

  // --- position, figures ------------------------------------------------------------------------

  /// (epoch + observed fraction of its plan) / E, at most 1. A tail that the loader drops is not
  /// observed, so with drop_last the value jumps at the end of an epoch.
  double progress() const;
  /// Samples of the running (or just finished) epoch that were observed.
  std::int64_t position() const;
  /// E * ceil(N / batch_size): no run has more steps.
  std::int64_t max_steps(std::int64_t batch_size) const;
  /// Figures of the running (or just finished) epoch. Never plans or advances anything.
  Statistics statistics() const;
  /// [N] scores; NaN: never observed. The losses of an epoch enter when the next one is planned,
  /// that is, begun or asked for its length. The memory stays where it is.
  const float* scores() const;

  // --- warnings, words --------------------------------------------------------------------------

  /// Where warnings go; default (also for an empty handler): standard error. A handler is called by
  /// the call that found something to warn of, when the session may be used again, so it may call
  /// the session. Where it throws, the call fails with that and has not changed the session (a
  /// save has written its file); the warning counts as delivered.
  void set_warning_handler(WarningHandler handler);
  /// From now on warnings wait for `next_warning`; no handler is called.
  void hold_warnings();
  /// Takes the oldest warning that waits. @return false: there is none.
  /// @param kind  may be null.
  bool next_warning(std::string* text, WarningKind* kind = nullptr);

  /// What messages and warnings call the functions that they name as cures. No part of the state.
  Wording wording() const;
  /// From now on they call them so, warnings that wait included.
  void set_wording(Wording wording);

  // --- state ------------------------------------------------------------------------------------

  /// The whole state as the bytes of a safetensors file. Any step will do.
  /// @throws StateError  on several ranks, in an epoch that has begun: the state is in parts.
  std::string serialize();
  /// One rank's part of the state: its staged losses, and what was known of them.
  /// @param with_scores  whether scores and columns are in it; one part must have them, or the
  ///                     session that joins the parts has the same.
  std::string serialize_part(bool with_scores);
  /// The state of the whole run from the parts of all ranks, in any order, as one process would
  /// have written it. Which session joins them does not matter, and it is not changed.
  /// @throws InvalidArgument  parts are missing, or of other runs or steps: names the ranks.
  /// @throws FileError  a damaged part.
  std::string join_parts(const std::vector<std::string_view>& parts) const;
  /// Takes over a state. N, seed, policy with its parameters and the user's columns must match; E,
  /// delta, drop_last, lookahead and the number of threads may differ.
  /// @throws FileError        the bytes are no such state, or damaged.
  /// @throws InvalidArgument  the state is that of another run (every difference is listed), or of
  ///                          another schema.
  LoadReport deserialize(std::string_view bytes);
  /// The same where the data set has another size, or other samples, than when the state was saved:
  /// each takes over score, columns of the policy and record by its id of then; what is new was
  /// never observed, so it is kept until it was. Only between epochs: one that is over is ended
  /// first, with its losses. User's columns must have the values of then for the samples of then,
  /// but for `sampling_weight`. A promised share (target_saved) is one of the samples that the
  /// epochs had.
  /// @throws InvalidArgument  also in the midst of an epoch, or for an `origin` that was no sample.
  LoadReport deserialize(std::string_view bytes, const Resize& resize);
  /// Writes the state to a file, atomically: a crash leaves the old file or the new one. It is
  /// written beside it first, as `path`.tmp; several savers of one path take turns. A symbolic link
  /// is followed; the permissions of a file that is replaced are kept.
  /// @throws FileError  also where another saver holds `path`.tmp for a minute; the session is as
  ///                    before.
  void save(const std::string& path);
  /// Writes the state of the whole run from the parts of all ranks, as `save` does.
  void save_parts(const std::string& path, const std::vector<std::string_view>& parts);
  /// @throws FileError  also for what is no regular file, or larger than a state of this session
  /// can
  ///                    be; it is then not read.
  LoadReport load(const std::string& path);
  LoadReport load(const std::string& path, const Resize& resize);

  /// Writes a table of all samples as CSV, atomically as `save`: `id`, then every column by its
  /// name (`column_names`). What is unknown is an empty cell; floating-point values read back
  /// equal to the bit.
  /// @throws FileError  the file is as it was.
  void export_csv(const std::string& path) const;

 private:
  void write(const std::string& path, const std::string& state);

  class INFOBATCH_LOCAL Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace infobatch
