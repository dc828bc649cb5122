#pragma once

#include <examples/train/stopwatch.hpp>

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace infobatch::train {

/// One epoch of a run.
struct EpochFigures {
  std::int64_t epoch = 0;    ///< 0-based
  std::int64_t kept = 0;     ///< samples in its plan
  std::int64_t trained = 0;  ///< samples trained: whole batches
  double loss = 0.0;         ///< mean over them, unweighted, each before its step
  double accuracy = 0.0;     ///< on the test set after it, in percent
  Span time;                 ///< of training
};

/// What one run (arm and seed) came to, or has come to so far.
struct Figures {
  std::string arm;
  std::uint64_t seed = 0;
  std::int64_t samples_full = 0;     ///< that `full` trains on in the whole run
  std::int64_t samples_trained = 0;  ///< that this run trained on
  std::int64_t steps = 0;
  double planned_share = 0.0;  ///< share of all samples that the plans left out
  Span time;                   ///< training steps with their data, evaluation apart
  std::vector<EpochFigures> history;
  bool finished = false;

  /// 1 - trained / full.
  double saved() const;
  /// After the last finished epoch; 0 before the first.
  double accuracy() const { return history.empty() ? 0.0 : history.back().accuracy; }
  double loss() const { return history.empty() ? 0.0 : history.back().loss; }
};

/// Share of `full`'s seconds that `run` saved, over the share of its samples that it saved: 1 where
/// skipped samples cost nothing. NaN where nothing was saved.
double seconds_over_samples(const Figures& run, const Figures& full);
/// The same with CPU seconds.
double cpu_seconds_over_samples(const Figures& run, const Figures& full);

/// For a checkpoint: reads back equal to the bit.
nlohmann::json to_json(const Figures& figures);
/// @throws nlohmann::json::exception  something is missing or of another type.
Figures figures_from_json(const nlohmann::json& json);

/// A double that may be NaN: null in JSON.
double number_or_nan(const nlohmann::json& json);

}  // namespace infobatch::train
