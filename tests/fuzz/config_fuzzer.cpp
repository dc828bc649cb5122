#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/fuzz/oracles.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

// Text -> Config. What is accepted reads back equal and plans epochs; what is refused is refused in
// words, and alike by both readers.

using namespace infobatch;

namespace {

constexpr std::size_t kLongestProblem = 4096;

void plan_epochs(const Config& config) {
  constexpr std::int64_t kSize = 23;
  if (config.epochs > (std::int64_t{1} << 61) / kSize) return;
  Session session(kSize, config, 1);
  fuzz::be_quiet(session);
  fuzz::run_epochs(session, 2);
  // An epoch that prunes, where there is one.
  session.set_epoch(std::min(std::max(config.warmup, std::int64_t{2}), kMaxEpochs - 1));
  fuzz::run_epochs(session, 1);

  const std::string state = session.serialize();
  Session other(kSize, config, 1);
  fuzz::be_quiet(other);
  fuzz::require(other.deserialize(state).changes.empty(), "an equal config is no change");
  fuzz::require(other.serialize() == state, "a state reads back equal");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const std::vector<std::string> problems = config_problems(text);
  for (const std::string& problem : problems) {
    fuzz::require(!problem.empty() && problem.size() <= kLongestProblem, "a problem is a sentence");
  }
  Config config;
  try {
    config = Config::from_json(text);
  } catch (const InvalidArgument&) {
    fuzz::require(!problems.empty(), "what is refused has a problem");
    return 0;
  }
  fuzz::require(problems.empty(), "what is accepted has no problem");
  fuzz::require(config.problems().empty(), "what is accepted has no problem");
  const std::string written = config.to_json();
  const Config read = Config::from_json(written);
  fuzz::require(read == config, "a config reads back equal");
  fuzz::require(read.to_json() == written, "a config is written alike");
  plan_epochs(config);
  return 0;
}
