#include <infobatch/annealing.hpp>
#include <infobatch/config.hpp>
#include <infobatch/detail/float_environment.hpp>
#include <infobatch/detail/json.hpp>
#include <infobatch/error.hpp>
#include <infobatch/policy.hpp>

#include <cmath>
#include <tuple>

namespace infobatch {
namespace {

using detail::message;

bool inside(double x, double low, double high) { return x > low && x < high; }

/// A value of 0 parts or all parts in disguise, e.g. .9999999999, would change its meaning.
bool rounds_to_all(double share) { return std::llround(share * 1e9) >= 1'000'000'000; }

void check_quantiles(const Config& config, std::vector<std::string>& found) {
  if (config.quantiles.empty() || config.quantiles.size() > 14) {
    found.push_back(message("quantiles must be 1 to 14 values, got ", config.quantiles.size()));
  }
  double last = 0.0;
  for (double q : config.quantiles) {
    if (!inside(q, last, 1.0)) {
      found.push_back(message("quantiles must increase inside (0, 1), got ", q, " after ", last));
      break;
    }
    last = q;
  }
  if (config.quantile_keep.size() != config.quantiles.size()) {
    found.push_back(message("quantile_keep must have one value per quantile, got ",
                            config.quantile_keep.size(),
                            " for ",
                            config.quantiles.size()));
  }
  for (double keep : config.quantile_keep) {
    if (!(keep >= 1e-9 && keep <= 1.0)) {
      found.push_back(message("quantile_keep must be in (0, 1], at least 1e-9, got ", keep));
      break;
    }
  }
}

void check_target(const Config& config, std::vector<std::string>& found) {
  if (!(inside(config.max_prune_ratio, 0.0, 1.0)) || rounds_to_all(config.max_prune_ratio)) {
    found.push_back(message("max_prune_ratio must be in (0, 1), got ", config.max_prune_ratio));
  }
  if (!config.target_saved) return;
  const double target = *config.target_saved;
  if (!(target >= 0.0 && target < 1.0)) {
    found.push_back(message("target_saved must be in [0, 1), got ", target));
    return;
  }
  const Policy* policy = find_policy(config.policy);
  if (policy == nullptr || !found.empty()) return;  // what can be reached is not known yet
  const double reachable = policy->largest_share(config) *
                           static_cast<double>(pruned_epochs(config)) /
                           static_cast<double>(config.epochs);
  if (billionths(target) > billionths(reachable)) {
    found.push_back(message("target_saved must be at most ",
                            reachable,
                            ", what policy ",
                            config.policy,
                            " can reach in ",
                            pruned_epochs(config),
                            " of ",
                            config.epochs,
                            " epochs with max_prune_ratio ",
                            config.max_prune_ratio,
                            ", got ",
                            target));
  }
}

void check_whole_batches(const Config& config, std::vector<std::string>& found) {
  if (config.whole_batches == 0) return;
  if (config.whole_batches < 0 || config.whole_batches > kMaxSize) {
    found.push_back(
        message("whole_batches must be in [0, ", kMaxSize, "], got ", config.whole_batches));
    return;
  }
  if (config.keep != "exact") {
    found.push_back(
        message("whole_batches needs keep = exact, which counts the samples it keeps, "
                "got keep = ",
                detail::shown(config.keep)));
  }
  const Policy* policy = find_policy(config.policy);
  if (policy != nullptr && !policy->prunes()) {
    found.push_back(message("whole_batches needs a policy with candidates, got ", config.policy));
  }
}

}  // namespace

std::vector<std::string> Config::problems() const {
  const detail::DefaultFloatEnvironment float_environment;
  std::vector<std::string> found;
  // First what a share to save depends on.
  if (epochs < 1 || epochs > kMaxEpochs) {
    found.push_back(message("epochs must be in [1, ", kMaxEpochs, "], got ", epochs));
  }
  if (!(delta > 0.0 && delta <= 1.0) || billionths(delta) == 0) {
    const bool vanishes = delta > 0.0 && delta < 1.0;
    found.push_back(
        message("delta must be in (0, 1], got ", delta, vanishes ? ", which is 0 billionths" : ""));
  }
  if (warmup < 1) found.push_back(message("warmup must be at least 1, got ", warmup));
  if (find_policy(policy) == nullptr) {
    found.push_back(message("policy must be one of ",
                            detail::join(policy_names(), ", "),
                            "; got ",
                            detail::shown(policy)));
  }
  check_quantiles(*this, found);
  check_target(*this, found);
  if (!(prune_ratio >= 0.0 && prune_ratio < 1.0) || rounds_to_all(prune_ratio)) {
    found.push_back(message("prune_ratio must be in [0, 1), got ", prune_ratio));
  }
  if (keep != "bernoulli" && keep != "exact") {
    found.push_back(message("keep must be bernoulli or exact, got ", detail::shown(keep)));
  }
  if (!(score_ema >= 0.0 && score_ema < 1.0)) {
    found.push_back(message("score_ema must be in [0, 1), got ", score_ema));
  }
  check_whole_batches(*this, found);
  return found;
}

void Config::validate() const {
  const std::vector<std::string> found = problems();
  if (!found.empty()) throw InvalidArgument("Config: " + detail::join(found, "; "));
}

bool Config::operator==(const Config& other) const {
  const auto fields = [](const Config& c) {
    return std::tie(c.epochs,
                    c.prune_ratio,
                    c.delta,
                    c.warmup,
                    c.seed,
                    c.policy,
                    c.keep,
                    c.rescale,
                    c.target_saved,
                    c.max_prune_ratio,
                    c.quantiles,
                    c.quantile_keep,
                    c.score_ema,
                    c.whole_batches,
                    c.drop_last,
                    c.lookahead);
  };
  return fields(*this) == fields(other);
}

}  // namespace infobatch
