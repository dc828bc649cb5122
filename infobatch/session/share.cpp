#include <infobatch/score.hpp>
#include <infobatch/session/share.hpp>

#include <limits>
#include <memory>
#include <utility>

namespace infobatch::detail {

OwnedPlan* make_share(const Plan& whole, Share& share) {
  const Deal& deal = share.deal;
  PlanArrays arrays;
  arrays.size = deal.rows();
  arrays.ids = Buffer<std::int64_t>(arrays.size);
  arrays.weights = Buffer<float>(arrays.size);
  share.row_weights.resize(arrays.size);
  const std::int64_t rank = deal.ranks().rank;
  for (std::int64_t row = 0; row < arrays.size; ++row) {
    const std::int64_t place = deal.place(rank, row);
    const bool pads = place < 0;
    const std::int64_t at = share.position(pads ? deal.stand_in(rank, row) : place);
    arrays.ids[row] = whole.ids()[at];
    arrays.weights[row] = pads ? 0.0f : whole.weights()[at];
    double sum = 0.0;
    const std::int64_t end = deal.places_before(row + 1);
    for (std::int64_t p = deal.places_before(row); p < end; ++p) {
      sum += double{whole.weights()[share.position(p)]};
    }
    share.row_weights[row] = static_cast<float>(sum);
  }
  return new OwnedPlan(whole.epoch(), whole.data_size(), std::move(arrays));
}

std::int32_t ordered_bits(float loss) noexcept {
  if (is_unseen(loss)) return std::numeric_limits<std::int32_t>::min();
  const std::uint32_t bits = float_bits(loss);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  return (bits >> 31) != 0 ? -static_cast<std::int32_t>(magnitude) - 1
                           : static_cast<std::int32_t>(magnitude);
}

float loss_of_ordered(std::int32_t bits) noexcept {
  if (bits == std::numeric_limits<std::int32_t>::min()) return unseen();
  if (bits >= 0) return bits_float(static_cast<std::uint32_t>(bits));
  return bits_float(static_cast<std::uint32_t>(-(bits + 1)) | 0x80000000u);
}

std::uint64_t plan_digest(const Plan& plan) noexcept {
  // Each term depends on its position, and none on the term before it, so the loop runs at the
  // speed of memory.
  std::uint64_t digest = static_cast<std::uint64_t>(plan.size());
  for (std::int64_t p = 0; p < plan.size(); ++p) {
    const std::uint64_t word = static_cast<std::uint64_t>(plan.ids()[p]) << 32 |
                               std::uint64_t{float_bits(plan.weights()[p])};
    digest += (word ^ (word >> 29)) * (2 * static_cast<std::uint64_t>(p) + 1);
  }
  return digest;
}

}  // namespace infobatch::detail
