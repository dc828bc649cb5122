#include <examples/train/figures.hpp>

#include <nlohmann/json.hpp>

#include <limits>

namespace infobatch::train {
namespace {

double over_samples(double seconds, double full_seconds, const Figures& run, const Figures& full) {
  const double samples_saved =
      1.0 - static_cast<double>(run.samples_trained) / static_cast<double>(full.samples_trained);
  if (samples_saved <= 0.0) return std::numeric_limits<double>::quiet_NaN();
  return (1.0 - seconds / full_seconds) / samples_saved;
}

}  // namespace

double Figures::saved() const {
  return 1.0 - static_cast<double>(samples_trained) / static_cast<double>(samples_full);
}

double seconds_over_samples(const Figures& run, const Figures& full) {
  return over_samples(run.time.wall, full.time.wall, run, full);
}

double cpu_seconds_over_samples(const Figures& run, const Figures& full) {
  return over_samples(run.time.cpu, full.time.cpu, run, full);
}

double number_or_nan(const nlohmann::json& json) {
  return json.is_null() ? std::numeric_limits<double>::quiet_NaN() : json.get<double>();
}

nlohmann::json to_json(const Figures& figures) {
  nlohmann::json history = nlohmann::json::array();
  for (const EpochFigures& epoch : figures.history) {
    history.push_back({{"epoch", epoch.epoch},
                       {"kept", epoch.kept},
                       {"trained", epoch.trained},
                       {"loss", epoch.loss},
                       {"accuracy", epoch.accuracy},
                       {"seconds", epoch.time.wall},
                       {"cpu_seconds", epoch.time.cpu}});
  }
  return {{"arm", figures.arm},
          {"seed", figures.seed},
          {"samples_full", figures.samples_full},
          {"samples_trained", figures.samples_trained},
          {"steps", figures.steps},
          {"planned_share", figures.planned_share},
          {"seconds", figures.time.wall},
          {"cpu_seconds", figures.time.cpu},
          {"history", std::move(history)},
          {"finished", figures.finished}};
}

Figures figures_from_json(const nlohmann::json& json) {
  Figures figures;
  json.at("arm").get_to(figures.arm);
  json.at("seed").get_to(figures.seed);
  json.at("samples_full").get_to(figures.samples_full);
  json.at("samples_trained").get_to(figures.samples_trained);
  json.at("steps").get_to(figures.steps);
  json.at("planned_share").get_to(figures.planned_share);
  json.at("seconds").get_to(figures.time.wall);
  json.at("cpu_seconds").get_to(figures.time.cpu);
  json.at("finished").get_to(figures.finished);
  for (const nlohmann::json& item : json.at("history")) {
    EpochFigures epoch;
    item.at("epoch").get_to(epoch.epoch);
    item.at("kept").get_to(epoch.kept);
    item.at("trained").get_to(epoch.trained);
    epoch.loss = number_or_nan(item.at("loss"));
    item.at("accuracy").get_to(epoch.accuracy);
    item.at("seconds").get_to(epoch.time.wall);
    item.at("cpu_seconds").get_to(epoch.time.cpu);
    figures.history.push_back(epoch);
  }
  return figures;
}

}  // namespace infobatch::train
