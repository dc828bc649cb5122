#include <infobatch/detail/threads.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <dlfcn.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

// A system that runs out of threads, or of memory for them. A program of its own, because it puts
// its own pthread_create and operator new in front of the system's.

namespace {

constexpr int kUnlimited = std::numeric_limits<int>::max();
std::atomic<int> threads_left{kUnlimited};
std::atomic<int> allocations_left{kUnlimited};

/// Takes one of what is left.
bool granted(std::atomic<int>& left) {
  int seen = left.load();
  while (seen != kUnlimited && seen > 0 && !left.compare_exchange_weak(seen, seen - 1)) {
  }
  return seen > 0;
}

/// Limits a resource as long as it lives.
class Limit {
 public:
  Limit(std::atomic<int>& left, int count) : left_(left) { left_ = count; }
  ~Limit() { left_ = kUnlimited; }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;

 private:
  std::atomic<int>& left_;
};

}  // namespace

extern "C" __attribute__((visibility("default"))) int pthread_create(pthread_t* thread,
                                                                     const pthread_attr_t* options,
                                                                     void* (*run)(void*),
                                                                     void* argument) {
  using Create = int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  if (!granted(threads_left)) return EAGAIN;
  auto* const next = reinterpret_cast<Create*>(::dlsym(RTLD_NEXT, "pthread_create"));
  return next(thread, options, run, argument);
}

void* operator new(std::size_t size) {
  void* const data = granted(allocations_left) ? std::malloc(size > 0 ? size : 1) : nullptr;
  if (data == nullptr) throw std::bad_alloc();
  return data;
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return granted(allocations_left) ? std::malloc(size > 0 ? size : 1) : nullptr;
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }

namespace infobatch::testing {
namespace {

void require_fit(Team& team, int size) {
  REQUIRE(team.size() == size);
  for (int round = 0; round < 50; ++round) {
    std::vector<int> calls(static_cast<std::size_t>(size));
    team.run([&](int thread) { ++calls.at(static_cast<std::size_t>(thread)); });
    REQUIRE(calls == std::vector<int>(static_cast<std::size_t>(size), 1));
  }
}

TEST_CASE("a team works with the threads that it gets", "[kernels][threads]") {
  for (int granted_threads = 0; granted_threads <= 5; ++granted_threads) {
    const Limit limit(threads_left, granted_threads);
    Team team(4);
    require_fit(team, std::min(granted_threads, 3) + 1);
    const auto fail = [](int thread) { throw std::runtime_error(std::to_string(thread)); };
    REQUIRE_THROWS_AS(team.run(fail), std::runtime_error);
    require_fit(team, std::min(granted_threads, 3) + 1);
  }
}

TEST_CASE("a team without memory for its threads works with fewer", "[kernels][threads]") {
  int largest = 0;
  for (int allocations = 0; allocations <= 20; ++allocations) {
    const auto make = [&] {
      const Limit limit(allocations_left, allocations);
      return std::make_unique<Team>(4);
    };
    std::unique_ptr<Team> team;
    try {
      team = make();
    } catch (const std::bad_alloc&) {
      REQUIRE(allocations == 0);  // the test's own
      continue;
    }
    REQUIRE(team->size() >= largest);
    largest = team->size();
    require_fit(*team, largest);
  }
  REQUIRE(largest == 4);
}

TEST_CASE("a plan is the same whatever number of threads it gets", "[kernels][threads]") {
  constexpr std::int64_t kSize = 4 * kSamplesPerThread + 1234;
  for (const char* policy : {"infobatch", "infobatch_quantile"}) {
    Config config = config_of(4);
    config.policy = policy;
    const auto plans = [&](int threads) {
      Session session(kSize, config, threads);
      std::vector<PlanCopy> copies;
      for (int epoch = 0; epoch < 3; ++epoch) copies.push_back(run_epoch(session, kSize));
      return copies;
    };
    const std::vector<PlanCopy> expected = plans(1);
    for (int granted_threads = 0; granted_threads <= 3; ++granted_threads) {
      // For the whole run: the first teams get some of them, the later ones none.
      const Limit limit(threads_left, granted_threads);
      REQUIRE(plans(4) == expected);
    }
  }
}

}  // namespace
}  // namespace infobatch::testing
