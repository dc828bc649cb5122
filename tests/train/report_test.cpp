#include <examples/train/report.hpp>
#include <tests/support/catch2_shim.hpp>

#include <nlohmann/json.hpp>

#include <cmath>

using namespace infobatch::train;
using Catch::Matchers::ContainsSubstring;

namespace {

Figures figures(const std::string& arm, std::uint64_t seed, std::int64_t samples, double seconds) {
  Figures result;
  result.arm = arm;
  result.seed = seed;
  result.samples_full = 1000;
  result.samples_trained = samples;
  result.steps = samples / 10;
  result.time = {seconds, 2 * seconds};
  EpochFigures epoch;
  epoch.accuracy = 90.0 + static_cast<double>(seed);
  epoch.loss = 0.25;
  result.history = {EpochFigures{}, epoch};
  result.finished = true;
  return result;
}

}  // namespace

TEST_CASE("report: seconds saved over samples saved, by hand", "[train][report]") {
  const Figures full = figures("full", 1, 1000, 100.0);
  // 40 % of the samples and 38 % of the seconds saved.
  REQUIRE(seconds_over_samples(figures("infobatch", 1, 600, 62.0), full) == Catch::Approx(0.95));
  REQUIRE(cpu_seconds_over_samples(figures("infobatch", 1, 600, 60.0), full) == Catch::Approx(1.0));
  REQUIRE(std::isnan(seconds_over_samples(figures("infobatch", 1, 1000, 90.0), full)));
  REQUIRE(figures("infobatch", 1, 600, 62.0).saved() == Catch::Approx(0.4));
}

TEST_CASE("report: JSON has every field of every run, ratios against the same seed's full run",
          "[train][report]") {
  TrainOptions options = parse_options({"--seeds", "1,2", "--threads", "1"});
  Dataset data;
  data.classes = 10;
  data.train.labels.resize(100);
  const auto json = report_json(options,
                                data,
                                {figures("full", 1, 1000, 100.0),
                                 figures("infobatch", 1, 600, 62.0),
                                 figures("full", 2, 1000, 200.0),
                                 figures("infobatch", 2, 500, 100.0)});
  REQUIRE(json.at("runs").size() == 4);
  const auto& run = json.at("runs").at(1);
  REQUIRE(run.at("arm") == "infobatch");
  REQUIRE(run.at("seed") == 1);
  REQUIRE(run.at("accuracy") == 91.0);
  REQUIRE(run.at("loss") == 0.25);
  REQUIRE(run.at("samples_full") == 1000);
  REQUIRE(run.at("samples_trained") == 600);
  REQUIRE(run.at("saved").get<double>() == Catch::Approx(0.4));
  REQUIRE(run.at("seconds") == 62.0);
  REQUIRE(run.at("cpu_seconds") == 124.0);
  REQUIRE(run.at("steps") == 60);
  REQUIRE(run.at("epochs") == 2);
  REQUIRE(run.at("history").size() == 2);
  REQUIRE(run.at("seconds_saved_over_samples_saved").get<double>() == Catch::Approx(0.95));
  REQUIRE(json.at("runs").at(3).at("seconds_saved_over_samples_saved").get<double>() ==
          Catch::Approx(1.0));
  REQUIRE(json.at("runs").at(0).at("seconds_saved_over_samples_saved").is_null());
  REQUIRE(json.at("config").at("epochs") == 16);
  REQUIRE(json.at("config").at("train_samples") == 100);
  REQUIRE(json.at("versions").at("torch").is_string());
}

TEST_CASE("report: the table shows means and deviations over the seeds", "[train][report]") {
  TrainOptions options = parse_options({"--seeds", "1,2", "--threads", "1"});
  Dataset data;
  data.train.labels.resize(100);
  const std::string table = report_table(options,
                                         data,
                                         {figures("full", 1, 1000, 100.0),
                                          figures("full", 2, 1000, 100.0),
                                          figures("infobatch", 1, 600, 62.0),
                                          figures("infobatch", 2, 600, 62.0)});
  REQUIRE_THAT(table, ContainsSubstring("91.50 +- 0.71"));
  REQUIRE_THAT(table, ContainsSubstring("40.0 +- 0.0"));
  REQUIRE_THAT(table, ContainsSubstring("0.950 +- 0.000"));
  REQUIRE_THAT(table, !ContainsSubstring("full: "));
  const std::string without_full =
      report_table(options, data, {figures("infobatch", 1, 600, 62.0)});
  REQUIRE_THAT(without_full, ContainsSubstring("40.0"));
  REQUIRE_THAT(without_full, !ContainsSubstring("0.950"));
}

TEST_CASE("report: the ratio by CPU time stands before the wall clock's", "[train][report]") {
  TrainOptions options = parse_options({"--threads", "1"});
  Dataset data;
  data.train.labels.resize(100);
  // Another program ran beside the second arm: 40 % of the samples and of the processor's time are
  // saved, and a quarter of the seconds.
  Figures busy = figures("infobatch", 1, 600, 75.0);
  busy.time.cpu = 120.0;
  const std::string table = report_table(options, data, {figures("full", 1, 1000, 100.0), busy});
  const std::size_t cpu = table.find("1.000");
  const std::size_t wall = table.find("0.625");
  REQUIRE(cpu != std::string::npos);
  REQUIRE(wall != std::string::npos);
  REQUIRE(cpu < wall);
  REQUIRE_THAT(table,
               ContainsSubstring(
                   "infobatch: 40.0 % of the samples saved; of the time they cost, 1.00 by CPU "
                   "time and 0.62 by the wall clock\n"));
}

TEST_CASE("report: figures read back from JSON equal to the bit, NaN included", "[train][report]") {
  Figures before = figures("random", 18446744073709551615u, 640, 0.1 + 0.2);
  before.planned_share = 1.0 / 3.0;
  before.history[0].loss = std::nan("");
  const Figures after = figures_from_json(nlohmann::json::parse(to_json(before).dump()));
  REQUIRE(after.seed == before.seed);
  REQUIRE(after.planned_share == before.planned_share);
  REQUIRE(after.time.wall == before.time.wall);
  REQUIRE(after.history.size() == 2);
  REQUIRE(std::isnan(after.history[0].loss));
  REQUIRE(after.history[1].accuracy == before.history[1].accuracy);
  REQUIRE(after.finished);
}
