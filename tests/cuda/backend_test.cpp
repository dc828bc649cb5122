#include <cuda_kernels/backend.hpp>
#include <infobatch/policy.hpp>
#include <infobatch/session.hpp>
#include <tests/cuda/schedules.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>
#include <tests/support/with_backend.hpp>

#include <cstdint>
#include <string>
#include <vector>

// Sessions whose boundaries the kernels work through: what comes out is the processor's to the bit,
// and a device that refuses any call leaves a session as it was.

using namespace infobatch;
using namespace infobatch::testing;

namespace {

struct Case {
  std::string policy;
  std::string keep;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string& policy : policy_names()) {
    for (const char* const keep : {"bernoulli", "exact"}) all.push_back({policy, keep});
  }
  return all;
}

Config config_for(const Case& c) {
  Config config = config_of(8, 0.4);
  config.policy = c.policy;
  config.keep = c.keep;
  return config;
}

void observe_epoch(Session& session, std::int64_t epoch) {
  const auto loss = [&](std::int64_t id) { return simulated_loss(id, epoch); };
  run_epoch(session, 100, loss);
}

}  // namespace

TEST_CASE("cuda backend: a run is the processor's, state and plans", "[cuda][backend]") {
  const Case c = GENERATE(from_range(cases()));
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  CAPTURE(c.policy, c.keep, schedule.name);
  const WithSchedule with(schedule);
  constexpr std::int64_t kSize = 3001;
  Config config = config_for(c);
  if (c.keep == "exact" && c.policy == "infobatch") config.whole_batches = 32;
  Session plain(kSize, config, 1);
  Session session(kSize, config, 1);
  for (int epoch = 0; epoch < 5; ++epoch) {
    observe_epoch(plain, epoch);
    const WithBackend use(cuda::cuda_backend());
    observe_epoch(session, epoch);
    REQUIRE(copy_of(session.plan()) == copy_of(plain.plan()));  // a look ahead, taken back below
    REQUIRE(session.serialize() == plain.serialize());
  }
  require_nothing_left();
}

TEST_CASE("cuda backend: what the kernels began the processor goes on with", "[cuda][backend]") {
  const WithSchedule with(schedules()[0]);
  Session plain(2000, config_for({"infobatch", "bernoulli"}), 1);
  Session session(2000, config_for({"infobatch", "bernoulli"}), 1);
  for (int epoch = 0; epoch < 6; ++epoch) {
    observe_epoch(plain, epoch);
    if (epoch % 2 == 0) {
      const WithBackend use(cuda::cuda_backend());
      observe_epoch(session, epoch);
    } else {
      observe_epoch(session, epoch);
    }
  }
  REQUIRE(session.serialize() == plain.serialize());
}
