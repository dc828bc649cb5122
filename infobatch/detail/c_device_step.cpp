#include <infobatch/backends.hpp>
#include <infobatch/detail/backend.hpp>
#include <infobatch/detail/c_device_step.hpp>
#include <infobatch/error.hpp>

#include <limits>
#include <optional>

namespace infobatch::detail {
namespace {

std::optional<LossType> loss_type(std::int32_t type) {
  switch (type) {
    case IB_FLOAT16:
      return LossType::kHalf;
    case IB_BFLOAT16:
      return LossType::kBfloat16;
    case IB_FLOAT32:
      return LossType::kFloat;
    case IB_FLOAT64:
      return LossType::kDouble;
    default:
      return std::nullopt;
  }
}

}  // namespace

CDeviceStep::CDeviceStep(const char* function, const ib_device_step& step)
    : function_(function), step_(step) {
  need(step.device, "device");
  functions_ = steps_on(step.device);
  if (functions_ == nullptr) {
    throw InvalidArgument(message(function,
                                  ": device must be one of a backend that was loaded and has "
                                  "kernels for a step, got \"",
                                  step.device,
                                  "\""));
  }
  if (step.rows < 0 || step.width < 1 ||
      step.rows > std::numeric_limits<std::int64_t>::max() / 8 / step.width) {
    throw InvalidArgument(message(function,
                                  ": losses must have 0 rows or more of width 1 or more, got ",
                                  step.rows,
                                  " x ",
                                  step.width));
  }
  const std::optional<LossType> type = loss_type(step.type);
  if (!type) {
    throw InvalidArgument(message(function,
                                  ": type must be IB_FLOAT16, IB_BFLOAT16, IB_FLOAT32 or "
                                  "IB_FLOAT64, got ",
                                  step.type));
  }
  if (step.reduction < IB_MEAN || step.reduction > IB_WEIGHTED_MEAN) {
    throw InvalidArgument(
        message(function, ": reduction must be an ib_reduction, got ", step.reduction));
  }
  rows_ = {step.losses, *type, step.rows, step.width};
}

void CDeviceStep::need(const void* pointer, const char* name) const {
  if (pointer == nullptr) {
    throw InvalidArgument(message(function_, ": ", name, " must not be NULL"));
  }
}

void CDeviceStep::need_losses() const {
  if (step_.rows > 0) need(step_.losses, "losses");
}

StepByIds CDeviceStep::by_ids() const {
  if (step_.size < 0) {
    throw InvalidArgument(message(function_, ": size must be 0 or more, got ", step_.size));
  }
  need(step_.weights, "weights");
  if (step_.table != nullptr) need(step_.row, "row");
  StepByIds place;
  place.ids = step_.ids;
  place.samples = step_.size;
  place.weights = step_.weights;
  static_assert(sizeof(long long) == sizeof(std::int64_t));
  place.losses = reinterpret_cast<long long*>(step_.table);
  place.row = reinterpret_cast<long long*>(step_.row);
  return place;
}

StepInOrder CDeviceStep::in_order() const {
  if (step_.cursor == nullptr &&
      (step_.begin < 0 || step_.begin > step_.size || step_.rows > step_.size - step_.begin)) {
    throw InvalidArgument(message(function_,
                                  ": rows must be positions of the plan, got [",
                                  step_.begin,
                                  ", ",
                                  step_.begin,
                                  " + ",
                                  step_.rows,
                                  ") of ",
                                  step_.size));
  }
  if (step_.rows > 0) need(step_.weights, "weights");
  StepInOrder place;
  place.weights = step_.weights;
  place.staged = step_.staged;
  place.size = step_.size;
  place.begin = step_.begin;
  static_assert(sizeof(unsigned long long) == sizeof(std::uint64_t));
  place.cursor = reinterpret_cast<unsigned long long*>(step_.cursor);
  return place;
}

StepReduction CDeviceStep::reduction() const {
  const auto width = static_cast<double>(step_.width);
  const auto all = static_cast<double>(step_.rows) * width;
  const auto divisor = [&](double usual) { return step_.divisor == 0.0 ? usual : step_.divisor; };
  switch (step_.reduction) {
    case IB_MEAN:
      return {StepReduction::kDivided, divisor(all)};
    case IB_NONE:
      return {StepReduction::kNone, 1.0};
    case IB_WEIGHTED_MEAN:
      return {StepReduction::kWeighted, divisor(width)};
    default:
      return {StepReduction::kDivided, 1.0};
  }
}

std::size_t CDeviceStep::scratch() const { return functions_->scratch(&rows_); }

void CDeviceStep::forward() const {
  need_losses();
  if (scratch() > 0) need(step_.scratch, "scratch");
  if (step_.reduction != IB_NONE || step_.rows > 0) need(step_.loss, "loss");
  const StepReduction how = reduction();
  const StepResult result = {step_.loss, step_.scale, step_.scratch};
  if (step_.ids != nullptr) {
    const StepByIds place = by_ids();
    call_backend([&](BackendError* error) {
      return functions_->by_ids(&rows_, &place, &how, &result, step_.stream, error);
    });
    return;
  }
  const StepInOrder place = in_order();
  call_backend([&](BackendError* error) {
    return functions_->in_order(&rows_, &place, &how, &result, step_.stream, error);
  });
}

void CDeviceStep::backward(const void* given, const float* row_weights, void* gradient) const {
  if (step_.rows > 0) {
    need(given, "given");
    need(row_weights, "row_weights");
    need(gradient, "gradient");
  }
  if (step_.reduction == IB_NONE) {  // `given` is of the type of the weighed losses
    StepRows rows = rows_;
    rows.losses = given;
    rows.type = rows_.type == LossType::kDouble ? LossType::kDouble : LossType::kFloat;
    call_backend([&](BackendError* error) {
      return functions_->scale_rows(&rows, row_weights, gradient, rows_.type, step_.stream, error);
    });
    return;
  }
  need(step_.scale, "scale");
  call_backend([&](BackendError* error) {
    return functions_->backward(
        &rows_, given, step_.scale, row_weights, gradient, step_.stream, error);
  });
}

void CDeviceStep::row_weights(float* out) const {
  if (step_.rows > 0) {
    need(step_.ids, "ids");
    need(out, "row_weights");
  }
  const StepByIds place = by_ids();
  call_backend([&](BackendError* error) {
    return functions_->weights_of_ids(&place, step_.rows, out, step_.stream, error);
  });
}

void CDeviceStep::scale_rows(const float* row_weights, void* out) const {
  need_losses();
  if (step_.rows > 0) {
    need(row_weights, "row_weights");
    need(out, "out");
  }
  call_backend([&](BackendError* error) {
    return functions_->scale_rows(&rows_, row_weights, out, rows_.type, step_.stream, error);
  });
}

}  // namespace infobatch::detail
