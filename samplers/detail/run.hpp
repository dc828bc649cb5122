#pragma once

#include <infobatch/session.hpp>
#include <samplers/detail/device_step.hpp>

#include <cstdint>
#include <mutex>
#include <optional>

namespace infobatch::detail {

/// A run as all handles on it share it: the engine's session, and what its steps keep on a device
/// other than the CPU.
///
/// Losses that are staged on a device must be with the engine before an epoch ends and before a
/// state is saved, so calls that may do either go through here. On the CPU that is one plain load.
struct Run {
  Run(std::int64_t size, const Config& config, int threads, std::optional<c10::Device> device)
      : session(size, config, threads), step(session, device) {}

  /// By `call` an epoch ends, and another or the same one begins.
  template <typename Call>
  void change_epoch(const Call& call) {
    if (!step.elsewhere()) return call();
    const DeviceStep::Lock lock(step.mutex());
    step.settle();
    step.leave();
    call();
    step.renew();
  }

  /// The same, and the iteration of the epoch begins.
  template <typename Call>
  void begin_epoch(const Call& call) {
    change_epoch(call);
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

  /// Behind `call` nothing counts that was observed of the running epoch.
  template <typename Call>
  void forget(const Call& call) {
    if (!step.elsewhere()) return call();
    const DeviceStep::Lock lock(step.mutex());
    call();
    step.renew();
  }

  Session session;
  DeviceStep step;
};

}  // namespace infobatch::detail
