#pragma once

#include <infobatch/export.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

namespace infobatch {

struct Option;

/// A value for `Config::set`, of any kind that an option takes: true, 3, 0.5, "exact",
/// std::vector<double>{0.2, 0.85}, std::nullopt.
class INFOBATCH_API OptionValue {
 public:
  OptionValue(bool value);                        // NOLINT: a value converts
  OptionValue(int value);                         // NOLINT
  OptionValue(std::int64_t value);                // NOLINT
  OptionValue(std::uint64_t value);               // NOLINT
  OptionValue(double value);                      // NOLINT
  OptionValue(const char* value);                 // NOLINT
  OptionValue(const std::string& value);          // NOLINT
  OptionValue(const std::vector<double>& value);  // NOLINT
  OptionValue(std::nullopt_t);                    // NOLINT
  /// Every other integer, such as long long or unsigned.
  template <typename Integer, typename = std::enable_if_t<std::is_integral_v<Integer>>>
  OptionValue(Integer value)  // NOLINT
      : OptionValue(
            static_cast<std::conditional_t<std::is_signed_v<Integer>, std::int64_t, std::uint64_t>>(
                value)) {}

  /// The value as JSON text.
  const std::string& json() const { return json_; }

 private:
  std::string json_;
};

/// Version of the rules that turn (config, scores, epoch) into a plan. A saved state is accepted
/// only by the version that wrote it, because another one would plan other epochs.
constexpr int kRuleVersion = 2;

/// Largest data set of a session: 2^31 samples, and fewer where the policy has more than two
/// classes (see `most_samples`). Larger sets are split by id range, one session each.
constexpr std::int64_t kMaxSize = std::int64_t{1} << 31;

/// Largest number of epochs: epochs are counted in 32 bits by the random draws.
constexpr std::int64_t kMaxEpochs = (std::int64_t{1} << 32) - 1;

/// Everything a user may choose. Plain data; `validate` says what is wrong with it.
struct INFOBATCH_API Config {
  /// E >= 1: epochs of the whole run. E <= 2 prunes nothing.
  std::int64_t epochs = 1;
  /// r in [0, 1): chance that a candidate is left out. Not the fraction saved, which is
  /// r * P(loss < mean); see `target_saved`.
  double prune_ratio = 0.5;
  /// delta in (0, 1], read as round(delta * 1e9) parts: epochs from floor(delta * E) on are full.
  double delta = 0.875;
  /// Full epochs at the start, >= 1 (without scores there is nothing to judge by).
  std::int64_t warmup = 1;
  /// Key of every draw. The engine's default is a constant; the bindings take their framework's
  /// seed.
  std::uint64_t seed = 0x1f0ba7c4;
  /// Name of a registered policy; see `policy_names`.
  std::string policy = "infobatch";
  /// "bernoulli": each candidate on its own (the paper). "exact": max(1, floor((1-r) * n)) of the n
  /// candidates (the official code), with r read as round(r * 1e9) parts.
  std::string keep = "bernoulli";
  /// Whether kept candidates weigh the inverse of their keep probability. Without it the update
  /// is biased towards hard samples.
  bool rescale = true;
  /// Fraction of all E * N samples to save, in [0, 1); the policy's parameter is then solved for at
  /// the beginning of each pruned epoch (`prune_ratio` is not used).
  std::optional<double> target_saved;
  /// r_max in (0, 1): the largest prune ratio that `target_saved` may lead to.
  double max_prune_ratio = 0.9;
  /// infobatch_quantile: increasing quantiles of the scores, each in (0, 1), 1 to 14 of them.
  std::vector<double> quantiles = {0.2, 0.85};
  /// infobatch_quantile: keep ratio in [1e-9, 1] of the samples up to each quantile.
  std::vector<double> quantile_keep = {0.25, 0.5};
  /// a in [0, 1): a sample's score becomes a * score + (1 - a) * loss; 0: the last loss.
  double score_ema = 0.0;
  /// B >= 1: the plan of a pruned epoch is a multiple of B samples, so that every batch is whole;
  /// 0: any size. Needs `keep` = "exact". Up to B - 1 candidates more are kept, else fewer, else
  /// the last batch is short.
  std::int64_t whole_batches = 0;
  /// Whether the loader drops a last batch that is short; empty: not declared. Never changes a
  /// plan.
  std::optional<bool> drop_last;
  /// Whether the loader may run further ahead later than before the first update of an epoch (a
  /// prefetcher in a thread of its own). Never changes a plan.
  bool lookahead = false;
  /// Whether the run records of every sample how often it was kept, and when last: the columns
  /// `times_kept` and `last_kept`. Never changes a plan.
  bool record = false;
  /// Parameters of policies that have no field here, by name; one that is missing has its default.
  /// docs/policies.md lists them.
  std::map<std::string, double> params;

  /// Sets an option by its name, a field or a parameter of a policy; see `cards_json`. Rules are
  /// not checked yet, as with a field.
  /// @throws InvalidArgument  no option has this name (the message lists them), or the value is of
  ///                          another kind.
  Config& set(const std::string& name, const OptionValue& value);
  /// Sets options from a JSON object {name: value, ...}; all or none.
  /// @throws InvalidArgument  as `from_json`, but for broken rules.
  Config& set_json(const std::string& text);
  /// The value of a policy's own parameter.
  double number(const Option& parameter) const;

  /// Every broken rule, one sentence each with the value; empty when the config is valid.
  std::vector<std::string> problems() const;
  /// @throws InvalidArgument  with all problems in one message.
  void validate() const;

  /// The config as JSON text. Doubles are written so that they read back equal to the bit.
  std::string to_json() const;
  /// Reads what `to_json` wrote; missing keys keep their defaults. A parameter of a policy may
  /// stand beside the others or in the object "params".
  /// @throws InvalidArgument  listing every problem at once: malformed JSON, keys that stand there
  ///                          twice, wrong types, unknown keys (a few by name, others counted),
  ///                          broken rules.
  static Config from_json(const std::string& text);

  bool operator==(const Config& other) const;
  bool operator!=(const Config& other) const { return !(*this == other); }
};

/// Every broken rule of a config given as JSON; empty when there is none.
/// Text that is no JSON object is one problem. Throws nothing but std::bad_alloc.
INFOBATCH_API std::vector<std::string> config_problems(const std::string& config_json);

}  // namespace infobatch
