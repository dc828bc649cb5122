#pragma once

#include <infobatch/config.hpp>
#include <samplers/export.h>

#include <torch/arg.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace infobatch {

/// Options of `InfoBatch` in libtorch's style: `Options(200).prune_ratio(0.5).delta(0.875)`.
///
/// Every option has the name, the default and the rule of the field of `infobatch::Config`; nothing
/// is checked here, `InfoBatch` reports all problems at once.
struct INFOBATCH_SAMPLERS_API Options {
 public:
  /// @param epochs  E >= 1, the number of epochs of the whole run.
  explicit Options(std::int64_t epochs) : epochs_(epochs) {}

  /// The engine's configuration with these values. A seed that was not given is torch's initial
  /// seed (`torch::manual_seed`), read once; no generator is advanced.
  Config config() const;

  TORCH_ARG(std::int64_t, epochs);
  /// r in [0, 1): chance that a sample below the mean loss is left out of an epoch.
  TORCH_ARG(double, prune_ratio) = Config{}.prune_ratio;
  /// Share of the run that prunes; the epochs from floor(delta * E) on see every sample.
  TORCH_ARG(double, delta) = Config{}.delta;
  /// Epochs at the start that see every sample, >= 1.
  TORCH_ARG(std::int64_t, warmup) = Config{}.warmup;
  /// "infobatch", "infobatch_quantile", "random" or "full"; see docs/policies.md.
  TORCH_ARG(std::string, policy) = Config{}.policy;
  /// "bernoulli" (the paper) or "exact" (the official code).
  TORCH_ARG(std::string, keep) = Config{}.keep;
  /// Whether a kept candidate's loss is multiplied by the inverse of its keep probability.
  TORCH_ARG(bool, rescale) = Config{}.rescale;
  /// Share of all samples of the run to save; the prune ratio is then solved for in each epoch.
  TORCH_ARG(std::optional<double>, target_saved) = std::nullopt;
  /// Largest prune ratio that `target_saved` may choose.
  TORCH_ARG(double, max_prune_ratio) = Config{}.max_prune_ratio;
  /// Thresholds of `infobatch_quantile`, as quantiles of the scores.
  TORCH_ARG(std::vector<double>, quantiles) = Config{}.quantiles;
  /// Keep ratios of the samples below each of these thresholds.
  TORCH_ARG(std::vector<double>, quantile_keep) = Config{}.quantile_keep;
  /// a in [0, 1): score = a * old score + (1 - a) * loss.
  TORCH_ARG(double, score_ema) = Config{}.score_ema;
  /// B: the plans of pruned epochs are multiples of B samples, so that every batch is whole; 0: any
  /// size. Needs keep("exact"), and the loader's batch size must be B.
  TORCH_ARG(std::int64_t, whole_batches) = Config{}.whole_batches;
  /// Whether the loader drops a last batch that is short. infobatch::make_data_loader sees it by
  /// itself; of a raw loop it is to be said, above all where batches are split.
  TORCH_ARG(std::optional<bool>, drop_last) = Config{}.drop_last;
  /// Whether the loader may run further ahead later than before the first update of an epoch, as a
  /// prefetcher in a thread of its own may.
  TORCH_ARG(bool, lookahead) = Config{}.lookahead;
  /// Seed of every draw; default: torch's initial seed.
  TORCH_ARG(std::optional<std::uint64_t>, seed) = std::nullopt;
  /// Threads of the epoch boundary, 0: as many as the process may use. Never changes a plan.
  TORCH_ARG(int, threads) = 0;
};

}  // namespace infobatch
