#pragma once

#include <c10/core/Device.h>

#include <atomic>
#include <optional>

namespace infobatch::detail {

/// The device that a run is on: the one its options declare, else that of its first losses. From
/// then on it stays, because the losses of an epoch are staged there.
///
/// Read in every step, from any thread, at the cost of one plain load.
class RunDevice {
 public:
  explicit RunDevice(std::optional<c10::Device> declared) noexcept
      : device_(declared.value_or(c10::Device(kOpen))) {}

  /// Empty: nobody declared it, and no losses came yet.
  std::optional<c10::Device> get() const noexcept {
    const c10::Device own = load();
    if (own.type() == kOpen) return std::nullopt;
    return own;
  }

  /// Whether losses may come from `device`: the run's own, any while that is open, and any of the
  /// declared type where no index was declared.
  bool admits(c10::Device device) const noexcept {
    const c10::Device own = load();
    if (own == device || own.type() == kOpen) return true;
    return own.type() == device.type() && (own.is_cpu() || !own.has_index());
  }

  /// Losses came from `device`, which was admitted.
  void stay_on(c10::Device device) noexcept {
    if (load() != device) device_.store(device, std::memory_order_relaxed);
  }

  /// Known, and not the CPU.
  bool elsewhere() const noexcept {
    const c10::Device own = load();
    return !own.is_cpu() && own.type() != kOpen;
  }

 private:
  static constexpr auto kOpen = c10::DeviceType::COMPILE_TIME_MAX_DEVICE_TYPES;  // of no tensor

  c10::Device load() const noexcept { return device_.load(std::memory_order_relaxed); }

  std::atomic<c10::Device> device_;
};

}  // namespace infobatch::detail
