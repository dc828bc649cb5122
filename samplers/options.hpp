#pragma once

#include <infobatch/config.hpp>
#include <infobatch/session.hpp>
#include <samplers/export.h>
#include <samplers/ranks.hpp>

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace infobatch {

// A setter and a getter of the field of that name.
#define INFOBATCH_OPTION(type, name) \
  Options& name(type value) {        \
    config_.name = std::move(value); \
    return *this;                    \
  }                                  \
  const type& name() const noexcept { return config_.name; }

/// Options of `InfoBatch` in libtorch's style: `Options(200).prune_ratio(0.5).delta(0.875)`.
///
/// Every option has the name, the default and the rule of the field of `infobatch::Config`; nothing
/// is checked here, `InfoBatch` reports all problems at once.
struct INFOBATCH_SAMPLERS_API Options {
 public:
  /// @param epochs  E >= 1, the number of epochs of the whole run.
  explicit Options(std::int64_t epochs) { config_.epochs = epochs; }

  /// The engine's configuration with these values. A seed that was not given is torch's initial
  /// seed (`torch::manual_seed`), read once; no generator is advanced.
  Config config() const;

  /// Any option by its name, the parameters of policies among them:
  /// `Options(200).policy("ucb").set("ucb_c", 2.0)`; docs/policies.md lists them.
  /// @throws c10::Error  there is none of that name, or the value is of another kind.
  Options& set(const std::string& name, const OptionValue& value);

  INFOBATCH_OPTION(std::int64_t, epochs)
  /// r in [0, 1): chance that a sample below the mean loss is left out of an epoch.
  INFOBATCH_OPTION(double, prune_ratio)
  /// Fraction of the run that prunes; the epochs from floor(delta * E) on see every sample.
  INFOBATCH_OPTION(double, delta)
  /// Epochs at the start that see every sample, >= 1.
  INFOBATCH_OPTION(std::int64_t, warmup)
  /// "infobatch", "random", "ucb", ...; see docs/policies.md.
  INFOBATCH_OPTION(std::string, policy)
  /// "bernoulli" (the paper) or "exact" (the official code).
  INFOBATCH_OPTION(std::string, keep)
  /// Whether a kept candidate's loss is multiplied by the inverse of its keep probability.
  INFOBATCH_OPTION(bool, rescale)
  /// Fraction of all samples of the run to save; the prune ratio is then solved for in each epoch.
  INFOBATCH_OPTION(std::optional<double>, target_saved)
  /// Largest prune ratio that `target_saved` may choose.
  INFOBATCH_OPTION(double, max_prune_ratio)
  /// Thresholds of `infobatch_quantile`, as quantiles of the scores.
  INFOBATCH_OPTION(std::vector<double>, quantiles)
  /// Keep ratios of the samples below each of these thresholds.
  INFOBATCH_OPTION(std::vector<double>, quantile_keep)
  /// a in [0, 1): score = a * old score + (1 - a) * loss.
  INFOBATCH_OPTION(double, score_ema)
  /// B: the plans of pruned epochs are multiples of B samples, so that every batch is whole; 0: any
  /// size. Needs keep("exact"), and the loader's batch size must be B.
  INFOBATCH_OPTION(std::int64_t, whole_batches)
  /// Whether the loader drops a last batch that is short. infobatch::make_data_loader sees it by
  /// itself; of a raw loop it is to be said, above all where batches are split.
  INFOBATCH_OPTION(std::optional<bool>, drop_last)
  /// Whether the loader may run further ahead later than before the first update of an epoch, as a
  /// prefetcher in a thread of its own may.
  INFOBATCH_OPTION(bool, lookahead)
  /// Where the losses will be: `torch::kCUDA`, `torch::Device("cuda:1")`, ...; without an index,
  /// any device of that type. Default: where the first losses are. Declared, not even the first
  /// step of a resumed run has to wait for the device. No part of the saved state.
  Options& device(c10::Device value) {
    device_ = value;
    return *this;
  }
  const std::optional<c10::Device>& device() const noexcept { return device_; }
  /// Seed of every draw; default: torch's initial seed.
  Options& seed(std::optional<std::uint64_t> value) {
    seed_ = value;
    return *this;
  }
  const std::optional<std::uint64_t>& seed() const noexcept { return seed_; }
  /// The processes that train this run together, each on its share (`make_exchange`); none, the
  /// default: this process alone. Making the InfoBatch is then something that all of them do, and a
  /// seed that was not given is that of rank 0.
  Options& ranks(std::shared_ptr<Exchange> value) {
    ranks_ = std::move(value);
    return *this;
  }
  const std::shared_ptr<Exchange>& ranks() const noexcept { return ranks_; }
  /// kSharded, the default: the sampler deals the samples to ranks. kGlobal: the program does; the
  /// sampler of every rank then delivers all of them, and updates need ids.
  Options& split(Split value) {
    split_ = value;
    return *this;
  }
  Split split() const noexcept { return split_; }
  /// Shares that would be shorter than others have one row more (kPad, the default: another rank's
  /// sample, with weight 0, whose loss is not recorded), or all are as long as the shortest
  /// (kTrim).
  Options& padding(Padding value) {
    padding_ = value;
    return *this;
  }
  Padding padding() const noexcept { return padding_; }
  /// Threads of the epoch boundary, 0: as many as the process may use. Never changes a plan.
  Options& threads(int value) {
    threads_ = value;
    return *this;
  }
  int threads() const noexcept { return threads_; }
  /// Who works through the boundaries of epochs: "cpu", or a name of backend_names()
  /// (infobatch/backends.hpp). "", the default: the one that was loaded for the declared device,
  /// where there is one, else the processor. Never changes a plan.
  Options& backend(std::string value) {
    backend_ = std::move(value);
    return *this;
  }
  const std::string& backend() const noexcept { return backend_; }

 private:
  Config config_;
  std::optional<c10::Device> device_;
  std::optional<std::uint64_t> seed_;
  std::shared_ptr<Exchange> ranks_;
  Split split_ = Split::kSharded;
  Padding padding_ = Padding::kPad;
  int threads_ = 0;
  std::string backend_;
};

#undef INFOBATCH_OPTION

}  // namespace infobatch
