#pragma once

#include <atomic>
#include <chrono>
#include <thread>

namespace infobatch::detail {

/// A mutex for calls that hardly ever meet: free, it costs one atomic exchange, a third of what
/// std::mutex takes, which would show in `next`. Whoever finds it taken sleeps in between.
class CallMutex {
 public:
  void lock() noexcept {
    while (busy_.exchange(true, std::memory_order_acquire)) wait();
  }
  void unlock() noexcept { busy_.store(false, std::memory_order_release); }

 private:
  void wait() const noexcept {
    for (int spins = 0; busy_.load(std::memory_order_relaxed); ++spins) {
      if (spins < 64) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
    }
  }

  std::atomic<bool> busy_{false};
};

}  // namespace infobatch::detail
