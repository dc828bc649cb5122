// A training process is killed with SIGKILL at random moments, again and again, and ends with the
// log of the one that was never stopped. It saves after every step, so it is killed in saves, too.
// How far it comes each time is counted in steps, so nothing here depends on how long one takes.

#include <tests/samplers/toy.hpp>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <sstream>
#include <thread>

extern char** environ;

namespace infobatch::testing {
namespace {

constexpr std::int64_t kKillSize = 240;
constexpr std::int64_t kKillEpochs = 6;
constexpr std::int64_t kKillBatch = 10;
constexpr const char* kFolderVariable = "INFOBATCH_TEST_KILL_FOLDER";
constexpr const char* kWorkersVariable = "INFOBATCH_TEST_KILL_WORKERS";
constexpr const char* kStepsVariable = "INFOBATCH_TEST_KILL_STEPS";
constexpr const char* kTrainer = "the training that the kill test kills reaches its end";

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// One line a step, written with one call, so that a kill leaves whole lines.
class Log {
 public:
  explicit Log(const std::string& path)
      : file_(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600)) {
    REQUIRE(file_ >= 0);
  }
  ~Log() { close(file_); }
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  void write_step(std::int64_t epoch,
                  std::int64_t position,
                  const torch::Tensor& ids,
                  const torch::Tensor& weighted,
                  const torch::Tensor& losses) {
    std::ostringstream line;
    line << epoch << ' ' << position << std::hex;
    for (const std::int64_t id : to_vector(ids)) line << ' ' << id;
    for (const std::uint32_t word : bits(weighted)) line << ' ' << word;
    for (const std::uint32_t word : bits(losses)) line << ' ' << word;
    line << " end\n";
    const std::string text = line.str();
    REQUIRE(write(file_, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }

 private:
  int file_;
};

struct Trainer {
  std::size_t workers = 0;
  bool saves = true;
  std::int64_t steps = INT64_MAX;  ///< behind these it waits to be killed
};

/// Goes on from what is in `folder` to the end of the run.
///
/// The model's file is named after its place in the run and is written first; the state's atomic
/// replacement then makes both the place to go on from.
void train(const std::string& folder, Trainer trainer) {
  const pid_t killer = getppid();
  const std::string state = folder + "/state";
  InfoBatch ib(kKillSize, Options(kKillEpochs).seed(11));
  torch::nn::Linear model = toy_model();
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.05).momentum(0.9));
  const auto place = [&](const char* what) {
    std::ostringstream name;
    const Session& session = *ib.session();
    name << folder << '/' << what << '-' << ib.statistics().epoch << '-' << session.position();
    return name.str();
  };
  if (std::filesystem::exists(state)) {
    ib.load(state);
    torch::load(model, place("model"));
    torch::load(optimizer, place("optimizer"));
  }
  Log log(folder + "/log");
  auto loader = make_data_loader(
      ToyData(kKillSize), ib, torch::data::DataLoaderOptions(kKillBatch).workers(trainer.workers));
  std::string old_model;
  std::string old_optimizer;
  while (ib.epoch() < kKillEpochs) {
    const std::int64_t epoch = ib.epoch();
    for (ToyBatch& batch : *loader) {
      optimizer.zero_grad();
      const torch::Tensor losses = toy_losses(model, batch);
      const torch::Tensor rows = ib.update(losses, Reduction::kNone);
      rows.mean().backward();
      optimizer.step();
      log.write_step(epoch, ib.session()->position(), batch.ids, rows, losses);
      if (!trainer.saves) continue;
      torch::save(model, place("model"));
      torch::save(optimizer, place("optimizer"));
      ib.save(state);
      if (!old_model.empty()) {
        unlink(old_model.c_str());
        unlink(old_optimizer.c_str());
      }
      old_model = place("model");
      old_optimizer = place("optimizer");
      --trainer.steps;
      while (trainer.steps <= 0 && getppid() == killer) usleep(1000);
    }
  }
}

TEST_CASE(kTrainer, "[samplers][resume]") {
  const char* folder = std::getenv(kFolderVariable);
  if (folder != nullptr) {  // started by the test below, which reads the log
    torch::set_num_threads(1);
    Trainer trainer;
    trainer.workers = static_cast<std::size_t>(std::atoi(std::getenv(kWorkersVariable)));
    trainer.steps = std::atoll(std::getenv(kStepsVariable));
    train(folder, trainer);
    return;
  }
  const Folder own;
  train(own.file(""), Trainer{});
  REQUIRE(text_of(own.file("log")).find("\n5 240 ") != std::string::npos);
}

pid_t start(const std::string& folder, int workers, std::int64_t steps) {
  REQUIRE(setenv(kFolderVariable, folder.c_str(), 1) == 0);
  REQUIRE(setenv(kWorkersVariable, std::to_string(workers).c_str(), 1) == 0);
  REQUIRE(setenv(kStepsVariable, std::to_string(steps).c_str(), 1) == 0);
  std::string program = "/proc/self/exe";
  std::string name = kTrainer;
  char* arguments[] = {program.data(), name.data(), nullptr};
  posix_spawn_file_actions_t actions;
  REQUIRE(posix_spawn_file_actions_init(&actions) == 0);
  const std::string output = folder + "/output";
  REQUIRE(posix_spawn_file_actions_addopen(
              &actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600) == 0);
  pid_t process = 0;
  const int failed = posix_spawn(&process, program.c_str(), &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  unsetenv(kFolderVariable);
  unsetenv(kWorkersVariable);
  unsetenv(kStepsVariable);
  REQUIRE(failed == 0);
  return process;
}

/// Lines by (epoch, position); a step that was done again must have shown the same.
std::map<std::string, std::string> steps_of(const std::string& log) {
  std::map<std::string, std::string> steps;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    REQUIRE(line.size() > 4);
    REQUIRE(line.substr(line.size() - 4) == " end");
    const std::size_t key = line.find(' ', line.find(' ') + 1);
    const auto [step, is_new] = steps.emplace(line.substr(0, key), line);
    REQUIRE((is_new || step->second == line));
  }
  return steps;
}

/// Waits until the log has `lines` lines, then for a random part of the time that the last step
/// took, so that it is as likely to hit a save on a slow disk as on a fast one.
/// @return whether the process ended before.
bool ended_before(pid_t process,
                  int& status,
                  const std::string& log,
                  std::ptrdiff_t lines,
                  std::mt19937& random) {
  using Clock = std::chrono::steady_clock;
  Clock::duration step{};
  Clock::time_point last_line = Clock::now();
  std::ptrdiff_t seen = -1;
  while (seen < lines) {
    const std::string text = text_of(log);
    const std::ptrdiff_t found = std::count(text.begin(), text.end(), '\n');
    if (found != seen) {
      step = Clock::now() - last_line;
      last_line = Clock::now();
      seen = found;
      continue;
    }
    if (waitpid(process, &status, WNOHANG) == process) return true;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  std::this_thread::sleep_for(step * (random() % 1500) / 1000);
  return false;
}

TEST_CASE("a training killed with SIGKILL at random moments ends as one never stopped",
          "[samplers][resume][slow]") {
  constexpr int kKills = 6;
  const int workers = GENERATE(0, 4);
  const Folder whole;
  Trainer undisturbed;
  undisturbed.saves = false;
  train(whole.file(""), undisturbed);
  const auto expected = steps_of(text_of(whole.file("log")));
  REQUIRE(expected.size() > 6 * kKills);  // more than all processes but the last can do

  const Folder folder;
  const std::string log = folder.file("log");
  std::mt19937 random(static_cast<unsigned>(2024 + workers));
  int status = 0;
  for (int kill_number = 0; kill_number < kKills; ++kill_number) {
    CAPTURE(kill_number);
    const std::string text = text_of(log);
    const std::ptrdiff_t before = std::count(text.begin(), text.end(), '\n');
    // Killed at any moment behind the last but one of its steps: earlier ones it has saved.
    const auto steps = static_cast<std::int64_t>(3 + random() % 4);
    const pid_t process = start(folder.file(""), workers, steps);
    REQUIRE_FALSE(ended_before(process, status, log, before + steps - 1, random));
    REQUIRE(kill(process, SIGKILL) == 0);
    REQUIRE(waitpid(process, &status, 0) == process);
    REQUIRE(WIFSIGNALED(status));
    REQUIRE(WTERMSIG(status) == SIGKILL);
  }
  const pid_t last = start(folder.file(""), workers, INT64_MAX);
  REQUIRE(waitpid(last, &status, 0) == last);
  INFO(text_of(folder.file("output")));
  REQUIRE(WIFEXITED(status));
  REQUIRE(WEXITSTATUS(status) == 0);
  REQUIRE(steps_of(text_of(log)) == expected);
}

}  // namespace
}  // namespace infobatch::testing
