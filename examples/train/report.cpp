#include <examples/train/report.hpp>
#include <infobatch/version.hpp>

#include <torch/version.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>

namespace infobatch::train {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// The full run that a run is measured against; null for `full` itself.
const Figures* reference(const Figures& run, const std::vector<Figures>& runs) {
  if (run.arm == "full") return nullptr;
  const auto found = std::find_if(runs.begin(), runs.end(), [&run](const Figures& other) {
    return other.arm == "full" && other.seed == run.seed;
  });
  return found == runs.end() ? nullptr : &*found;
}

double wall_ratio(const Figures& run, const std::vector<Figures>& runs) {
  const Figures* full = reference(run, runs);
  return full == nullptr ? kNan : seconds_over_samples(run, *full);
}

double cpu_ratio(const Figures& run, const std::vector<Figures>& runs) {
  const Figures* full = reference(run, runs);
  return full == nullptr ? kNan : cpu_seconds_over_samples(run, *full);
}

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    const std::size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown";
}

nlohmann::json or_null(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json();
}

/// "95.12", or "95.12 +- 0.10" of several; "-" where there is none.
std::string mean_text(const std::vector<double>& values, int digits) {
  std::vector<double> finite;
  std::copy_if(values.begin(), values.end(), std::back_inserter(finite), [](double x) {
    return std::isfinite(x);
  });
  if (finite.empty()) return "-";
  double mean = 0.0;
  for (const double x : finite) mean += x / static_cast<double>(finite.size());
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, mean);
  std::string result = text;
  if (finite.size() > 1) {
    double squares = 0.0;
    for (const double x : finite) squares += (x - mean) * (x - mean);
    const double deviation = std::sqrt(squares / static_cast<double>(finite.size() - 1));
    std::snprintf(text, sizeof text, " +- %.*f", digits, deviation);
    result += text;
  }
  return result;
}

/// Columns as wide as their widest cell; the first one flush left.
std::string lay_out(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths(rows.front().size());
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string padding(widths[c] - row[c].size(), ' ');
      text += c == 0 ? row[c] + padding : "   " + padding + row[c];
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text;
}

/// What an arm's skipped samples gave back, in a sentence; nothing where there is nothing to
/// compare with. The processor's time comes first: it does not count what other programs do
/// meanwhile.
std::string verdict(const std::string& arm,
                    const std::vector<double>& saved,
                    const std::vector<double>& cpu_ratios,
                    const std::vector<double>& wall_ratios) {
  const std::string by_cpu = mean_text(cpu_ratios, 2);
  if (by_cpu == "-") return "";
  return arm + ": " + mean_text(saved, 1) + " % of the samples saved; of the time they cost, " +
         by_cpu + " by CPU time and " + mean_text(wall_ratios, 2) + " by the wall clock\n";
}

}  // namespace

nlohmann::json report_json(const TrainOptions& options,
                           const Dataset& data,
                           const std::vector<Figures>& runs) {
  nlohmann::json list = nlohmann::json::array();
  for (const Figures& run : runs) {
    nlohmann::json history = to_json(run).at("history");
    list.push_back({{"arm", run.arm},
                    {"seed", run.seed},
                    {"accuracy", run.accuracy()},
                    {"loss", or_null(run.loss())},
                    {"samples_full", run.samples_full},
                    {"samples_trained", run.samples_trained},
                    {"saved", run.saved()},
                    {"seconds", run.time.wall},
                    {"cpu_seconds", run.time.cpu},
                    {"steps", run.steps},
                    {"epochs", run.history.size()},
                    {"seconds_saved_over_samples_saved", or_null(wall_ratio(run, runs))},
                    {"cpu_seconds_saved_over_samples_saved", or_null(cpu_ratio(run, runs))},
                    {"history", std::move(history)}});
  }
  nlohmann::json config = {
      {"arms", options.arms},
      {"seeds", options.seeds},
      {"data", options.data},
      {"data_seed",
       options.data_name() == "builtin" ? nlohmann::json(options.data_seed) : nlohmann::json()},
      {"train_samples", data.train.size()},
      {"test_samples", data.test.size()},
      {"classes", data.classes},
      {"model", options.model},
      {"dtype", options.dtype},
      {"device", options.device},
      {"epochs", options.epochs},
      {"batch_size", options.batch_size},
      {"lr", options.lr},
      {"weight_decay", options.weight_decay},
      {"label_smoothing", options.label_smoothing},
      {"prune_ratio", options.prune_ratio},
      {"delta", options.delta},
      {"share", options.share ? nlohmann::json(*options.share) : nlohmann::json()},
      {"threads", options.threads},
      {"interleave", options.interleave}};
  return {{"runs", std::move(list)},
          {"config", std::move(config)},
          {"versions", {{"infobatch", INFOBATCH_VERSION}, {"torch", TORCH_VERSION}}},
          {"machine", {{"processor", processor()}}}};
}

std::string report_table(const TrainOptions& options,
                         const Dataset& data,
                         const std::vector<Figures>& runs) {
  std::vector<std::vector<std::string>> rows = {{"arm",
                                                 "test accuracy %",
                                                 "samples trained",
                                                 "saved %",
                                                 "CPU s",
                                                 "seconds",
                                                 "CPU s saved / samples saved",
                                                 "by the wall clock"}};
  std::string verdicts;
  for (const std::string& arm : options.arms) {
    std::vector<double> accuracy, trained, saved, seconds, cpu, wall_ratios, cpu_ratios;
    for (const Figures& run : runs) {
      if (run.arm != arm) continue;
      accuracy.push_back(run.accuracy());
      trained.push_back(static_cast<double>(run.samples_trained));
      saved.push_back(100.0 * run.saved());
      seconds.push_back(run.time.wall);
      cpu.push_back(run.time.cpu);
      wall_ratios.push_back(wall_ratio(run, runs));
      cpu_ratios.push_back(cpu_ratio(run, runs));
    }
    rows.push_back({arm,
                    mean_text(accuracy, 2),
                    mean_text(trained, 0),
                    mean_text(saved, 1),
                    mean_text(cpu, 1),
                    mean_text(seconds, 1),
                    mean_text(cpu_ratios, 3),
                    mean_text(wall_ratios, 3)});
    verdicts += verdict(arm, saved, cpu_ratios, wall_ratios);
  }
  const std::string seeds = std::to_string(options.seeds.size());
  return options.data_name() + ", " + options.model + ", " + options.dtype + ": " +
         std::to_string(options.epochs) + " epochs of " + std::to_string(data.train.size()) +
         " samples, batch " + std::to_string(options.batch_size) + ", " +
         std::to_string(options.threads) + " threads, " + seeds +
         (options.seeds.size() == 1 ? " seed\n" : " seeds (mean +- deviation)\n") + lay_out(rows) +
         verdicts;
}

}  // namespace infobatch::train
