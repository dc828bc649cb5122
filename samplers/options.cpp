#include <samplers/options.hpp>

#include <ATen/CPUGeneratorImpl.h>

#include <mutex>

namespace infobatch {
namespace {

/// The seed that torch was given, or its default. Reads; advances nothing.
std::uint64_t torch_seed() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.current_seed();
}

}  // namespace

Config Options::config() const {
  Config config;
  config.epochs = epochs_;
  config.prune_ratio = prune_ratio_;
  config.delta = delta_;
  config.warmup = warmup_;
  config.seed = seed_.has_value() ? *seed_ : torch_seed();
  config.policy = policy_;
  config.keep = keep_;
  config.rescale = rescale_;
  config.target_saved = target_saved_;
  config.max_prune_ratio = max_prune_ratio_;
  config.quantiles = quantiles_;
  config.quantile_keep = quantile_keep_;
  config.score_ema = score_ema_;
  config.whole_batches = whole_batches_;
  config.drop_last = drop_last_;
  config.lookahead = lookahead_;
  return config;
}

}  // namespace infobatch
