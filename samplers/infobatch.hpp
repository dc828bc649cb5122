#pragma once

/// The three lines for libtorch. Beside them: the criterion has `reduction = torch::kNone`, the
/// loader's own shuffling goes (the plan is shuffled), and the learning rate follows `progress()`.
///
///     infobatch::InfoBatch ib(dataset_size, infobatch::Options(/*epochs=*/200).prune_ratio(0.5));
///     auto loader = torch::data::make_data_loader(std::move(dataset), ib.sampler(), 128);
///     ... auto loss = ib.update(per_sample_loss);  loss.backward();

#include <infobatch/session.hpp>
#include <samplers/export.h>
#include <samplers/indexed.hpp>
#include <samplers/infobatch_sampler.hpp>
#include <samplers/ops.hpp>
#include <samplers/options.hpp>
#include <samplers/ranks.hpp>

#include <torch/serialize/archive.h>
#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace infobatch {

/// Skips samples that the network has already learned, without changing what the loop converges to.
///
/// A cheap handle: copies share one state. Calls may come from any thread and wait for one another;
/// the data loader's workers never touch it.
///
/// Losses may be on any device of torch. A run stays on the device that `Options::device` declares,
/// else on that of its first losses. On another device than the CPU weights and staged losses are
/// there, 8 bytes a sample (by ids 12): a step is a fixed number of tensor operations and waits for
/// nothing. Once an epoch, where the sampler begins the next one, and where a state is saved, the
/// losses come to the host in one copy. What wins over what a CPU would do: ids outside the plan
/// are told then, not in the step, and `progress` by ids counts what was delivered.
///
/// On several ranks (`Options::ranks`) `sampler`, `size` and `plan` are of this rank's share, and
/// `statistics` of the whole plan. What all ranks have to call, at the same step and in the same
/// order: the constructor, `set_epoch`, the begin of an iteration, `save` into a file or an
/// archive, `discard_epoch`; all but the last one communicate. Each of them may throw `RankError`.
/// Losses are exchanged where an epoch begins, 4 bytes a sample, and never in a step.
class INFOBATCH_SAMPLERS_API InfoBatch {
 public:
  /// @param size     N >= 0, number of samples of the data set (ids 0 .. N-1).
  /// @param options  see `Options`.
  /// @throws c10::ValueError  listing every problem of the options at once.
  /// @throws RankError  on several ranks: their options, sizes or seeds differ; all are named.
  InfoBatch(std::int64_t size, const Options& options);

  /// The sampler to hand to `torch::data::make_data_loader`. Cheap; all copies share this state.
  InfoBatchSampler sampler() const;

  /// Line 3. Records the losses of the next B samples in plan order, moves the cursor by B, and
  /// returns the reduced, re-weighted loss:
  ///
  ///     mean           sum(w * loss) / B       the official reduction, default
  ///     sum            sum(w * loss)           unbiased for the sum over all samples
  ///     none           w * loss, [B, ...]
  ///     weighted_mean  sum(w * loss) / sum(w)  keeps the step size; a ratio estimate
  ///
  /// On W ranks means divide by (rows of the step on all ranks) / W and by (sum of their weights)
  /// / W, so that the average over ranks of the gradients is that of one process. A rank with
  /// padding alone returns 0, with a gradient of 0.
  ///
  /// @param losses  [B] or [B, ...] float16, bfloat16, float32 or float64, any device and stride.
  ///                The score is the mean over the trailing dimensions (in float64 on the CPU, in
  ///                the wider of float32 and the losses' type elsewhere), the weight broadcasts.
  ///                Never modified; gradients flow through.
  /// @return float32 (float64 for double losses): scalar, or the shape of `losses` for `none`.
  /// @throws c10::ValueError, c10::TypeError  a scalar loss, a wrong dtype, another device than the
  ///                                          run's.
  /// @throws c10::Error  more losses than samples delivered (a second update on one batch);
  /// neither
  ///                     the rest of a batch nor the part of it that the first batch fixed.
  /// @note Out of place, no global state, no gather. On a device: three kernels for [B] float32
  ///       losses (two more backward), no synchronisation. The weights get there where the epoch
  ///       begins; a run that is resumed without a declared device copies them in its first step.
  torch::Tensor update(const torch::Tensor& losses, Reduction reduction = Reduction::kMean);

