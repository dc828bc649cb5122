#pragma once

#include <cuda_kernels/port.hpp>
#include <tests/support/catch2_shim.hpp>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

// What every case of cuda_kernels/ runs under: orders of threads, blocks and streams where CUDA is
// emulated; on a device the one order that there is.

#if defined(INFOBATCH_CUDA_EMULATED)
#include <tests/cuda/sim/control.hpp>
#endif

namespace infobatch::testing {

/// Whether the environment variable INFOBATCH_CUDA_BRIEF asks for few sizes and one schedule.
inline bool is_brief() { return std::getenv("INFOBATCH_CUDA_BRIEF") != nullptr; }

#if defined(INFOBATCH_CUDA_EMULATED)

/// An order in which threads and blocks run, and when the work of streams does.
struct NamedSchedule {
  std::string name;
  sim::Schedule schedule;
  sim::Streams streams;
};

/// What every kernel must give the same results under.
inline std::vector<NamedSchedule> schedules() {
  std::vector<NamedSchedule> all(4);
  all[0].name = "ascending";
  all[1].name = "descending, deferred";
  all[1].schedule.order = sim::Schedule::kDescending;
  all[1].schedule.poison = 0xFF;
  all[2].name = "random 1";
  all[2].schedule.order = sim::Schedule::kRandom;
  all[2].schedule.seed = 1;
  all[2].schedule.yield_at_atomics = 0.2;
  all[2].schedule.poison = 0x00;
  all[3] = all[2];
  all[3].name = "random 2, deferred";
  all[3].schedule.seed = 2;
  all[3].schedule.poison = 0xCB;
  for (const std::size_t deferred : {1u, 3u}) all[deferred].streams = sim::Streams::kDeferred;
  // ThreadSanitizer sees what is not ordered in whichever order it runs, and takes its time.
  if (is_brief()) return {all[3]};
  return all;
}

/// A fresh emulated device under this schedule as long as it lives.
class WithSchedule {
 public:
  explicit WithSchedule(const NamedSchedule& given) {
    sim::reset();
    sim::schedule() = given.schedule;
    sim::device().streams = given.streams;
  }
  ~WithSchedule() { sim::schedule() = {}; }
};

/// Everything that was allocated has been freed.
inline void require_nothing_left() {
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  REQUIRE(sim::live_allocations().empty());
}

/// What the device was asked for since this was made.
struct Watch {
  std::uint64_t launches = sim::statistics().launches;
  std::uint64_t waits = sim::statistics().synchronisations;
  std::uint64_t allocations = sim::statistics().allocations;

  /// So many launches; nothing waited, nothing was allocated.
  void require(std::uint64_t expected) const {
    REQUIRE(sim::statistics().launches - launches == expected);
    REQUIRE(sim::statistics().synchronisations == waits);
    REQUIRE(sim::statistics().allocations == allocations);
  }
};

#else

struct NamedSchedule {
  std::string name;
};
inline std::vector<NamedSchedule> schedules() { return {{"the device's"}}; }
struct WithSchedule {
  explicit WithSchedule(const NamedSchedule&) {}
};
inline void require_nothing_left() { REQUIRE(cudaDeviceSynchronize() == cudaSuccess); }
/// Counted under emulation alone.
struct Watch {
  void require(std::uint64_t) const {}
};

#endif

}  // namespace infobatch::testing
