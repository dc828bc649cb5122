#include <infobatch/detail/sampling_weights.hpp>
#include <infobatch/error.hpp>
#include <infobatch/score.hpp>

namespace infobatch::detail {

std::string sampling_weights_problem(const float* values, std::int64_t size, double mean) {
  for (std::int64_t i = 0; i < size; ++i) {
    if (!is_finite(values[i]) || !(values[i] > 0.0f)) {
      return message("must be finite and above 0, got ", values[i], " at ", i);
    }
  }
  const double least = std::ldexp(mean, -SamplingWeights::kReach);
  for (std::int64_t i = 0; i < size; ++i) {
    if (values[i] >= least) continue;
    return message("must be at least 2^-",
                   SamplingWeights::kReach,
                   " of their mean ",
                   mean,
                   ", got ",
                   values[i],
                   " at ",
                   i);
  }
  return {};
}

void apply_sampling_weights(const SamplingWeights& weights,
                            const PlanTask& task,
                            bool thins,
                            PlanArrays& plan) {
  std::int64_t* const ids = plan.ids.data();
  float* const out = plan.weights.data();
  std::int64_t kept = 0;
  for (std::int64_t p = 0; p < plan.size; ++p) {
    const std::int64_t id = ids[p];
    const Thinning thinning = thinning_of(weights.multiplicity(id), thins);
    if (thins) {
      const std::uint32_t draw =
          random_word(task.seed, task.epoch, kStreamThinning, static_cast<std::uint64_t>(id));
      if (draw >= thinning.keep_below) continue;
    }
    ids[kept] = id;
    out[kept++] = static_cast<float>(static_cast<double>(out[p]) * thinning.factor);
  }
  plan.size = kept;
  plan.ids.resize(kept);
  plan.weights.resize(kept);
}

}  // namespace infobatch::detail
