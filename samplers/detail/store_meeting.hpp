#pragma once

#include <samplers/ranks.hpp>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

namespace infobatch::detail {

using Clock = std::chrono::steady_clock;

/// "rank 2" or "ranks 1, 2".
std::string rank_numbers(const std::vector<int>& ranks);
/// What an exception says, without a backtrace.
std::string words_of(const std::exception& error);

/// Waits a little longer each time, not to burden a store: from half a millisecond to `longest`.
class Pause {
 public:
  explicit Pause(std::chrono::microseconds longest = std::chrono::milliseconds(50))
      : longest_(longest) {}
  void wait();
  bool is_longest() const { return next_ >= longest_; }

 private:
  std::chrono::microseconds longest_;
  std::chrono::microseconds next_{500};
};

/// The meetings of a run's ranks in a store, numbered: each rank notes that it has come, and all
/// go on when all have. The keys of a meeting are deleted when nobody looks at them any more.
class StoreMeeting {
 public:
  StoreMeeting(c10::intrusive_ptr<c10d::Store> store,
               int rank,
               int size,
               const ExchangeOptions& options);

  void meet(const std::string& what);
  void fail(const std::string& what, const std::string& why);

  std::chrono::milliseconds timeout() const { return timeout_; }
  c10d::Store& store() { return *store_; }
  /// A key of the meeting that all have come to.
  std::string key(const std::string& name) const { return key_of(meetings_ - 1, name); }
  /// Deletes it at the next meeting, by when all have read it.
  void forget_later(std::string key) { old_.push_back(std::move(key)); }
  /// What to throw where the store fails.
  RankError no_store(const std::string& what, const std::exception& error) const;

 private:
  std::string key_of(std::int64_t meeting, const std::string& name) const;
  void announce(std::int64_t number, const std::string& what);
  void wait_for_all(std::int64_t number, const std::string& what);
  RankError failed(std::int64_t number, const std::string& what);
  RankError missing(std::int64_t number, const std::string& what);
  void forget(std::int64_t number);

  c10::intrusive_ptr<c10d::Store> store_;
  std::string prefix_;
  int rank_;
  int size_;
  std::chrono::milliseconds timeout_;
  std::int64_t meetings_ = 0;
  std::vector<std::string> old_;
};

}  // namespace infobatch::detail
