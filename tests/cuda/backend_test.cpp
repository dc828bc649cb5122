#include <cuda_kernels/backend.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/cuda/schedules.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>
#include <tests/support/with_backend.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
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
  config.record = true;
  Session plain(kSize, config, 1);
  Session session(kSize, config, 1);
  if (c.keep == "bernoulli" && find_policy(c.policy)->card.rescales) {
    std::vector<float> weights;
    for (std::int64_t i = 0; i < kSize; ++i) weights.push_back(i % 5 == 0 ? 3.0f : 0.5f);
    for (Session* one : {&plain, &session}) {
      one->set_column("sampling_weight", ColumnType::kFloat32, weights.data());
    }
  }
  for (int epoch = 0; epoch < 5; ++epoch) {
    observe_epoch(plain, epoch);
    const WithBackend use(cuda::cuda_backend());
    observe_epoch(session, epoch);
    REQUIRE(copy_of(session.plan()) == copy_of(plain.plan()));  // a look ahead, taken back below
    REQUIRE((session.serialize() == plain.serialize()));
  }
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
  REQUIRE((session.serialize() == plain.serialize()));
}

namespace {

/// A session whose arrays are in memory that it shares with the device.
Session shared_session(std::int64_t size, const Config& config) {
  detail::add_backend(cuda::cuda_backend());
  return Session(size, config, 1, {}, "cuda");
}

}  // namespace

TEST_CASE("cuda backend: a session in shared memory runs, is saved and resumed as any other",
          "[cuda][backend]") {
  const Case c = GENERATE(from_range(cases()));
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  CAPTURE(c.policy, c.keep, schedule.name);
  const WithSchedule with(schedule);
  constexpr std::int64_t kSize = 1501;
  Session plain(kSize, config_for(c), 1);
  {
    Session session = shared_session(kSize, config_for(c));
    for (int epoch = 0; epoch < 3; ++epoch) {
      observe_epoch(plain, epoch);
      observe_epoch(session, epoch);
      REQUIRE((session.serialize() == plain.serialize()));
    }
    const std::string state = session.serialize();
    Session resumed = shared_session(kSize, config_for(c));
    resumed.deserialize(state);
    Session on_cpu(kSize, config_for(c), 1);
    on_cpu.deserialize(state);
    for (int epoch = 3; epoch < 5; ++epoch) {
      observe_epoch(plain, epoch);
      observe_epoch(resumed, epoch);
      observe_epoch(on_cpu, epoch);
    }
    REQUIRE((resumed.serialize() == plain.serialize()));
    REQUIRE((on_cpu.serialize() == plain.serialize()));
  }
  require_nothing_left();
}

TEST_CASE("cuda backend: arrays that were lent are folded where they are", "[cuda][backend]") {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  const WithSchedule with(schedule);
  constexpr std::int64_t kSize = 700;
  const Config config = config_for({"infobatch", "bernoulli"});
  const auto run = [&](Session& session) {
    for (int epoch = 0; epoch < 4; ++epoch) {
      session.begin();
      while (session.next(64).count > 0) {
        const EpochArrays arrays = session.epoch_arrays();
        const std::int64_t pending = std::min<std::int64_t>(64, arrays.size - session.position());
        const Slice slice = session.advance(pending);
        for (std::int64_t i = 0; i < pending; ++i) {
          arrays.losses[slice.begin + i] = simulated_loss(slice.ids()[i], epoch);
        }
      }
    }
    return session.serialize();
  };
  Session plain(kSize, config, 1);
  Session session = shared_session(kSize, config);
  REQUIRE((run(session) == run(plain)));
}

TEST_CASE("cuda backend: losses that are still on their way, on any stream, are in",
          "[cuda][backend]") {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  CAPTURE(schedule.name);
  const WithSchedule with(schedule);
  const Config config = config_for({"infobatch", "bernoulli"});
  Session plain(500, config, 1);
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  {
    Session session = shared_session(500, config);
    for (int epoch = 0; epoch < 3; ++epoch) {
      observe_epoch(plain, epoch);
      session.begin();
      const EpochArrays arrays = session.epoch_arrays();
      std::vector<float> losses;
      for (std::int64_t p = 0; p < arrays.size; ++p) {
        losses.push_back(simulated_loss(arrays.ids[p], epoch));
      }
      session.next(arrays.size);
      session.advance(arrays.size);
      REQUIRE(cudaMemcpyAsync(arrays.losses,
                              losses.data(),
                              losses.size() * sizeof(float),
                              cudaMemcpyHostToDevice,
                              stream) == cudaSuccess);
      session.plan();  // the boundary
    }
    plain.plan();
    REQUIRE((score_bits(session) == score_bits(plain)));
  }
  REQUIRE(cudaStreamDestroy(stream) == cudaSuccess);
}