  /// The same with the samples named: right in any order, for skipped or repeated batches too.
  ///
  /// @param ids     [B] int64 on the device of the losses: ids of the rows, each of them in the
  ///                epoch's plan; undefined: the next B samples in order. Of a repeated id every
  ///                row is weighted, and the last one's score wins.
  /// @param scores  [B] on the device of the losses, or undefined: recorded instead of the losses
  ///                (masked token losses).
  /// @throws c10::IndexError  on the CPU: an id that is not in the plan; nothing was changed. On a
  ///                          device its loss weighs 0 and is not recorded, and the call that ends
  ///                          the epoch, or saves, throws this once.
  /// @note On the CPU the first call of an epoch builds a table of 4 bytes a sample of the data
  ///       set. On a device: ten kernels, no synchronisation.
  torch::Tensor update(const torch::Tensor& losses,
                       const torch::Tensor& ids,
                       const torch::Tensor& scores = {},
                       Reduction reduction = Reduction::kMean);

  /// For a loss that exists only reduced: records the scores of the next B samples (or of `ids`)
  /// and returns their weights, [B] float32. `scale_gradient(outputs, weights)` between the model
  /// and the criterion then weighs the gradient:
  ///
  ///     torch::Tensor weights = ib.observe(scores);           // e.g. a per-sample loss, no grad
  ///     auto loss = criterion(infobatch::scale_gradient(outputs, weights), target);
  ///
  /// The weights are the caller's own copy. Errors as `update`.
  torch::Tensor observe(const torch::Tensor& scores, const torch::Tensor& ids = {});

  /// Fraction of the run that is done, in [0, 1]: (epoch + position in its plan) / E. Drive the
  /// learning rate by it: epochs have fewer steps when samples are skipped. Never waits for a
  /// device.
  double progress() const;
  /// Upper bound of the number of steps of the run: E * ceil(N / batch_size).
  std::int64_t max_steps(std::int64_t batch_size) const;

  /// The epoch that the next iteration delivers, 0-based, and its frozen plan.
  std::int64_t epoch() const;
  /// Begins `epoch`. Optional: without it, epochs follow one another by themselves. On several
  /// ranks all of them call it, and losses are exchanged here.
  /// @throws RankError  ranks differ, or one of them is lost; see there.
  void set_epoch(std::int64_t epoch);
  /// Number of samples of that epoch (never communicates, never advances anything).
  std::int64_t size() const;
  std::shared_ptr<const Plan> plan() const;
  /// Forgets everything that this epoch observed and begins it anew: undoes the steps of a
  /// learning-rate finder or a warm-up.
  void discard_epoch();

  Statistics statistics() const;
  const Config& config() const;

  /// Says whether the loader drops a last batch that is short; `infobatch::make_data_loader` says
  /// it by itself.
  void declare_drop_last(bool drop_last);

  /// Writes the whole state to one safetensors file, atomically; any step will do. On several ranks
  /// all of them call it at the same step, rank 0 writes the file, and behind the call it is there.
  /// The state does not depend on the number of ranks.
  /// @throws c10::Error  the file cannot be written; an older one is intact.
  void save(const std::string& path) const;
  /// Goes on from a saved state exactly where it stood. @return what differs and was allowed to.
  /// On several ranks all of them load the same state; nothing is communicated.
  LoadReport load(const std::string& path);
  /// The same where the data set has grown or shrunk since, between two epochs: `Session::load`.
  LoadReport load(const std::string& path, const Resize& resize);
  /// The same into an archive of `torch::save` / `torch::load`. What differs is a torch warning.
  void save(torch::serialize::OutputArchive& archive) const;
  void load(torch::serialize::InputArchive& archive);
  /// This rank's part of the state, without waiting for others.
  std::string serialize_part() const;
  /// Goes on from the parts of all ranks, in any order; they must be of the same step.
  /// @throws c10::ValueError  parts are missing, or of other runs or steps: names the ranks.
  LoadReport load_parts(const std::vector<std::string>& parts);

  /// The engine underneath, shared by all copies. On a device, losses reach it where an epoch ends
  /// by a call of this class or of the sampler, and where a state is saved by one.
  const std::shared_ptr<Session>& session() const { return session_; }

 private:
  void suspect_shape(const torch::Tensor& losses);
  torch::Tensor take(const char* function,
                     const torch::Tensor& scores,
                     const torch::Tensor& ids,
                     std::int64_t* begin);

  std::shared_ptr<detail::Run> run_;
  std::shared_ptr<Session> session_;  // a part of it
};

/// For `torch::save(ib, path)` and `torch::load(ib, path)`.
inline torch::serialize::OutputArchive& operator<<(torch::serialize::OutputArchive& archive,
                                                   const InfoBatch& ib) {
  ib.save(archive);
  return archive;
}
inline torch::serialize::InputArchive& operator>>(torch::serialize::InputArchive& archive,
                                                  InfoBatch& ib) {
  ib.load(archive);
  return archive;
}

}  // namespace infobatch
