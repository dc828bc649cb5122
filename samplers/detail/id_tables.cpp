#include <infobatch/score.hpp>
#include <samplers/detail/id_tables.hpp>
#include <samplers/detail/translate.hpp>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace infobatch::detail {
namespace {

/// A loss in the table is (row of the epoch, from 1 on) * kRow + its bits as a signed number: the
/// largest is that of the last row, in whichever order a device takes the rows. 0: none.
constexpr std::int64_t kRow = std::int64_t{1} << 32;

constexpr auto kUnseen = static_cast<std::int64_t>(kUnseenBits);
constexpr auto kNever = static_cast<std::int64_t>(kNeverObservedBits);

[[noreturn]] void refuse_ids(std::int64_t first,
                             std::int64_t count,
                             const Plan& plan,
                             c10::Device on) {
  const std::int64_t size = plan.data_size();
  const std::string got = first < 0       ? std::string("a number below 0")
                          : first >= size ? message("one beyond ", size - 1)
                                          : message(first);
  TORCH_CHECK_INDEX(false,
                    "update: ids must be those of the plan of epoch ",
                    plan.epoch(),
                    ", got ",
                    got,
                    count > 1 ? message(" and ", count - 1, " more") : std::string(),
                    ": told at the end of the epoch, because a step on ",
                    on,
                    " does not wait to look at them. Their losses weighed 0 and are not recorded");
}

}  // namespace

IdTables::IdTables(std::int64_t size, c10::Device device) : size_(size) {
  const c10::InferenceMode written_in_any_mode(false);
  const at::TensorOptions options = at::TensorOptions().device(device);
  weights_ = at::empty({size + 2}, options.dtype(at::kFloat));
  losses_ = at::empty({size + 2}, options.dtype(at::kLong));
  row_ = at::empty({}, options.dtype(at::kLong));
}

void IdTables::begin(PlanRef plan) {
  leave();  // until all of it is there
  const std::int64_t kept = plan->size();
  const float* const of_plan = plan->weights();
  const auto is_one = [](float weight) { return weight == 1.0f; };
  if (kept == size_ && std::all_of(of_plan, of_plan + kept, is_one)) {
    weights_.zero_();  // nothing to copy, and so nothing to wait for
    weights_.narrow(0, 1, size_).fill_(1.0);
  } else {
    const at::Tensor host = at::zeros({size_ + 2}, at::kFloat);
    float* const by_slot = host.mutable_data_ptr<float>();
    for (std::int64_t p = 0; p < kept; ++p) by_slot[plan->ids()[p] + 1] = of_plan[p];
    weights_.copy_(host);
  }
  clear();
  plan_ = std::move(plan);
}

void IdTables::clear() {
  losses_.zero_();
  row_.fill_(kRow);
}

at::Tensor IdTables::slots(const at::Tensor& ids) const { return ids.clamp(-1, size_).add_(1); }

at::Tensor IdTables::weights(const at::Tensor& slots) const {
  return weights_.index_select(0, slots);
}

void IdTables::record(const at::Tensor& slots, const at::Tensor& scores) {
  const std::int64_t count = slots.size(0);
  const at::Tensor offsets = at::arange(count, slots.options());
  const at::Tensor rows = at::add(row_, offsets, kRow);
  losses_.scatter_reduce_(0, slots, rows.add_(scores.view(at::kInt)), "amax");
  row_.add_(count * kRow);
}

void IdTables::collect(Session& session) {
  if (device().is_meta()) return clear();  // whose losses have no values
  at::Tensor bits = losses_.to(at::kInt);  // the lower half
  bits.masked_fill_(bits.eq(kUnseen), kNever);
  bits.masked_fill_(losses_.eq(0), kUnseen);
  const at::Tensor host = bits.cpu();
  auto* const by_slot = reinterpret_cast<std::uint32_t*>(host.mutable_data_ptr<std::int32_t>());

  std::vector<std::int64_t> ids;
  std::vector<float> losses;
  for (std::int64_t p = 0; p < plan_->size(); ++p) {
    const std::int64_t id = plan_->ids()[p];
    const std::uint32_t found = std::exchange(by_slot[id + 1], kUnseenBits);
    if (found == kUnseenBits) continue;
    ids.push_back(id);
    losses.push_back(bits_float(found));
  }
  std::vector<float> weights(ids.size());
  const auto hand_over = [&] {
    const auto count = static_cast<std::int64_t>(ids.size());
    session.observe_ids(losses.data(), ids.data(), count, weights.data());
  };
  try {
    translated(hand_over, "update");
  } catch (const c10::Error&) {  // of another kind than a lack of memory: it stays wrong
    clear();
    throw;
  }
  clear();
  const auto outside = [](std::uint32_t slot) { return slot != kUnseenBits; };
  std::uint32_t* const end = by_slot + size_ + 2;
  std::uint32_t* const first = std::find_if(by_slot, end, outside);
  const std::int64_t strangers = std::count_if(first, end, outside);
  if (strangers > 0) refuse_ids(first - by_slot - 1, strangers, *plan_, device());
}

}  // namespace infobatch::detail
