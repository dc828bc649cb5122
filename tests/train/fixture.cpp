#include <infobatch/detail/philox.hpp>
#include <tests/train/fixture.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <stdexcept>

namespace infobatch::testing {
namespace {

constexpr int kPixels = 3 * 32 * 32;

/// Records with `label_bytes` labels each; `labels` gives them by record number.
template <typename Labels>
std::string records(int count, std::uint64_t seed, Labels labels) {
  std::string bytes;
  for (int i = 0; i < count; ++i) {
    const std::string label = labels(i);
    bytes += label;
    const int shown = static_cast<std::uint8_t>(label.back());
    const int noise = 20 + 200 * (i % 16) / 16;
    for (int k = 0; k < kPixels; ++k) {
      const int base = 40 + (shown * 37 + k / 256 * 19 * (shown + 1)) % 150;
      const auto index = static_cast<std::uint64_t>(i) * kPixels + static_cast<std::uint64_t>(k);
      const int draw = static_cast<int>(random_byte(seed, 0, 0, index)) * noise / 256 - noise / 2;
      bytes += static_cast<char>(std::clamp(base + draw, 0, 255));
    }
  }
  return bytes;
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  const char* base = std::getenv("TMPDIR");
  path_ = std::string(base != nullptr ? base : P_tmpdir) + "/infobatch_train_test_XXXXXX";
  if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("mkdtemp failed: " + path_);
}

TemporaryFolder::~TemporaryFolder() {
  for (const std::string& name : names()) ::unlink(file(name).c_str());
  ::rmdir(path_.c_str());
}

std::vector<std::string> TemporaryFolder::names() const {
  std::vector<std::string> result;
  DIR* folder = opendir(path_.c_str());
  if (folder == nullptr) return result;
  while (const dirent* entry = readdir(folder)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") result.push_back(name);
  }
  closedir(folder);
  std::sort(result.begin(), result.end());
  return result;
}

std::string read_text(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

void write_text(const std::string& path, const std::string& bytes) {
  std::ofstream stream(path, std::ios::binary);
  stream << bytes;
  if (!stream.flush()) throw std::runtime_error("cannot write " + path);
}

void write_cifar10(const std::string& folder, int per_file) {
  const auto label = [](int i) { return std::string(1, static_cast<char>(i % 10)); };
  for (int k = 1; k <= 5; ++k) {
    write_text(folder + "/data_batch_" + std::to_string(k) + ".bin",
               records(per_file, static_cast<std::uint64_t>(k), label));
  }
  write_text(folder + "/test_batch.bin", records(per_file, 6, label));
}

void write_cifar100(const std::string& folder, int per_file) {
  const auto labels = [](int i) {
    return std::string{static_cast<char>(i % 100 / 5), static_cast<char>(i % 100)};
  };
  write_text(folder + "/train.bin", records(per_file, 1, labels));
  write_text(folder + "/test.bin", records(per_file, 2, labels));
}

Program::Program(const TemporaryFolder& folder, const std::vector<std::string>& arguments)
    : output_(folder.path() + ".out"), errors_(folder.path() + ".err") {
  std::vector<std::string> words = {INFOBATCH_TRAIN_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("fork failed");
  if (pid_ == 0) {
    const int out = open(output_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int err = open(errors_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out >= 0 && err >= 0 && dup2(out, 1) == 1 && dup2(err, 2) == 2) execv(argv[0], argv.data());
    _exit(127);
  }
}

Program::~Program() {
  if (running()) {
    send(SIGKILL);
    wait();
  }
  ::unlink(output_.c_str());
  ::unlink(errors_.c_str());
}

void Program::send(int signal) const {
  if (!ended_) ::kill(pid_, signal);
}

bool Program::running() {
  if (!ended_) ended_ = waitpid(pid_, &status_, WNOHANG) == pid_;
  return !ended_;
}

int Program::wait() {
  while (!ended_) {
    const pid_t result = waitpid(pid_, &status_, 0);
    if (result < 0 && errno != EINTR) throw std::runtime_error("waitpid failed");
    ended_ = result == pid_;
  }
  return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
}

std::map<std::string, nlohmann::json> timeless_runs(const std::string& json_file) {
  const auto clock = {"seconds",
                      "cpu_seconds",
                      "seconds_saved_over_samples_saved",
                      "cpu_seconds_saved_over_samples_saved"};
  std::map<std::string, nlohmann::json> result;
  const auto report = nlohmann::json::parse(read_text(json_file));
  for (nlohmann::json run : report.at("runs")) {
    for (const char* key : clock) run.erase(key);
    for (nlohmann::json& epoch : run.at("history")) {
      epoch.erase("seconds");
      epoch.erase("cpu_seconds");
    }
    const auto seed = std::to_string(run.at("seed").get<std::uint64_t>());
    result[run.at("arm").get<std::string>() + "/" + seed] = run;
  }
  return result;
}

}  // namespace infobatch::testing
