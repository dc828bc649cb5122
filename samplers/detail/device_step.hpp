#pragma once

#include <infobatch/backends.hpp>
#include <infobatch/session.hpp>
#include <samplers/detail/id_tables.hpp>
#include <samplers/detail/run_device.hpp>
#include <samplers/detail/share_rows.hpp>

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>

namespace infobatch::detail {

/// The step of a run whose losses are on another device than the CPU, by plain tensor operations,
/// or by the kernels of a backend that was loaded for that device (fused_step.hpp).
///
/// In order, an update reads a slice of the epoch's weights and writes a slice of its staged
/// losses, both [N] on the device; by ids, see `IdTables`. The engine keeps the cursor and checks
/// each step (`Session::advance`). Nothing in a step waits for the device. The losses come to the
/// host in one copy, by `settle`.
///
/// Every function but `elsewhere`, `device` and `delivered` expects the mutex to be held, or takes
/// it. The mutex may be taken again by the thread that has it: the engine calls warning handlers
/// inside calls that end an epoch, and these may call the run.
class DeviceStep {
 public:
  using Mutex = std::recursive_mutex;
  using Lock = std::lock_guard<Mutex>;

  DeviceStep(Session& session, ShareRows& share, std::optional<c10::Device> declared)
      : session_(session), share_(share), device_(declared) {}

  Mutex& mutex() const noexcept { return mutex_; }
  RunDevice& device() noexcept { return device_; }
  const RunDevice& device() const noexcept { return device_; }
  bool elsewhere() const noexcept { return device_.elsewhere(); }

  /// `InfoBatch::update` of checked tensors, all on one device. Takes the mutex.
  at::Tensor update(const at::Tensor& losses,
                    const at::Tensor& ids,
                    const at::Tensor& scores,
                    Reduction reduction);
  /// `InfoBatch::observe`, likewise.
  at::Tensor observe(const at::Tensor& scores, const at::Tensor& ids);

  /// Hands what is staged on the device over to the engine: one copy. Where it throws, it can be
  /// called again.
  /// @throws c10::IndexError  ids outside the plan were observed; all other losses are delivered
  /// over.
  void settle();
  /// The same where the epoch was delivered and may be over.
  void settle_if_over();
  /// Holds nothing that the engine could use for the next epoch. Everything is settled.
  void leave();
  /// An epoch has begun, maybe anew: what is staged here belongs to one that is gone.
  void renew();
  /// The iteration of an epoch has begun: brings its weights to the device, so that no step has to.
  void prepare() noexcept;

  /// Samples of the running epoch's plan that were delivered, out of how many.
  void delivered(std::int64_t delivered, std::int64_t kept) noexcept;
  /// `Session::progress`; by ids, what was delivered counts: what came back is known later.
  double progress() const;

 private:
  static constexpr std::int64_t kNoEpoch = -1;
  static constexpr std::int64_t kUnknown = INT64_MAX;

  at::Tensor update_fused(const StepFunctions& steps,
                          const at::Tensor& losses,
                          const at::Tensor& ids,
                          Reduction reduction);
  std::int64_t begin_in_order(const char* function, const at::Tensor& rows);
  void take_in_order(const char* function, const at::Tensor& rows, std::int64_t begin);
  void prepare_staging(const at::Tensor& rows);
  void took_in_order(const char* function, const at::Tensor& rows, std::int64_t begin);
  void fetch_weights(c10::Device device);
  void hand_over();
  IdTables& tables_of_epoch(const char* function, const at::Tensor& rows);
  void take_by_ids(const at::Tensor& slots, const at::Tensor& rows);
  void took_by_ids(const at::Tensor& rows);
  void refuse_after_order(const char* function);
  bool engine_has_ids();
  bool has_tables() const { return tables_ && tables_->begun(); }
  PlanRef running_plan();

  Session& session_;
  ShareRows& share_;
  mutable Mutex mutex_;
  RunDevice device_;
  std::atomic<std::int64_t> delivered_{0};
  std::atomic<std::int64_t> kept_{kUnknown};

  // In order.
  at::Tensor weights_;             // [N] of the epoch, which has size_ of them
  at::Tensor staged_;              // [N] losses by position
  std::int64_t epoch_ = kNoEpoch;  // that the weights are of
  std::int64_t size_ = 0;          // K
  std::int64_t begin_ = 0;         // staged and not delivered over: [begin_, end_)
  std::int64_t end_ = 0;

  // By ids.
  std::optional<IdTables> tables_;
  bool by_ids_ = false;    // this epoch
  bool uses_ids_ = false;  // the last step that there was
};

}  // namespace infobatch::detail
