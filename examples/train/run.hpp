#pragma once

#include <examples/train/arms.hpp>
#include <examples/train/batches.hpp>
#include <examples/train/figures.hpp>
#include <examples/train/models.hpp>
#include <examples/train/recipe.hpp>
#include <samplers/infobatch.hpp>

#include <torch/data/dataloader.h>
#include <torch/serialize/archive.h>

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace infobatch::train {

/// What an arm with `Arm::needs_share` is given of the infobatch run with the same seed.
struct Target {
  double share = 0.0;        ///< share of all samples left out
  std::int64_t samples = 0;  ///< samples trained on, a multiple of the batch size
};

/// Samples of a run that leaves nothing out: whole batches only.
std::int64_t full_samples(const TrainOptions& options, const Dataset& data);

/// Training of one arm with one seed, a step at a time. All arms go through the same code.
///
/// Everything random is keyed by the seed: equal runs give equal figures, seconds apart, with the
/// same number of threads on the same machine.
class Run {
 public:
  /// @param options, data  outlive the run.
  /// @note Seeds torch's global generator, from which the model is initialised.
  Run(const TrainOptions& options,
      const Dataset& data,
      const Arm& arm,
      std::uint64_t seed,
      const Target& target);

  /// Where the sampler's warnings go; default: standard error.
  void on_warning(std::function<void(const std::string&)> handler);

  /// Trains one batch; begins an epoch before it and evaluates after it where it is time. Only the
  /// training is timed.
  /// @return whether an epoch ended.
  bool step();

  bool finished() const { return figures_.finished; }
  /// Whether the last step left an epoch unfinished.
  bool inside_epoch() const { return inside_epoch_; }
  const Figures& figures() const { return figures_; }
  /// The running epoch so far, without an accuracy. On another device than the CPU its loss is that
  /// of some steps ago.
  const EpochFigures& epoch_figures() const { return epoch_; }
  /// Epochs that are delivered, the last perhaps in part.
  std::int64_t epochs() const { return sampler_options_.epochs(); }
  /// Share of the run's samples that it is through with, in [0, 1]; drives the learning rate.
  double progress() const;

  /// Puts everything that the rest of the run depends on into `archive`, and figures into JSON.
  nlohmann::json save(torch::serialize::OutputArchive& archive) const;
  /// Goes on where a run with the same arguments stood.
  void load(torch::serialize::InputArchive& archive, const nlohmann::json& state);

 private:
  using Loader = torch::data::StatelessDataLoader<ImageBatches, InfoBatchSampler>;

  void begin_epoch();
  void train_batch(const Batch& batch);
  void end_epoch();
  double evaluate();
  double loss_sum() const { return loss_sum_.item<double>(); }

  const TrainOptions& options_;
  Precision precision_;
  infobatch::Options sampler_options_;
  InfoBatch ib_;
  std::int64_t sample_limit_;  // of the run
  double run_epochs_;          // the same in epochs of full
  std::shared_ptr<Classifier> model_;
  std::unique_ptr<torch::optim::SGD> optimizer_;
  ImageBatches batches_;
  ImageBatches test_;
  std::unique_ptr<Loader> loader_;
  std::optional<torch::data::Iterator<Batch>> position_;

  Figures figures_;
  EpochFigures epoch_;
  torch::Tensor loss_sum_;  // of the running epoch, on the device: to read it is to wait
  bool inside_epoch_ = false;
};

/// Trains a few batches of a model that is thrown away, so that what a process pays once (compiled
/// kernels, first-touched memory) is on no arm's account.
void warm_up(const TrainOptions& options, const Dataset& data);

}  // namespace infobatch::train