TEST_CASE("cuda backend: a name that nobody loaded is refused, with those there are",
          "[cuda][backend][rule13]") {
  detail::add_backend(cuda::cuda_backend());
  const auto make = [] { Session(10, config_of(3), 1, {}, "rocm"); };
  REQUIRE(message_of<InvalidArgument>(make) ==
          "Session: backend must be one that was loaded (cpu, cuda), got \"rocm\"");
}

#if defined(INFOBATCH_CUDA_EMULATED)

TEST_CASE("cuda backend: ids are sent to the host in chunks, the first ones first",
          "[cuda][backend]") {
  const WithSchedule with(schedules()[0]);
  Session session = shared_session(70000, config_for({"infobatch", "bernoulli"}));
  const std::uint64_t before = sim::statistics().prefetches;
  session.plan();
  REQUIRE(sim::statistics().prefetches - before == 2);  // 65536, and the rest
}

TEST_CASE("cuda backend: whichever call of CUDA fails, the session is as before, and goes on",
          "[cuda][backend][rule17]") {
  const bool shared = GENERATE(false, true);
  const cudaError_t error = GENERATE(cudaErrorMemoryAllocation, cudaErrorLaunchFailure);
  const Case c = GENERATE(Case{"infobatch", "bernoulli"}, Case{"orderdp", "exact"});
  const NamedSchedule schedule =
      GENERATE(from_range(std::vector<NamedSchedule>{schedules().front(), schedules().back()}));
  if (is_brief() && c.policy == "infobatch") return;
  CAPTURE(shared, static_cast<int>(error), c.policy, schedule.name);
  const WithSchedule with(schedule);
  detail::add_backend(cuda::cuda_backend());
  const WithBackend use(cuda::cuda_backend());
  constexpr std::int64_t kSize = 400;
  const Config config = config_for(c);
  Session plain(kSize, config, 1);
  for (int epoch = 0; epoch < 3; ++epoch) observe_epoch(plain, epoch);
  const std::string before = plain.serialize();
  const PlanCopy expected = copy_of(plain.plan());
  observe_epoch(plain, 3);
  const std::string after = plain.serialize();

  const auto session_at_the_end_of_an_epoch = [&] {
    auto session = shared ? std::make_unique<Session>(kSize, config, 1, Wording{}, "cuda")
                          : std::make_unique<Session>(kSize, config, 1);
    for (int epoch = 0; epoch < 3; ++epoch) observe_epoch(*session, epoch);
    return session;
  };
  std::uint64_t calls = 0;
  {
    const auto session = session_at_the_end_of_an_epoch();
    const std::uint64_t earlier = sim::calls();
    session->plan();
    calls = sim::calls() - earlier;
  }
  std::uint64_t failures = 0;
  for (std::uint64_t failing = 1; failing <= calls; ++failing) {
    CAPTURE(failing);
    const auto session = session_at_the_end_of_an_epoch();
    sim::inject({sim::Call::kAny, failing, error, false, false});
    try {
      session->plan();  // memory that cannot be given back, for one, is no failure of it
    } catch (const std::bad_alloc&) {
      REQUIRE(error == cudaErrorMemoryAllocation);
      ++failures;
    } catch (const std::runtime_error& refused) {
      REQUIRE(std::string(refused.what()).find("CUDA: ") != std::string::npos);
      ++failures;
    }
    sim::clear_injections();
    REQUIRE((session->serialize() == before));
    REQUIRE(copy_of(session->plan()) == expected);
    observe_epoch(*session, 3);
    REQUIRE((session->serialize() == after));
  }
  REQUIRE(failures > calls / 2);
}

#endif
