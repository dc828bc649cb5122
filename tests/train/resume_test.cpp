#include <tests/support/catch2_shim.hpp>
#include <tests/train/fixture.hpp>

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <random>

// Runs that are interrupted, in every way, against runs that never were.

using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

struct Interrupted {
  Interrupted() { write_cifar10(data.path(), 64); }

  std::vector<std::string> arguments(const std::string& name,
                                     const std::vector<std::string>& more) const {
    std::vector<std::string> all = {"--data=cifar10:" + data.path(),
                                    "--batch-size=16",
                                    "--threads=1",
                                    "--lr=0.05",
                                    "--epochs=4",
                                    "--json=" + results.file(name)};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  TemporaryFolder data;
  TemporaryFolder results;
};

bool exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

/// Changes whenever the file is replaced.
ino_t identity(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

/// Waits until `done` or the program's end. @return whether it was `done`.
template <typename Condition>
bool wait_for(Program& program, Condition done) {
  while (!done()) {
    if (!program.running()) return false;
    ::usleep(50);
  }
  return true;
}

/// Lets the program come some way beyond its last checkpoint, then kills it: while it writes the
/// next checkpoint, or at any moment of the time that one takes, however long that is.
void kill_somewhere(Program& program, const std::string& checkpoint, std::mt19937& random) {
  using Clock = std::chrono::steady_clock;
  const bool while_saving = random() % 2 == 0;
  Clock::duration gap{};
  for (unsigned writes = 2 + random() % 5; writes > 0; --writes) {
    const ino_t before = identity(checkpoint);
    const auto begin = Clock::now();
    if (!wait_for(program, [&] { return identity(checkpoint) != before; })) return;
    gap = Clock::now() - begin;
  }
  const auto end = Clock::now() + gap * (random() % 1000) / 1000;
  const auto reached = [&] {
    return while_saving ? exists(checkpoint + ".tmp") : Clock::now() >= end;
  };
  if (wait_for(program, reached)) program.send(SIGKILL);
}

}  // namespace

TEST_CASE(
    "infobatch-train: killed with SIGKILL anywhere, it ends with the figures of a run that was "
    "never stopped",
    "[train][resume][slow]") {
  const Interrupted place;
  const bool interleave = GENERATE(false, true);
  std::vector<std::string> options = {"--arms=full,infobatch,random,full-short"};
  if (interleave) options.emplace_back("--interleave");
  Program undisturbed(place.results, place.arguments("expected.json", options));
  REQUIRE(undisturbed.wait() == 0);

  const std::string checkpoint = place.results.file("state");
  options.insert(options.end(), {"--checkpoint", checkpoint, "--checkpoint-every=5"});
  std::mt19937 random(interleave ? 7 : 8);
  constexpr int kKills = 5;
  int killed = 0;
  int status = -1;
  while (status != 0) {
    Program program(place.results, place.arguments("actual.json", options));
    if (killed < kKills) kill_somewhere(program, checkpoint, random);
    status = program.wait();
    CAPTURE(program.errors());
    REQUIRE((status == 0 || status == 128 + SIGKILL));
    if (status != 0) ++killed;
  }
  REQUIRE(killed >= kKills / 2);  // else the run was too short to be disturbed
  REQUIRE(timeless_runs(place.results.file("actual.json")) ==
          timeless_runs(place.results.file("expected.json")));
}

TEST_CASE("infobatch-train: SIGINT ends it cleanly, the same command goes on", "[train][resume]") {
  const Interrupted place;
  Program undisturbed(place.results, place.arguments("expected.json", {}));
  REQUIRE(undisturbed.wait() == 0);

  const std::string checkpoint = place.results.file("state");
  const std::vector<std::string> options = {"--checkpoint=" + checkpoint, "--checkpoint-every=7"};
  for (int attempt = 0;; ++attempt) {
    Program program(place.results, place.arguments("actual.json", options));
    const bool in_time = wait_for(program, [&] { return exists(checkpoint); });
    program.send(SIGINT);
    const int status = program.wait();
    CAPTURE(attempt, in_time, program.errors());
    if (status == 0 && attempt < 20) {  // the run was over before the signal came: once more
      ::unlink(checkpoint.c_str());
      ::unlink(place.results.file("actual.json").c_str());
      continue;
    }
    REQUIRE(status == 128 + SIGINT);
    REQUIRE_THAT(program.errors(), ContainsSubstring("the same command goes on"));
    REQUIRE_FALSE(exists(place.results.file("actual.json")));
    break;
  }
  Program resumed(place.results, place.arguments("actual.json", options));
  REQUIRE(resumed.wait() == 0);
  REQUIRE_THAT(resumed.errors(), ContainsSubstring("going on from"));
  REQUIRE(timeless_runs(place.results.file("actual.json")) ==
          timeless_runs(place.results.file("expected.json")));

  // A finished checkpoint gives its figures again, seconds included.
  const std::string before = read_text(place.results.file("actual.json"));
  Program again(place.results, place.arguments("actual.json", options));
  REQUIRE(again.wait() == 0);
  REQUIRE(read_text(place.results.file("actual.json")) == before);

  // One of another configuration, and a damaged one, are refused and stay as they are.
  const std::string whole = read_text(checkpoint);
  ::unlink(place.results.file("actual.json").c_str());
  const auto refuse = [&](const std::vector<std::string>& given, const char* text) {
    const std::string there = read_text(checkpoint);
    Program refused(place.results, place.arguments("actual.json", given));
    REQUIRE(refused.wait() == 2);
    REQUIRE_THAT(refused.errors(), ContainsSubstring(text));
    REQUIRE(read_text(checkpoint) == there);
    REQUIRE_FALSE(exists(place.results.file("actual.json")));
  };
  auto other = options;
  other.emplace_back("--prune-ratio=0.4");
  refuse(other, "was made with --prune-ratio 0.5, this run has 0.4");
  write_text(checkpoint, whole.substr(0, 500));
  refuse(options, "is truncated");
}
