#pragma once

#include <examples/train/dataset.hpp>
#include <examples/train/figures.hpp>
#include <examples/train/options.hpp>

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

namespace infobatch::train {

/// The figures and what they came from, as `--json` writes them:
///
///     {"runs": [{"arm", "seed", "accuracy", "loss", "samples_full", "samples_trained", "saved",
///                "seconds", "cpu_seconds", "steps", "epochs", "seconds_saved_over_samples_saved",
///                "cpu_seconds_saved_over_samples_saved", "history": [...]}],
///      "config": {...}, "versions": {...}, "machine": {...}}
///
/// The two ratios are null for `full`, without a full run of the same seed, and where nothing was
/// saved.
nlohmann::json report_json(const TrainOptions& options,
                           const Dataset& data,
                           const std::vector<Figures>& runs);

/// The table of the arms, in the order of `options.arms`; means over the seeds, with the sample
/// standard deviation where there are several.
std::string report_table(const TrainOptions& options,
                         const Dataset& data,
                         const std::vector<Figures>& runs);

}  // namespace infobatch::train
