#include <infobatch/detail/kernels.hpp>
#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session/loss_log.hpp>

#include <algorithm>
#include <cstring>
#include <utility>

namespace infobatch::detail {
namespace {

void check_id(std::int64_t id, std::int64_t row, std::int64_t size, const char* function) {
  if (id >= 0 && id < size) return;
  throw IndexError(
      message(function, ": ids must be in [0, ", size, "), got ", id, " in row ", row));
}

}  // namespace

void LossLog::prepare(std::int64_t kept, Buffer<float>& recycled) {
  if (prepared(kept)) return;
  recycled.resize(kept);
  const std::int64_t written = std::max(end_, filled_);
  if (written > 0) std::copy_n(staged_.data(), written, recycled.data());
  std::swap(staged_, recycled);
  if (recycled.capacity() == 0) recycled = Buffer<float>(staged_.source());  // for the next one
}

void LossLog::clear() noexcept {
  end_ = non_finite_ = 0;
  lent_ = filled_ > 0;
  for (std::int64_t p = 0; p < filled_; ++p) staged_[p] = unseen();
}

void LossLog::append(const float* losses, std::int64_t count) noexcept {
  non_finite_ += kernels().stage_losses(losses, count, kNeverObservedBits, staged_.data() + end_);
  end_ += count;
}

void LossLog::append_unseen(std::int64_t count) noexcept {
  for (std::int64_t p = std::max(end_, filled_); p < end_ + count; ++p) staged_[p] = unseen();
  end_ += count;
  lent_ = true;
}

bool LossLog::find(const Plan& plan,
                   std::int64_t expected,
                   const std::int64_t* ids,
                   std::int64_t count,
                   const char* function,
                   const char* absent) {
  // The usual batch is the next part of the plan, and then needs no table.
  const auto bytes = static_cast<std::size_t>(count) * sizeof(*ids);
  if (count <= plan.size() - expected && std::memcmp(plan.ids() + expected, ids, bytes) == 0) {
    return false;
  }
  for (std::int64_t i = 0; i < count; ++i) check_id(ids[i], i, plan.data_size(), function);
  if (positions_.empty()) positions_.build(plan.ids(), plan.size(), plan.data_size());
  if (found_.size() < count) found_.resize(count);
  for (std::int64_t i = 0; i < count; ++i) {
    found_[i] = positions_.find(ids[i]);
    if (found_[i] >= 0) continue;
    throw IndexError(message(function,
                             ": ids must be in the plan of epoch ",
                             plan.epoch(),
                             ", got ",
                             ids[i],
                             " in row ",
                             i,
                             ", ",
                             absent));
  }
  return true;
}

void LossLog::weigh(const Plan& plan,
                    bool found,
                    std::int64_t expected,
                    std::int64_t count,
                    float* weights) const noexcept {
  for (std::int64_t i = 0; i < count; ++i) {
    weights[i] = plan.weights()[found ? found_[i] : expected + i];
  }
}

std::int64_t LossLog::record(const Plan& plan,
                             bool found,
                             std::int64_t expected,
                             const float* losses,
                             std::int64_t count,
                             float* weights) noexcept {
  fill_unseen(plan.size());
  float* const staged = staged_.data();
  std::int64_t fresh = 0;
  const auto place = [&](std::int64_t i, std::int64_t p) {
    fresh += is_unseen(staged[p]) ? 1 : 0;
    non_finite_ += is_finite(losses[i]) ? 0 : 1;
    weights[i] = plan.weights()[p];
    staged[p] = score_of_loss(losses[i]);
  };
  if (found) {
    for (std::int64_t i = 0; i < count; ++i) place(i, found_[i]);
  } else {
    for (std::int64_t i = 0; i < count; ++i) place(i, expected + i);
  }
  return fresh;
}

void LossLog::write(const float* losses, std::int64_t begin, std::int64_t count) noexcept {
  if (count > 0 && losses != staged_.data() + begin) {
    std::memmove(staged_.data() + begin, losses, static_cast<std::size_t>(count) * sizeof(float));
  }
  lent_ = true;
}

void LossLog::fill_unseen(std::int64_t kept) noexcept {
  for (std::int64_t p = std::max(end_, filled_); p < kept; ++p) staged_[p] = unseen();
  end_ = kept;
}

void LossLog::lend(std::int64_t kept) noexcept {
  for (std::int64_t p = std::max(end_, filled_); p < kept; ++p) staged_[p] = unseen();
  filled_ = kept;
  lent_ = true;
}

void LossLog::restore(std::int64_t end, std::int64_t non_finite, bool lent) noexcept {
  end_ = end;
  non_finite_ = non_finite;
  lent_ = lent;
}

Buffer<float> LossLog::release() noexcept { return std::move(staged_); }

}  // namespace infobatch::detail
