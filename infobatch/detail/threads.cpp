#include <infobatch/detail/float_environment.hpp>
#include <infobatch/detail/limits.hpp>
#include <infobatch/detail/threads.hpp>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace infobatch {
namespace {

// Waits for a condition a few microseconds before the caller goes to sleep on it.
constexpr int kSpins = 2000;

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

template <typename Condition>
bool spin_until(const Condition& condition) {
  for (int i = 0; i < kSpins; ++i) {
    if (condition()) return true;
    relax();
  }
  return false;
}

}  // namespace

struct Team::State {
  std::mutex mutex;
  std::condition_variable started;
  std::condition_variable finished;
  std::atomic<std::uint64_t> round{0};
  std::atomic<int> running{0};
  bool stop = false;
  Call call = nullptr;
  const void* work = nullptr;
  std::exception_ptr error;
  std::vector<std::thread> threads;

  void run_one(int thread) {
    try {
      call(work, thread);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!error) error = std::current_exception();
    }
  }

  void serve(int thread) {
    const detail::DefaultFloatEnvironment float_environment;
    for (std::uint64_t seen = 0;;) {
      if (!spin_until([&] { return round.load(std::memory_order_acquire) != seen; })) {
        std::unique_lock<std::mutex> lock(mutex);
        started.wait(lock, [&] { return round.load(std::memory_order_acquire) != seen; });
      }
      ++seen;
      if (stop) return;
      run_one(thread);
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        const std::lock_guard<std::mutex> lock(mutex);
        finished.notify_one();
      }
    }
  }

  // Opens the next round; `stop`, `call` and `work` are set before.
  void open_round() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      round.fetch_add(1, std::memory_order_release);
    }
    started.notify_all();
  }

  void end() {
    stop = true;
    open_round();
    for (std::thread& thread : threads) thread.join();
  }
};

Team::Team(int threads) noexcept {
  if (threads <= 1) return;
  try {
    state_ = std::make_unique<State>();
    while (size_ < threads) {
      state_->threads.emplace_back(&State::serve, state_.get(), size_);
      ++size_;
    }
  } catch (const std::exception&) {  // no further thread, or no memory for it: these will do
    if (size_ == 1) state_.reset();
  }
}

Team::~Team() {
  if (state_) state_->end();
}

void Team::run_erased(Call call, const void* work) {
  const detail::DefaultFloatEnvironment float_environment;
  if (!state_) return call(work, 0);
  State& state = *state_;
  state.call = call;
  state.work = work;
  state.running.store(size_ - 1, std::memory_order_relaxed);
  state.open_round();
  state.run_one(0);
  const auto all_done = [&] { return state.running.load(std::memory_order_acquire) == 0; };
  if (!spin_until(all_done)) {
    std::unique_lock<std::mutex> lock(state.mutex);
    state.finished.wait(lock, all_done);
  }
  if (state.error) {
    const std::exception_ptr error = std::exchange(state.error, nullptr);
    std::rethrow_exception(error);
  }
}

int resolve_threads(int requested) {
  if (requested > 0) return requested;
  int available = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
    const int count = CPU_COUNT(&allowed);
    available = available > 0 ? std::min(available, count) : count;
  }
#endif
  static const int quota = detail::cpu_quota();  // files, too slow to be read at every boundary
  return std::max(std::min(available, quota), 1);
}

int threads_for(std::int64_t size, int requested) {
  const std::int64_t useful = std::max<std::int64_t>(size / kSamplesPerThread, 1);
  if (useful == 1) return 1;
  return static_cast<int>(std::min<std::int64_t>(resolve_threads(requested), useful));
}

}  // namespace infobatch
