#pragma once

#include <cstdint>
#include <memory>

namespace infobatch {

/// A team of threads, the caller among them, that lives as long as this object.
///
/// One thread starts nothing. No state is shared between teams.
class Team {
 public:
  /// Starts `threads - 1` threads, or as many of them as the system grants: where it has no further
  /// thread, or no memory for one, the team is smaller, in the end the caller alone. So whoever
  /// divides work divides it by size(). `threads` below 1 counts as 1.
  explicit Team(int threads) noexcept;
  /// Ends and joins the threads.
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  /// Number of threads that the team has, the caller included; at least 1.
  int size() const { return size_; }

  /// Calls `work(thread)` on every thread, thread = 0 .. size() - 1 (0 is the caller), and returns
  /// when all are done; what they wrote is then visible to all. Not to be nested. Each thread works
  /// in the default floating-point environment.
  /// @throws the exception of one of the calls, after all have ended.
  template <typename Work>
  void run(const Work& work) {
    run_erased([](const void* erased, int thread) { (*static_cast<const Work*>(erased))(thread); },
               &work);
  }

 private:
  using Call = void (*)(const void* work, int thread);
  struct State;
  void run_erased(Call call, const void* work);

  int size_ = 1;
  std::unique_ptr<State> state_;
};

/// The number of threads meant by `requested`: itself when positive; 0 or below: as many as this
/// process may use (hardware threads within its affinity mask, and no more than the CPU quota of
/// its control groups is worth, as it was at the first call), at least 1.
int resolve_threads(int requested);

/// Threads worth using on `size` samples: resolve_threads(requested), but no more than one for
/// every `kSamplesPerThread` samples, at least 1.
int threads_for(std::int64_t size, int requested);

/// Below this number of samples another thread costs more than it saves.
constexpr std::int64_t kSamplesPerThread = std::int64_t{1} << 18;

}  // namespace infobatch
