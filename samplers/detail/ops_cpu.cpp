#include <infobatch/score.hpp>
#include <samplers/detail/ops_cpu.hpp>

#include <ATen/Dispatch.h>

#include <cstdint>

namespace infobatch::detail {
namespace {

std::int64_t trailing(const at::Tensor& losses) {
  return losses.size(0) == 0 ? 0 : losses.numel() / losses.size(0);
}

template <typename scalar_t>
double row_sum(const scalar_t* row, std::int64_t count) {
  double sum = 0.0;
  for (std::int64_t t = 0; t < count; ++t) sum += static_cast<double>(row[t]);
  return sum;
}

/// The weighted sum over all elements in float64: of one element a row, or of many.
template <typename scalar_t>
double weighted_sum(const scalar_t* losses,
                    const float* weights,
                    std::int64_t batch,
                    std::int64_t row) {
  // Sums side by side: the compiler vectorises them, and none waits for the other.
  constexpr std::int64_t kLanes = 8;
  double sums[kLanes] = {};
  const std::int64_t whole = batch - batch % kLanes;
  if (row == 1) {
    for (std::int64_t b = 0; b < whole; b += kLanes) {
      for (std::int64_t lane = 0; lane < kLanes; ++lane) {
        sums[lane] +=
            static_cast<double>(weights[b + lane]) * static_cast<double>(losses[b + lane]);
      }
    }
  }
  for (std::int64_t b = row == 1 ? whole : 0; b < batch; ++b) {
    sums[b % kLanes] += static_cast<double>(weights[b]) * row_sum(losses + b * row, row);
  }
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace

void row_scores_cpu(const at::Tensor& losses, float* out) {
  const at::Tensor rows = losses.contiguous();
  const std::int64_t batch = rows.size(0);
  const std::int64_t row = trailing(rows);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, rows.scalar_type(), "infobatch::observe_", [&] {
        const scalar_t* data = rows.const_data_ptr<scalar_t>();
        for (std::int64_t b = 0; b < batch; ++b) {
          const double mean = row == 1 ? static_cast<double>(data[b])
                                       : row_sum(data + b * row, row) / static_cast<double>(row);
          out[b] = score_of_loss(static_cast<float>(mean));
        }
      });
}

at::Tensor weigh_cpu(const at::Tensor& losses, const at::Tensor& weights, Reduction reduction) {
  const bool wide = losses.scalar_type() == at::kDouble;
  const at::TensorOptions options = losses.options().dtype(wide ? at::kDouble : at::kFloat);
  const at::Tensor rows = losses.contiguous();
  const at::Tensor factors = weights.contiguous();
  const float* w = factors.const_data_ptr<float>();
  const std::int64_t batch = rows.size(0);
  const std::int64_t row = trailing(rows);
  const bool none = reduction == Reduction::kNone;
  at::Tensor result = none ? at::empty(losses.sizes(), options) : at::empty({}, options);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, rows.scalar_type(), "infobatch::weigh", [&] {
        using out_t = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
        const scalar_t* data = rows.const_data_ptr<scalar_t>();
        out_t* out = result.mutable_data_ptr<out_t>();
        if (none) {
          for (std::int64_t b = 0; b < batch; ++b) {
            for (std::int64_t t = 0; t < row; ++t) {
              out[b * row + t] = static_cast<out_t>(data[b * row + t]) * static_cast<out_t>(w[b]);
            }
          }
          return;
        }
        double sum = weighted_sum(data, w, batch, row);
        if (reduction == Reduction::kMean) sum /= static_cast<double>(batch * row);
        if (reduction == Reduction::kWeightedMean) {
          sum /= row_sum(w, batch) * static_cast<double>(row);
        }
        *out = static_cast<out_t>(sum);
      });
  return result;
}

}  // namespace infobatch::detail
