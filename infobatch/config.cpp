#include <infobatch/config.hpp>
#include <infobatch/detail/annealing.hpp>
#include <infobatch/detail/budget.hpp>
#include <infobatch/detail/config_fields.hpp>
#include <infobatch/detail/float_environment.hpp>
#include <infobatch/detail/json.hpp>
#include <infobatch/detail/options.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/error.hpp>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>
#include <type_traits>

namespace infobatch {
namespace {

using detail::message;

/// Whether a number is in the range of its option, read as billionths where the range ends at 0 or
/// at 1: 0.9999999999 would change its meaning.
bool in_range(const OptionRange& range, double x) {
  if (!(x >= range.low && x <= range.high)) return false;
  if (range.low_open && (x == range.low || (range.low == 0.0 && billionths(x) == 0))) return false;
  if (!range.high_open) return true;
  return x < range.high && !(range.high == 1.0 && billionths(x) >= 1'000'000'000);
}

/// A bound of a range; integers are written as such.
std::string bound(const Option& option, double x) {
  return option.kind == OptionKind::kInteger ? message(static_cast<std::int64_t>(x)) : message(x);
}

/// Whether a number is in its range; else adds what is wrong with it.
template <typename T>
bool check_range(const Option& option, T value, std::vector<std::string>& found) {
  const OptionRange& range = option.range;
  const auto number = static_cast<double>(value);
  if (!range.bounded || in_range(range, number)) return true;
  const bool vanishes = range.low_open && number > range.low && number < range.high;
  found.push_back(message(option.name,
                          " must be in ",
                          range.low_open ? "(" : "[",
                          bound(option, range.low),
                          ", ",
                          bound(option, range.high),
                          range.high_open ? ")" : "]",
                          ", got ",
                          value,
                          vanishes && billionths(number) == 0 ? ", which is 0 billionths" : ""));
  return false;
}

/// Whether a text is one of its choices; else adds what is wrong with it.
bool check_choice(const Option& option, const std::string& value, std::vector<std::string>& found) {
  if (option.choices == nullptr) return true;
  std::vector<std::string> choices;
  for (const char* const* choice = option.choices(); *choice != nullptr; ++choice) {
    if (value == *choice) return true;
    choices.emplace_back(*choice);
  }
  found.push_back(message(option.name,
                          " must be one of ",
                          detail::join(choices, ", "),
                          "; got ",
                          detail::in_quotes(value)));
  return false;
}

/// Returns the options whose values are none of theirs.
std::vector<std::string> check_values(const Config& config, std::vector<std::string>& found) {
  std::vector<std::string> broken;
  detail::each_option(config, [&](const Option& option, const auto& value) {
    using T = std::decay_t<decltype(value)>;
    bool fine = true;
    if constexpr (std::is_same_v<T, std::optional<double>>) {
      fine = !value || check_range(option, *value, found);
    } else if constexpr (std::is_same_v<T, std::vector<double>>) {
      fine = std::all_of(value.begin(), value.end(), [&](double each) {
        return check_range(option, each, found);
      });
    } else if constexpr (std::is_same_v<T, std::string>) {
      fine = check_choice(option, value, found);
    } else if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
      fine = check_range(option, value, found);
    }
    if (!fine) broken.emplace_back(option.name);
  });
  for (const auto& [name, value] : config.params) {
    const Option* const option = find_option(name);
    if (option == nullptr || detail::field_of(name) != nullptr) {
      found.push_back("params: no policy has a parameter " + detail::in_quotes(name));
    }
  }
  return broken;
}

void check_quantiles(const Config& config, std::vector<std::string>& found) {
  if (config.quantiles.empty() || config.quantiles.size() > 14) {
    found.push_back(message("quantiles must be 1 to 14 values, got ", config.quantiles.size()));
  }
  for (std::size_t i = 1; i < config.quantiles.size(); ++i) {
    const double last = config.quantiles[i - 1];
    const double q = config.quantiles[i];
    if (q <= last) {
      found.push_back(message("quantiles must increase, got ", q, " after ", last));
      break;
    }
  }
  if (config.quantile_keep.size() != config.quantiles.size()) {
    found.push_back(message("quantile_keep must have one value per quantile, got ",
                            config.quantile_keep.size(),
                            " for ",
                            config.quantiles.size()));
  }
}

/// @param broken  options that break their rules: what can be reached may depend on them.
void check_target(const Config& config,
                  const std::vector<std::string>& broken,
                  std::vector<std::string>& found) {
  const Policy* policy = find_policy(config.policy);
  if (!config.target_saved || policy == nullptr) return;
  const PolicyCard& card = policy->card;
  const auto matters = [&card](const std::string& name) {
    constexpr const char* kOfEveryPolicy[] = {
        "epochs", "delta", "warmup", "max_prune_ratio", "target_saved"};
    if (std::find(std::begin(kOfEveryPolicy), std::end(kOfEveryPolicy), name) !=
        std::end(kOfEveryPolicy)) {
      return true;
    }
    if (card.scale != nullptr && name == card.scale) return false;  // the budget solves for it
    return std::any_of(card.parameters.begin(), card.parameters.end(), [&name](const Option* own) {
      return name == own->name;
    });
  };
  if (std::any_of(broken.begin(), broken.end(), matters)) return;
  const double target = *config.target_saved;
  const double reachable = largest_pruned_fraction(config, policy->reach(config)) *
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
  if (config.keep != "exact") {
    found.push_back(
        message("whole_batches needs keep = exact, which counts the samples it keeps, "
                "got keep = ",
                detail::in_quotes(config.keep)));
  }
  const Policy* policy = find_policy(config.policy);
  if (policy != nullptr && !policy->card.draws) {
    found.push_back(message("whole_batches needs a policy with candidates, got ", config.policy));
  }
}

}  // namespace

std::vector<std::string> Config::problems() const {
  const detail::DefaultFloatEnvironment float_environment;
  std::vector<std::string> found;
  std::vector<std::string> broken = check_values(*this, found);
  const std::size_t before = found.size();
  check_quantiles(*this, found);
  if (found.size() > before) broken.emplace_back("quantiles");
  check_target(*this, broken, found);
  check_whole_batches(*this, found);
  return found;
}

void Config::validate() const {
  const std::vector<std::string> found = problems();
  if (!found.empty()) throw InvalidArgument("Config: " + detail::join(found, "; "));
}

double Config::number(const Option& parameter) const {
  const auto given = params.find(parameter.name);
  return given == params.end() ? parameter.default_value : given->second;
}

bool Config::operator==(const Config& other) const {
  const auto& options = all_options();
  return std::all_of(options.begin(), options.end(), [&](const Option* option) {
    return option_json(*this, *option) == option_json(other, *option);
  });
}

}  // namespace infobatch
