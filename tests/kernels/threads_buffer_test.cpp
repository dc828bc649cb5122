#include <infobatch/detail/buffer.hpp>
#include <infobatch/detail/threads.hpp>
#include <tests/support/catch2_shim.hpp>

#include <atomic>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace infobatch {

TEST_CASE("a team runs the work once on each thread and waits for all", "[kernels][threads]") {
  for (int threads = 1; threads <= 5; ++threads) {
    Team team(threads);
    REQUIRE(team.size() == threads);
    std::vector<int> calls(static_cast<std::size_t>(threads));
    for (int round = 1; round <= 200; ++round) {
      team.run([&](int thread) { ++calls[static_cast<std::size_t>(thread)]; });
      REQUIRE(calls == std::vector<int>(static_cast<std::size_t>(threads), round));
    }
  }
}

TEST_CASE("what one round writes, the next round reads on other threads", "[kernels][threads]") {
  Team team(4);
  std::vector<std::int64_t> values(4, 1);
  for (int round = 0; round < 100; ++round) {
    std::vector<std::int64_t> sums(4);
    team.run([&](int thread) {
      std::int64_t sum = 0;
      for (const std::int64_t value : values) sum += value;
      sums[static_cast<std::size_t>(thread)] = sum % 1000003;
    });
    values = sums;
  }
  REQUIRE((values[0] == values[1] && values[1] == values[2] && values[2] == values[3]));
}

TEST_CASE("an exception of any thread reaches the caller after all have ended",
          "[kernels][threads]") {
  for (int thrower = 0; thrower < 3; ++thrower) {
    Team team(3);
    std::atomic<int> ended{0};
    const auto work = [&](int thread) {
      ++ended;
      if (thread == thrower) throw std::runtime_error("thread " + std::to_string(thread));
    };
    REQUIRE_THROWS_WITH(team.run(work), "thread " + std::to_string(thrower));
    REQUIRE(ended == 3);
    team.run([&](int) { ++ended; });  // the team is fit for more work
    REQUIRE(ended == 6);
  }
}

TEST_CASE("small data sets stay on one thread, requests are heard", "[kernels][threads]") {
  REQUIRE(resolve_threads(3) == 3);
  REQUIRE(resolve_threads(0) >= 1);
  REQUIRE(threads_for(0, 8) == 1);
  REQUIRE(threads_for(50000, 8) == 1);
  REQUIRE(threads_for(1281167, 2) == 2);
  REQUIRE(threads_for(std::int64_t{1} << 40, 8) == 8);
  REQUIRE(Team(0).size() == 1);
}

TEST_CASE("a buffer keeps its content when it moves and when it shrinks", "[kernels][buffer]") {
  for (const std::int64_t n : {0, 1, 1000, 262143, 262144, 262145, 3000000}) {
    Buffer<std::int64_t> buffer(n);
    REQUIRE(buffer.size() == n);
    REQUIRE(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64 == 0);
    for (std::int64_t i = 0; i < n; ++i) buffer[i] = i;
    const std::int64_t* const data = buffer.data();
    Buffer<std::int64_t> moved(std::move(buffer));
    REQUIRE(moved.data() == data);
    REQUIRE(buffer.data() == nullptr);
    moved.shrink(n / 2);
    REQUIRE(moved.data() == data);
    REQUIRE(moved.size() == n / 2);
    bool equal = true;
    for (std::int64_t i = 0; i < n / 2; ++i) equal = equal && moved[i] == i;
    REQUIRE(equal);
    moved.resize(n);  // within the capacity: no new memory
    REQUIRE(moved.data() == data);
    for (std::int64_t i = 0; i < n; ++i) moved[i] = -i;
  }
}

TEST_CASE("a buffer grows by taking new memory", "[kernels][buffer]") {
  Buffer<float> buffer;
  REQUIRE(buffer.size() == 0);
  buffer.resize(10);
  REQUIRE(buffer.capacity() == 10);
  buffer.resize(1000000);
  REQUIRE(buffer.size() == 1000000);
  buffer[999999] = 1.0f;
  Buffer<float> other(5);
  other = std::move(buffer);
  REQUIRE(other[999999] == 1.0f);
}

TEST_CASE("a buffer that the machine cannot hold is a bad_alloc", "[kernels][buffer]") {
  REQUIRE_THROWS_AS(Buffer<std::int64_t>(std::int64_t{1} << 58), std::bad_alloc);
}

}  // namespace infobatch
