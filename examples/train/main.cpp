// infobatch-train: trains a classifier with and without skipping samples, and compares.
// See docs/infobatch-train.md.

#include <examples/train/dataset.hpp>
#include <examples/train/driver.hpp>
#include <examples/train/file.hpp>
#include <examples/train/options.hpp>
#include <examples/train/report.hpp>
#include <examples/train/waiting.hpp>

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <nlohmann/json.hpp>
#include <signal.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace infobatch::train;

constexpr int kFailed = 1;
constexpr int kRefused = 2;

volatile std::sig_atomic_t signal_number = 0;

extern "C" void remember_signal(int number) { signal_number = number; }

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = remember_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // the second one ends the program at once
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int complain(const std::string& text, int status) {
  std::string line = text;
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, ' ');
  std::fprintf(stderr, "infobatch-train: %s\n", line.c_str());
  return status;
}

void print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) {
    throw std::runtime_error("cannot write to standard output");
  }
}

/// Names of files need not be UTF-8; JSON has to be.
std::string dumped(const nlohmann::json& json) {
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

void check_outputs(const TrainOptions& options) {
  const std::pair<const char*, const std::string&> files[] = {{"--json", options.json},
                                                              {"--checkpoint", options.checkpoint}};
  for (const auto& [option, path] : files) {
    try {
      if (!path.empty()) check_writable(path);
    } catch (const std::exception& error) {
      throw UsageError(std::string(option) + ": " + error.what());
    }
  }
}

int train(const TrainOptions& options) {
  check_outputs(options);
  at::set_num_threads(static_cast<int>(options.threads));
  Progress progress(stderr);
  const Dataset data = load_dataset(options);
  Driver driver(options, data, progress);
  catch_signals();
  warm_up(options, data);
  const bool finished = driver.run([] { return signal_number != 0; });
  const std::vector<Figures> figures = driver.figures();
  // The file first: nobody may be reading the table.
  if (finished && !options.json.empty()) {
    write_file_atomically(options.json, dumped(report_json(options, data, figures)) + "\n");
  }
  if (!figures.empty()) print(report_table(options, data, figures));
  if (!finished) {
    return complain(options.checkpoint.empty()
                        ? "interrupted"
                        : "interrupted; the same command goes on from " + options.checkpoint,
                    128 + signal_number);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  wait_passively(argv);
  try {
    const TrainOptions options = parse_options(std::vector<std::string>(argv + 1, argv + argc));
    if (options.help) {
      print(help_text());
      return 0;
    }
    return train(options);
  } catch (const UsageError& error) {
    return complain(error.what(), kRefused);
  } catch (const std::bad_alloc&) {
    return complain("not enough memory", kFailed);
  } catch (const std::exception& error) {
    return complain(error.what(), kFailed);
  }
}
