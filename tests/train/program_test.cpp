#include <tests/support/catch2_shim.hpp>
#include <tests/train/fixture.hpp>

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>

// infobatch-train itself, as a process, on a data set of 320 images.

using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr const char* kAllArms =
    "full,full-short,random,infobatch,infobatch-exact,infobatch-quantile,infobatch-norescale,"
    "infobatch-noanneal,ucb,orderdp";

/// A small data set, and runs on it.
struct Workplace {
  Workplace() { write_cifar10(data.path(), 64); }

  std::vector<std::string> arguments(const std::vector<std::string>& more) const {
    std::vector<std::string> all = {
        "--data=cifar10:" + data.path(), "--batch-size=16", "--threads=" + threads, "--lr=0.05"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  TemporaryFolder data;
  TemporaryFolder results;
  std::string threads = "1";
};

std::size_t lines(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace

TEST_CASE("infobatch-train: every arm runs and keeps its promise", "[train][program]") {
  const Workplace place;
  const std::string json = place.results.file("out.json");
  Program program(place.results,
                  place.arguments({"--epochs=8", "--arms", kAllArms, "--json", json}));
  REQUIRE(program.wait() == 0);
  const auto runs = timeless_runs(json);
  REQUIRE(runs.size() == 10);
  const std::int64_t full_samples = 8 * 320;
  const auto trained = [&runs](const std::string& arm) {
    return runs.at(arm + "/1").at("samples_trained").get<std::int64_t>();
  };
  for (const auto& [name, run] : runs) {
    CAPTURE(name);
    REQUIRE(run.at("samples_full") == full_samples);
    REQUIRE(run.at("steps").get<std::int64_t>() * 16 ==
            run.at("samples_trained").get<std::int64_t>());
    REQUIRE(run.at("accuracy").get<double>() > 15.0);  // ten classes: guessing gives 10
    REQUIRE(run.at("history").size() == run.at("epochs").get<std::size_t>());
  }
  REQUIRE(trained("full") == full_samples);
  REQUIRE(trained("full-short") == trained("infobatch"));
  for (const std::string arm : {"infobatch",
                                "infobatch-exact",
                                "infobatch-quantile",
                                "infobatch-norescale",
                                "infobatch-noanneal",
                                "ucb",
                                "orderdp",
                                "random"}) {
    CAPTURE(arm);
    REQUIRE(trained(arm) < full_samples);
  }
  // At infobatch's share: up to a dropped rest of less than a batch in each of the 8 epochs, either
  // way.
  REQUIRE(std::abs(trained("random") - trained("infobatch")) <= 8 * 16);
  // Annealed arms end with full epochs, this one goes on pruning.
  const auto last_kept = [&runs](const std::string& arm) {
    return runs.at(arm + "/1").at("history").back().at("kept").get<std::int64_t>();
  };
  REQUIRE(last_kept("infobatch") == 320);
  REQUIRE(last_kept("random") == 320);
  REQUIRE(last_kept("infobatch-noanneal") < 320);
  // Without weights the network goes another way, from the first pruned epoch on.
  REQUIRE(runs.at("infobatch-norescale/1").at("loss") != runs.at("infobatch/1").at("loss"));
  // The table: a headline, the columns, one line an arm; and one for each arm that saves something.
  // Plain progress: a line an epoch.
  REQUIRE(lines(program.output()) == 2 + 10 + 9);
  REQUIRE_THAT(program.output(), ContainsSubstring("infobatch-noanneal"));
  REQUIRE_THAT(program.errors(), ContainsSubstring("epoch 8/8"));
  REQUIRE_THAT(program.errors(), !ContainsSubstring("\x1b"));
}

TEST_CASE("infobatch-train: the same command gives the same figures, interleaved or not",
          "[train][program]") {
  const Workplace place;
  const std::vector<std::string> common = {
      "--epochs=3", "--seeds=1,2", "--arms", "infobatch,random,full"};
  std::vector<std::map<std::string, nlohmann::json>> results;
  for (const bool interleave : {false, false, true}) {
    auto arguments = place.arguments(common);
    arguments.insert(arguments.end(), {"--json", place.results.file("out.json")});
    if (interleave) arguments.emplace_back("--interleave");
    Program program(place.results, arguments);
    REQUIRE(program.wait() == 0);
    results.push_back(timeless_runs(place.results.file("out.json")));
  }
  REQUIRE(results[0].size() == 6);
  REQUIRE(results[0] == results[1]);
  REQUIRE(results[0] == results[2]);
  REQUIRE(results[0].at("full/1").at("loss") != results[0].at("full/2").at("loss"));
}

TEST_CASE("infobatch-train: other precisions train too", "[train][program]") {
  Workplace place;
  place.threads = "2";
  const std::string dtype = GENERATE("bf16", "fp64");
  const std::string json = place.results.file("out.json");
  Program program(place.results, place.arguments({"--epochs=4", "--dtype", dtype, "--json", json}));
  REQUIRE(program.wait() == 0);
  for (const auto& [name, run] : timeless_runs(json)) {
    CAPTURE(name, dtype);
    REQUIRE(run.at("loss").get<double>() < 2.3);
  }
}

TEST_CASE("infobatch-train: --share stands for the infobatch run", "[train][program]") {
  const Workplace place;
  const std::string json = place.results.file("out.json");
  Program program(
      place.results,
      place.arguments({"--epochs=4", "--arms=random,full-short", "--share=0.25", "--json", json}));
  REQUIRE(program.wait() == 0);
  const auto runs = timeless_runs(json);
  REQUIRE(runs.at("full-short/1").at("samples_trained") == 4 * 320 * 3 / 4);
  // The sampler keeps the share to the sample; a rest of less than a batch an epoch is dropped.
  const auto random = runs.at("random/1").at("samples_trained").get<std::int64_t>();
  REQUIRE(random <= 4 * 320 * 3 / 4 + 16);
  REQUIRE(random > 4 * 320 * 3 / 4 - 4 * 16 - 64);
}

TEST_CASE("infobatch-train: with --share all arms take turns", "[train][program]") {
  const Workplace place;
  Program program(
      place.results,
      place.arguments(
          {"--epochs=3", "--arms=full,random,infobatch", "--share=0.25", "--interleave"}));
  REQUIRE(program.wait() == 0);
  std::vector<std::string> turns;
  std::istringstream errors(program.errors());
  for (std::string line; std::getline(errors, line);) {
    if (line.find("  epoch ") != std::string::npos) turns.push_back(line.substr(0, line.find(' ')));
  }
  REQUIRE(turns.size() == 9);
  for (std::size_t turn = 0; turn < turns.size(); ++turn) {
    REQUIRE(turns[turn] == std::vector<std::string>{"full", "random", "infobatch"}[turn % 3]);
  }
}

TEST_CASE("infobatch-train: an epoch of less than one batch trains nothing, and says why",
          "[train][program]") {
  const Workplace place;
  const std::string json = place.results.file("out.json");
  Program program(
      place.results,
      place.arguments(
          {"--samples=16", "--epochs=6", "--arms=infobatch", "--prune-ratio=0.9", "--json", json}));
  REQUIRE(program.wait() == 0);
  REQUIRE_THAT(program.errors(), ContainsSubstring("drop_last with a batch of 16"));
  const auto run = timeless_runs(json).at("infobatch/1");
  REQUIRE(run.at("history").size() == 6);
  for (const auto& epoch : run.at("history")) {
    const bool whole_batch = epoch.at("kept") == 16;
    REQUIRE(epoch.at("trained") == (whole_batch ? 16 : 0));
    REQUIRE(epoch.at("loss").is_null() == !whole_batch);
  }
  REQUIRE(run.at("samples_trained").get<int>() < 6 * 16);
}

TEST_CASE("infobatch-train: mistakes are one line, status 2, nothing written", "[train][program]") {
  const Workplace place;
  const std::string folder = place.results.path();
  const std::vector<std::vector<std::string>> mistakes = {
      {"--data=cifar10:/no/such/folder"},
      {"--arms=full,unknown"},
      {"--epochs=0"},
      {"--dtype=fp8"},
      {"--device=cuda:99"},
      {"--model=big"},
      {"--prune-ratio=half"},
      {"--samples=100000", "--data=cifar10:" + place.data.path()},
      {"--arms=random", "--share=0.999", "--epochs=4", "--data=cifar10:" + place.data.path()},
      {"--whatever"}};
  for (std::vector<std::string> mistake : mistakes) {
    mistake.insert(mistake.end(),
                   {"--json", folder + "/out.json", "--checkpoint", folder + "/state"});
    CAPTURE(mistake);
    Program program(place.results, mistake);
    REQUIRE(program.wait() == 2);
    REQUIRE(program.output().empty());
    REQUIRE(lines(program.errors()) == 1);
    REQUIRE_THAT(program.errors(), Catch::Matchers::StartsWith("infobatch-train: "));
    REQUIRE(place.results.names().empty());
  }
}

TEST_CASE("infobatch-train: files beside its own are left alone", "[train][program]") {
  const Workplace place;
  const std::string state = place.results.file("state");
  { std::ofstream(state + ".tmp") << "mine"; }
  Program program(place.results,
                  {"--arms=random",
                   "--share=0.999",
                   "--epochs=4",
                   "--data=cifar10:" + place.data.path(),
                   "--checkpoint",
                   state});
  REQUIRE(program.wait() == 2);
  std::ifstream kept(state + ".tmp");
  std::string text;
  REQUIRE(std::getline(kept, text));
  REQUIRE(text == "mine");
}

TEST_CASE("infobatch-train: what cannot be written at the end is refused at the beginning",
          "[train][program]") {
  const Workplace place;
  const std::string json = place.results.file("out.json");
  const std::string pipe = place.results.file("pipe");
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  SECTION("a pipe") {
    Program program(place.results, place.arguments({"--epochs=1", "--json", pipe}));
    REQUIRE(program.wait() == 2);
    REQUIRE_THAT(program.errors(), ContainsSubstring("--json: cannot write " + pipe));
  }
  SECTION("a pipe as checkpoint") {
    Program program(place.results, place.arguments({"--epochs=1", "--checkpoint", pipe}));
    REQUIRE(program.wait() == 2);
    REQUIRE_THAT(program.errors(), ContainsSubstring("is no file"));
  }
  SECTION("something of the name that it is written under first") {
    REQUIRE(::rename(pipe.c_str(), (json + ".tmp").c_str()) == 0);
    Program program(place.results, place.arguments({"--epochs=1", "--json", json}));
    REQUIRE(program.wait() == 2);
    REQUIRE_THAT(program.errors(), ContainsSubstring("out.json.tmp"));
  }
}

TEST_CASE("infobatch-train: a link is followed, names need not be UTF-8", "[train][program]") {
  const Workplace place;
  const std::string odd = place.data.path() + "/\xff";
  REQUIRE(::symlink(".", odd.c_str()) == 0);
  const std::string json = place.results.file("out.json");
  REQUIRE(::symlink("out.json", place.results.file("link").c_str()) == 0);
  { std::ofstream(json) << "old"; }
  Program program(place.results,
                  {"--data=cifar10:" + odd,
                   "--batch-size=16",
                   "--epochs=1",
                   "--arms=full",
                   "--json",
                   place.results.file("link")});
  REQUIRE(program.wait() == 0);
  REQUIRE(timeless_runs(json).size() == 1);
}

TEST_CASE("infobatch-train: --help is complete and costs nothing", "[train][program]") {
  const TemporaryFolder folder;
  Program program(folder, {"--help"});
  REQUIRE(program.wait() == 0);
  REQUIRE_THAT(program.output(), ContainsSubstring("--checkpoint-every"));
  REQUIRE(program.errors().empty());
}
