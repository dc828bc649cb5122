#pragma once

#include <infobatch/session.hpp>
#include <samplers/ranks.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace infobatch {
struct Options;
}  // namespace infobatch

namespace infobatch::detail {

/// What the ranks of a run do together: make it, begin its epochs, save it. Of one process alone
/// nothing happens.
class RankRun {
 public:
  /// @param exchange  null, or of one rank: one process alone.
  RankRun(Session& session, std::shared_ptr<Exchange> exchange)
      : session_(session), exchange_(std::move(exchange)) {}

  bool alone() const noexcept { return exchange_ == nullptr || exchange_->size() == 1; }

  /// Exchanges what is to be exchanged before an epoch begins.
  /// @param target  the epoch that set_epoch is to begin; -1: an iteration does, for which the
  ///                ranks may have met already.
  /// @throws RankError
  void begin(std::int64_t target, const char* what);
  /// A state was loaded: the next iteration has to meet.
  void forget() noexcept { met_ = false; }

  /// Calls `prepare`, which may fail on this rank alone; the others are then told.
  template <typename Prepare>
  void tell_failure(const char* what, const Prepare& prepare) {
    if (alone()) return prepare();
    try {
      prepare();
    } catch (const std::exception& error) {
      failed(what, error);
      throw;
    }
  }

  /// The state of the whole run, on every rank the same.
  std::string state(const char* what);
  /// Rank 0 writes it; behind the call the file is there.
  void save(const std::string& path);

 private:
  void failed(const char* what, const std::exception& error) noexcept;
  void exchange_losses(std::int64_t target, const char* what);
  void agree(const std::vector<RankReport>& reports, const char* what) const;
  void warn_of_unsound(const std::vector<RankReport>& reports);
  std::vector<std::string> parts(const char* what);

  Session& session_;
  std::shared_ptr<Exchange> exchange_;
  bool met_ = false;  // to begin the epoch whose iteration comes next
  bool warned_ = false;
};

/// Before a run is made: whether all ranks make the same one.
/// @return the options that it is made with; a seed that nobody gave is that of rank 0.
/// @throws RankError  naming what differs, on which ranks.
Config agree_on_run(Exchange& exchange, std::int64_t size, const Options& options);

}  // namespace infobatch::detail
