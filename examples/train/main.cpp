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
  const std::string line = text.substr(0, text.find('\n'));
  std::fprintf(stderr, "infobatch-train: %s\n", line.c_str());
  return status;
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
  if (!figures.empty()) std::fputs(report_table(options, data, figures).c_str(), stdout);
  std::fflush(stdout);
  if (!finished) {
    return complain(options.checkpoint.empty()
                        ? "interrupted"
                        : "interrupted; the same command goes on from " + options.checkpoint,
                    128 + signal_number);
  }
  if (!options.json.empty()) {
    write_file_atomically(options.json, report_json(options, data, figures).dump(2) + "\n");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  wait_passively(argv);
  try {
    const TrainOptions options = parse_options(std::vector<std::string>(argv + 1, argv + argc));
    if (options.help) {
      std::fputs(help_text().c_str(), stdout);
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
