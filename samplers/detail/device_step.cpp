#include <infobatch/score.hpp>
#include <samplers/detail/device_step.hpp>
#include <samplers/detail/fused_step.hpp>
#include <samplers/detail/translate.hpp>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

namespace infobatch::detail {
namespace {

/// [B] float32, one score a row: the mean over its trailing dimensions, in float32 at least.
at::Tensor row_scores(const at::Tensor& given) {
  const at::Tensor losses = given.is_neg() ? given.resolve_neg() : given;
  if (losses.dim() == 1) return losses.to(at::kFloat);
  const at::ScalarType wide = losses.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return losses.flatten(1).mean(1, /*keepdim=*/false, wide).to(at::kFloat);
}

}  // namespace

// --- the step

at::Tensor DeviceStep::update(const at::Tensor& losses,
                              const at::Tensor& ids,
                              const at::Tensor& scores,
                              Reduction reduction) {
  const Lock lock(mutex_);
  const StepFunctions* const steps =
      scores.defined() || share_.divides() ? nullptr : fused_steps(losses);
  if (steps != nullptr && losses.numel() > 0) return update_fused(*steps, losses, ids, reduction);
  at::Tensor rows;
  at::Tensor weights;
  at::Tensor slots;
  std::int64_t begin = 0;
  {
    const at::AutoDispatchBelowAutograd constants;  // nothing here is differentiated
    rows = row_scores(scores.defined() ? scores : losses);
    if (ids.defined()) {
      const IdTables& tables = tables_of_epoch("update", rows);
      slots = tables.slots(ids);
      weights = tables.weights(slots);
    } else {
      begin = begin_in_order("update", rows);
      weights = weights_.narrow(0, begin, rows.size(0));
    }
  }
  // What can fail comes before anything is recorded, so that a call that fails can be made again.
  at::Tensor result = ids.defined() ? share_.weigh_by_slots(losses, weights, reduction, slots)
                                    : share_.weigh_in_order(losses, weights, reduction, begin);
  const at::AutoDispatchBelowAutograd constants;
  if (ids.defined()) {
    take_by_ids(slots, rows);
  } else {
    take_in_order("update", rows, begin);
  }
  return result;
}

/// What `update` does, by the kernels of a backend.
at::Tensor DeviceStep::update_fused(const StepFunctions& steps,
                                    const at::Tensor& losses,
                                    const at::Tensor& ids,
                                    Reduction reduction) {
  const std::int64_t count = losses.size(0);
  const at::Tensor rows = losses.detach();
  if (ids.defined()) {
    const IdTables& tables = tables_of_epoch("update", rows);
    at::Tensor result = tables.step(steps, losses, ids, reduction);
    took_by_ids(rows);
    return result;
  }
  const std::int64_t begin = begin_in_order("update", rows);
  prepare_staging(rows);
  at::Tensor result = fused_in_order(
      steps, losses, weights_.narrow(0, begin, count), staged_.narrow(0, begin, count), reduction);
  took_in_order("update", rows, begin);
  return result;
}

at::Tensor DeviceStep::observe(const at::Tensor& scores, const at::Tensor& ids) {
  const Lock lock(mutex_);
  const at::AutoDispatchBelowAutograd constants;
  const at::Tensor rows = row_scores(scores);
  if (ids.defined()) {
    const IdTables& tables = tables_of_epoch("observe", rows);
    const at::Tensor slots = tables.slots(ids);
    at::Tensor weights = tables.weights(slots);
    take_by_ids(slots, rows);
    return weights;
  }
  const std::int64_t begin = begin_in_order("observe", rows);
  at::Tensor weights = weights_.narrow(0, begin, rows.size(0)).clone();  // the caller's own
  take_in_order("observe", rows, begin);
  return weights;
}

// --- in order

/// Where the next losses belong. Throws, with the engine's reason, where none are pending.
std::int64_t DeviceStep::begin_in_order(const char* function, const at::Tensor& rows) {
  if (by_ids_) settle();  // so that the engine knows it, and refuses
  const std::int64_t count = rows.size(0);
  // Before the first loss is recorded, epochs may have begun that this was not told of.
  if (epoch_ == kNoEpoch || weights_.device() != rows.device() || !elsewhere()) {
    try {
      fetch_weights(rows.device());
    } catch (const StateError& error) {  // no epoch has begun
      translated([&] { session_.advance(count); }, function);
      TORCH_CHECK(count == 0, function, ": ", error.what());
      weights_ = at::empty({0}, rows.options().dtype(at::kFloat));
      return 0;
    }
  }
  const std::int64_t begin = session_.position();
  if (begin + count > size_) translated([&] { session_.advance(count); }, function);
  return begin;
}

/// Writes the losses down, then moves the cursor: what was written and not taken is written again.
void DeviceStep::take_in_order(const char* function, const at::Tensor& rows, std::int64_t begin) {
  const std::int64_t count = rows.size(0);
  if (count > 0) {
    prepare_staging(rows);
    staged_.narrow(0, begin, count).copy_(rows);
  }
  took_in_order(function, rows, begin);
}

void DeviceStep::prepare_staging(const at::Tensor& rows) {
  if (staged_.defined() && staged_.device() == rows.device()) return;
  const c10::InferenceMode written_in_any_mode(false);
  staged_ = at::empty({session_.size()}, rows.options().dtype(at::kFloat));
}

/// The losses of the rows are written down: moves the cursor.
void DeviceStep::took_in_order(const char* function, const at::Tensor& rows, std::int64_t begin) {
  const std::int64_t count = rows.size(0);
  const Slice slice = translated([&] { return session_.advance(count); }, function);
  if (count == 0) return;
  TORCH_CHECK(slice.begin == begin && slice.plan->epoch() == epoch_,
              function,
              ": on a device, epochs must begin through InfoBatch or its sampler, got one that the "
              "session began by itself");
  if (begin_ == end_) begin_ = begin;
  end_ = begin + count;
  uses_ids_ = false;
  device_.stay_on(rows.device());
}

/// The weights of the epoch that has begun, on the device of the losses.
void DeviceStep::fetch_weights(c10::Device device) {
  const EpochArrays arrays = session_.epoch_arrays();
  weights_ = at::Tensor();  // its memory may serve the new ones, unless somebody still reads it
  epoch_ = kNoEpoch;
  const c10::InferenceMode written_in_any_mode(false);
  at::Tensor weights =
      at::empty({session_.size()}, at::TensorOptions().dtype(at::kFloat).device(device));
  const float* const of_plan = arrays.weights;
  const auto is_one = [](float weight) { return weight == 1.0f; };
  if (std::all_of(of_plan, of_plan + arrays.size, is_one)) {
    weights.fill_(1.0);  // nothing to copy, and so nothing to wait for
  } else {
    weights.narrow(0, 0, arrays.size)
        .copy_(at::from_blob(const_cast<float*>(of_plan), {arrays.size}, at::kFloat));
  }
  weights_ = std::move(weights);
  size_ = arrays.size;
  epoch_ = arrays.epoch;
}

/// Brings [begin_, end_) of the staged losses to the engine.
void DeviceStep::hand_over() {
  if (begin_ == end_) return;
  if (!staged_.device().is_meta()) {  // whose losses have no values: they stay unseen
    const std::int64_t count = end_ - begin_;
    const at::Tensor host = staged_.narrow(0, begin_, count).cpu();
    float* const losses = host.mutable_data_ptr<float>();
    // A loss may be any NaN, but not the one that says that there is none.
    std::replace_if(
        losses, losses + count, [](float loss) { return is_unseen(loss); }, never_observed());
    translated([&] { session_.stage(losses, begin_, count); }, "update");
  }
  begin_ = end_;
}

// --- by ids

/// The tables of the running epoch, made when they are first asked for.
IdTables& DeviceStep::tables_of_epoch(const char* function, const at::Tensor& rows) {
  if (by_ids_ && tables_->begun()) return *tables_;
  refuse_after_order(function);
  if (!tables_ || tables_->device() != rows.device() || !elsewhere()) {
    tables_.emplace(session_.size(), rows.device());
  }
  if (!tables_->begun()) tables_->begin(running_plan());
  return *tables_;
}

void DeviceStep::take_by_ids(const at::Tensor& slots, const at::Tensor& rows) {
  if (rows.size(0) == 0) return;
  tables_->record(slots, rows);
  took_by_ids(rows);
}

void DeviceStep::took_by_ids(const at::Tensor& rows) {
  by_ids_ = uses_ids_ = true;
  device_.stay_on(rows.device());
}

/// An epoch is observed in one way, and the engine knows what was observed in order.
void DeviceStep::refuse_after_order(const char* function) {
  if (session_.position() == 0 || engine_has_ids()) return;
  const float loss = 0.0f;
  const std::int64_t id = 0;
  float weight = 0.0f;
  translated([&] { session_.observe_ids(&loss, &id, 1, &weight); }, function);
}

/// Whether the engine knows the epoch as one that is observed by ids.
bool DeviceStep::engine_has_ids() {
  try {
    session_.advance(0);
  } catch (const StateError&) {
    return true;
  }
  return false;
}

PlanRef DeviceStep::running_plan() {
  try {
    return session_.epoch_arrays().plan;
  } catch (const StateError&) {  // its samples were not delivered by us
    return translated([&] { return session_.plan(); });
  }
}

// --- from one epoch to the next

void DeviceStep::settle() {
  hand_over();
  // Whether losses came by ids or not: a captured step that is replayed tells nobody.
  if (has_tables()) tables_->collect(session_);
}

void DeviceStep::settle_if_over() {
  const bool in_order = epoch_ != kNoEpoch && session_.epoch() != epoch_;
  if (in_order || (has_tables() && delivered_ >= kept_)) settle();
}

void DeviceStep::leave() {
  if (tables_) tables_->leave();
}

void DeviceStep::renew() {
  leave();
  share_.renew();
  begin_ = end_ = 0;
  epoch_ = kNoEpoch;
  by_ids_ = false;
  if (engine_has_ids()) uses_ids_ = true;  // a state was loaded
  delivered_ = 0;
  kept_ = kUnknown;
}

void DeviceStep::prepare() noexcept {
  try {
    const at::AutoDispatchBelowAutograd constants;
    const c10::Device device = device_.get().value();
    if (uses_ids_) {
      weights_ = staged_ = at::Tensor();
      if (!tables_) tables_.emplace(session_.size(), device);
      tables_->begin(session_.epoch_arrays().plan);
      share_.prepare();
    } else {
      tables_.reset();
      fetch_weights(device);
    }
  } catch (const std::exception&) {
    // The epoch has begun all the same. Its first step tries again, and says what is wrong.
  }
}

void DeviceStep::delivered(std::int64_t delivered, std::int64_t kept) noexcept {
  delivered_.store(delivered, std::memory_order_relaxed);
  kept_.store(kept, std::memory_order_relaxed);
}

double DeviceStep::progress() const {
  const Lock lock(mutex_);
  const std::int64_t kept = kept_;
  if (!has_tables() || end_ > 0 || kept <= 0) return session_.progress();
  const double share = static_cast<double>(delivered_.load()) / static_cast<double>(kept);
  const double epochs = static_cast<double>(session_.config().epochs);
  const double epoch = static_cast<double>(session_.statistics().epoch);
  return std::min(1.0, (epoch + share) / epochs);
}

}  // namespace infobatch::detail
