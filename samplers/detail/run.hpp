#pragma once

#include <infobatch/backends.hpp>
#include <infobatch/session.hpp>
#include <samplers/detail/device_step.hpp>
#include <samplers/detail/rank_run.hpp>
#include <samplers/detail/share_rows.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace infobatch::detail {

/// A run as all handles on it share it: the engine's session, and what its steps keep on a device
/// other than the CPU.
///
/// Losses that are staged on a device must be with the engine before an epoch ends and before a
/// state is saved, so calls that may do either go through here. On the CPU that is one plain load.
/// What ranks exchange before an epoch begins is exchanged here, too.
struct Run {
  Run(std::int64_t size,
      const Config& config,
      int threads,
      const std::string& backend,
      std::optional<c10::Device> device,
      std::shared_ptr<Exchange> exchange)
      : session(size, config, threads, {}, backend.empty() ? backend_for(device) : backend),
        share(session),
        ranks(session, std::move(exchange)),
        step(session, share, device) {}

  /// By `call` an epoch ends, and another or the same one begins.
  /// @param target  as `RankRun::begin`
  template <typename Call>
  void change_epoch(std::int64_t target, const char* what, const Call& call) {
    if (!step.elsewhere()) {
      ranks.begin(target, what);
      call();
      return share.renew();
    }
    const DeviceStep::Lock lock(step.mutex());
    ranks.tell_failure(what, [&] { step.settle(); });
    ranks.begin(target, what);
    step.leave();
    call();
    step.renew();
  }

  /// The same, and the iteration of the epoch begins.
  template <typename Call>
  void begin_epoch(const Call& call) {
    change_epoch(-1, "reset", call);
    if (!step.elsewhere()) return;
    const DeviceStep::Lock lock(step.mutex());
    step.prepare();
  }

  /// `call` goes by what the epoch left behind, if it is over.
  template <typename Call>
  decltype(auto) look(const Call& call) {
    if (!step.elsewhere()) return call();
    const DeviceStep::Lock lock(step.mutex());
    step.settle_if_over();
    return call();
  }

  /// `call` needs all that was observed so far.
  template <typename Call>
  decltype(auto) keep(const Call& call) {
    if (!step.elsewhere()) return call();
    const DeviceStep::Lock lock(step.mutex());
    step.settle();
    return call();
  }

  /// The same, where all ranks save together.
  template <typename Call>
  void keep_together(const Call& call) {
    if (!step.elsewhere()) return call();
    const DeviceStep::Lock lock(step.mutex());
    ranks.tell_failure("save", [&] { step.settle(); });
    call();
  }

  /// Behind `call` nothing counts that was observed of the running epoch.
  template <typename Call>
  void forget(const Call& call) {
    if (!step.elsewhere()) {
      call();
      return share.renew();
    }
    const DeviceStep::Lock lock(step.mutex());
    call();
    step.renew();
  }

  /// The same, where `call` loads a state.
  template <typename Call>
  void replace(const Call& call) {
    forget(call);
    ranks.forget();
  }

  /// Of a declared device, where one was loaded for it: "" otherwise.
  static std::string backend_for(std::optional<c10::Device> device) {
    if (!device || device->is_cpu()) return {};
    return backend_on(c10::DeviceTypeName(device->type(), /*lower_case=*/true));
  }

  Session session;
  ShareRows share;
  RankRun ranks;
  DeviceStep step;
};

}  // namespace infobatch::detail
