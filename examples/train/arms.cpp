#include <examples/train/arms.hpp>

#include <algorithm>

namespace infobatch::train {

const std::vector<Arm>& arms() {
  static const std::vector<Arm> all = {
      {"full", "every sample in every epoch", false},
      {"full-short", "every sample, fewer epochs: as many samples as infobatch trains on", true},
      {"random", "samples left out at random, at infobatch's share, rescaled and annealed", true},
      {"infobatch", "samples below the mean loss left out with probability r, rescaled", false},
      {"infobatch-exact",
       "the same, exactly the share r of them (rule of the official code), in whole batches",
       false},
      {"infobatch-quantile",
       "thresholds at quantiles of the loss (the paper's 40 % variant)",
       false},
      {"infobatch-norescale", "infobatch without the weights 1 / (1 - r)", false},
      {"infobatch-noanneal", "infobatch that goes on pruning to the last epoch", false},
      {"ucb", "the share r with the smallest mean + variance of their losses left out", false},
      {"orderdp", "the largest losses of a random pool of half the samples", false},
  };
  return all;
}

const Arm& find_arm(const std::string& name) {
  std::string known;
  for (const Arm& arm : arms()) {
    if (name == arm.name) return arm;
    known += std::string(known.empty() ? "" : ", ") + arm.name;
  }
  throw UsageError("--arms: must be some of " + known + ", got '" + name + "'");
}

infobatch::Options sampler_options(const Arm& arm,
                                   const TrainOptions& options,
                                   std::uint64_t seed,
                                   double share) {
  const std::string name = arm.name;
  infobatch::Options result(options.epochs);
  result.prune_ratio(options.prune_ratio)
      .delta(options.delta)
      .seed(seed)
      .device(c10::Device(options.device))
      .threads(static_cast<int>(options.threads));
  if (name == "full" || name == "full-short") result.policy("full");
  if (name == "random") {
    result.policy("random").target_saved(share).max_prune_ratio(
        std::max(0.99, options.prune_ratio));
  }
  // Exact counts can be chosen so that every batch is whole.
  if (name == "infobatch-exact") result.keep("exact").whole_batches(options.batch_size);
  if (name == "infobatch-quantile") result.policy("infobatch_quantile");
  if (name == "ucb" || name == "orderdp") result.policy(name);
  if (name == "infobatch-norescale") result.rescale(false);
  if (name == "infobatch-noanneal") result.delta(1.0);
  return result;
}

}  // namespace infobatch::train
