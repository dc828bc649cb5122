#include <samplers/detail/share_rows.hpp>
#include <samplers/detail/translate.hpp>
#include <samplers/ops.hpp>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <vector>

namespace infobatch::detail {
namespace {

bool is_mean(Reduction reduction) {
  return reduction == Reduction::kMean || reduction == Reduction::kWeightedMean;
}

/// The losses, 0 where a row weighs nothing.
at::Tensor without_padding(const at::Tensor& losses, const at::Tensor& weights) {
  std::vector<std::int64_t> shape(static_cast<std::size_t>(losses.dim()), 1);
  shape[0] = weights.size(0);
  return losses.masked_fill(weights.view(shape).eq(0), 0);
}

/// Trailing elements of a row.
double trailing_of(const at::Tensor& losses) {
  return static_cast<double>(losses.numel()) / static_cast<double>(losses.size(0));
}

}  // namespace

void ShareRows::look_at_ranks() {
  const Ranks ranks = session_.ranks();
  ranks_ = ranks.split == Split::kSharded ? ranks.size : 1;
}

at::Tensor ShareRows::weigh_in_order(const at::Tensor& losses,
                                     const at::Tensor& weights,
                                     Reduction reduction,
                                     std::int64_t begin) const {
  const std::int64_t count = losses.size(0);
  if (!is_sharded() || losses.numel() == 0) return weigh(losses, weights, reduction);
  const RankRows rows = session_.rank_rows();
  std::int64_t missing = 0;
  for (int i = 0; i < rows.short_rows; ++i) {
    if (rows.row[i] >= begin && rows.row[i] < begin + count) missing += rows.missing[i];
  }
  if (missing == 0 && reduction != Reduction::kWeightedMean) {
    return weigh(losses, weights, reduction);
  }
  const at::Tensor real = missing == 0 ? losses : without_padding(losses, weights);
  if (!is_mean(reduction)) return weigh(real, weights, reduction);
  double of_all = static_cast<double>(count * ranks_ - missing);
  if (reduction == Reduction::kWeightedMean) {
    of_all = 0.0;
    for (std::int64_t row = begin; row < begin + count; ++row) of_all += double{rows.weights[row]};
  }
  const double divisor = of_all / static_cast<double>(ranks_) * trailing_of(losses);
  return weigh(real, weights, Reduction::kSum) / divisor;
}

at::Tensor ShareRows::weigh_by_slots(const at::Tensor& losses,
                                     const at::Tensor& weights,
                                     Reduction reduction,
                                     const at::Tensor& slots) {
  if (!is_sharded() || losses.numel() == 0) return weigh(losses, weights, reduction);
  // On the CPU it is known that no rank has padding; a step on a device may be captured.
  const bool is_whole = losses.is_cpu() && session_.rank_rows().short_rows == 0;
  if (is_whole && reduction != Reduction::kWeightedMean) return weigh(losses, weights, reduction);
  const at::Tensor real = without_padding(losses, weights);
  if (!is_mean(reduction)) return weigh(real, weights, reduction);
  at::Tensor divisor;
  {
    const at::AutoDispatchBelowAutograd constants;
    const std::lock_guard<std::mutex> lock(mutex_);
    fill(losses.device(), reduction == Reduction::kWeightedMean);
    if (reduction == Reduction::kWeightedMean) {
      divisor = weights_.index_select(0, slots).sum();
    } else {
      const at::Tensor missing = slots.unsqueeze(1).eq(short_) * missing_;
      divisor = at::rsub(missing.sum(), losses.size(0));
    }
    divisor = divisor * trailing_of(losses);
  }
  return weigh(real, weights, Reduction::kSum) / divisor;
}

void ShareRows::renew() {
  if (!is_sharded()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  current_ = false;
}

void ShareRows::prepare() {
  if (!is_sharded() || !short_.defined()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  fill(short_.device(), weighs_);
}

/// Written in place, so that a captured step finds them where they were.
void ShareRows::fill(c10::Device device, bool weighs) {
  const bool has_all = short_.defined() && short_.device() == device && (weighs_ || !weighs);
  if (current_ && has_all) return;
  const c10::InferenceMode written_in_any_mode(false);
  const RankRows rows = session_.rank_rows();
  const std::shared_ptr<const Plan> plan = translated([&] { return session_.plan(); });
  if (!short_.defined() || short_.device() != device) {
    short_ = at::empty({2}, at::TensorOptions().dtype(at::kLong).device(device));
    missing_ = at::empty({2}, at::TensorOptions().dtype(at::kFloat).device(device));
    weights_ = at::Tensor();
    weighs_ = false;
  }
  std::int64_t slots[] = {-1, -1};
  float missing[] = {0.0f, 0.0f};
  const auto ranks = static_cast<float>(ranks_);
  for (int i = 0; i < rows.short_rows; ++i) {
    slots[i] = plan->ids()[rows.row[i]] + 1;
    missing[i] = static_cast<float>(rows.missing[i]) / ranks;
  }
  short_.copy_(at::from_blob(slots, {2}, at::kLong));
  missing_.copy_(at::from_blob(missing, {2}, at::kFloat));
  if (weighs || weighs_) {
    const at::Tensor host = at::zeros({session_.size() + 2}, at::kFloat);
    auto* const by_slot = host.mutable_data_ptr<float>();
    for (std::int64_t row = 0; row < rows.rows; ++row) {
      by_slot[plan->ids()[row] + 1] = rows.weights[row] / ranks;
    }
    if (!weights_.defined()) weights_ = at::empty_like(host, host.options().device(device));
    weights_.copy_(host);
    weighs_ = true;
  }
  current_ = true;
}

}  // namespace infobatch::detail
