#pragma once

#include <ctime>

namespace infobatch::train {

/// Seconds that passed, and seconds that the process's threads computed in them.
struct Span {
  double wall = 0.0;
  double cpu = 0.0;

  Span& operator+=(const Span& other) {
    wall += other.wall;
    cpu += other.cpu;
    return *this;
  }
};

/// Measures from its construction on.
class Stopwatch {
 public:
  Stopwatch() : wall_(now(CLOCK_MONOTONIC)), cpu_(now(CLOCK_PROCESS_CPUTIME_ID)) {}
  Span elapsed() const {
    return {now(CLOCK_MONOTONIC) - wall_, now(CLOCK_PROCESS_CPUTIME_ID) - cpu_};
  }

 private:
  static double now(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }

  double wall_;
  double cpu_;
};

}  // namespace infobatch::train
