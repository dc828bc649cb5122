#pragma once

#include <infobatch/card.hpp>
#include <infobatch/config.hpp>
#include <infobatch/detail/epoch_rule.hpp>

#include <string>
#include <vector>

namespace infobatch {

// Options that several policies take as parameters.
inline constexpr Option kPruneRatio = {"prune_ratio",
                                       OptionKind::kNumber,
                                       "r: chance that a candidate is left out of an epoch",
                                       right_open(0.0, 1.0)};
inline constexpr Option kQuantiles = {
    "quantiles",
    OptionKind::kNumbers,
    "infobatch_quantile: 1 to 14 increasing quantiles of the scores",
    open(0.0, 1.0)};
inline constexpr Option kQuantileKeep = {"quantile_keep",
                                         OptionKind::kNumbers,
                                         "infobatch_quantile: keep ratio up to each quantile",
                                         closed(1e-9, 1.0)};

/// Every option of a run once: those of each config, then the policies' own.
const std::vector<const Option*>& all_options();

/// nullptr: there is none of that name.
const Option* find_option(const std::string& name);

/// The value of an option that is a number, by its name.
double number_of(const Config& config, const char* name);

/// The value of an option as JSON text.
std::string option_json(const Config& config, const Option& option);

inline KeepMode keep_mode(const Config& config) {
  return config.keep == "exact" ? KeepMode::kExact : KeepMode::kBernoulli;
}

}  // namespace infobatch
