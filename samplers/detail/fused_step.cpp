#include <infobatch/detail/step_functions.hpp>
#include <samplers/detail/fused_step.hpp>

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <functional>
#include <new>
#include <optional>
#include <vector>

namespace infobatch::detail {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

std::optional<LossType> loss_type(at::ScalarType type) {
  switch (type) {
    case at::kHalf:
      return LossType::kHalf;
    case at::kBFloat16:
      return LossType::kBfloat16;
    case at::kFloat:
      return LossType::kFloat;
    case at::kDouble:
      return LossType::kDouble;
    default:
      return std::nullopt;
  }
}

const StepFunctions* steps_of(c10::Device device) noexcept {
  if (device.is_cpu() || device.is_meta()) return nullptr;
  return steps_on(c10::DeviceTypeName(device.type(), /*lower_case=*/true));
}

/// The device's current stream, as its own kind.
void* stream_on(c10::Device device) {
  const c10::impl::VirtualGuardImpl guard(device.type());
  return guard.getStreamNativeHandle(guard.getStream(device));
}

/// Calls a function of the table, and throws what it says.
template <typename Call>
void launch(const char* function, const Call& call) {
  BackendError error{};
  switch (call(&error)) {
    case BackendStatus::kDone:
      return;
    case BackendStatus::kNoMemory:
      throw std::bad_alloc();
    case BackendStatus::kInvalid:
    case BackendStatus::kFailed:
      break;
  }
  TORCH_CHECK(false, function, ": ", error.text);
}

StepRows rows_of(const at::Tensor& contiguous) {
  StepRows rows;
  rows.losses = contiguous.const_data_ptr();
  rows.type = loss_type(contiguous.scalar_type()).value();
  rows.rows = contiguous.size(0);
  rows.width = rows.rows == 0 ? 1 : std::max<std::int64_t>(contiguous.numel() / rows.rows, 1);
  return rows;
}

StepReduction reduction_of(Reduction reduction, const at::Tensor& losses, const StepRows& rows) {
  switch (reduction) {
    case Reduction::kMean:
      return {StepReduction::kDivided, static_cast<double>(losses.numel())};
    case Reduction::kSum:
      break;
    case Reduction::kNone:
      return {StepReduction::kNone, 1.0};
    case Reduction::kWeightedMean:
      return {StepReduction::kWeighted, static_cast<double>(rows.width)};
  }
  return {StepReduction::kDivided, 1.0};
}

/// weights as [B, 1, ...], to broadcast over `dims` dimensions.
at::Tensor broadcast(const at::Tensor& weights, std::size_t dims) {
  std::vector<std::int64_t> shape(dims, 1);
  shape[0] = weights.size(0);
  return weights.view(shape);
}

/// Queues the forward.
using Forward = std::function<BackendStatus(
    const StepRows&, const StepReduction&, const StepResult&, void* stream, BackendError*)>;

class FusedStep : public torch::autograd::Function<FusedStep> {
 public:
  static at::Tensor forward(AutogradContext* context,
                            const at::Tensor& losses,
                            const at::Tensor& weights,
                            const StepFunctions* steps,
                            const Forward* forward,
                            std::int64_t given_reduction) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const c10::DeviceGuard guard(losses.device());
    const at::Tensor values = losses.resolve_neg().contiguous();
    const auto kind = static_cast<Reduction>(given_reduction);
    const StepRows rows = rows_of(values);
    const bool wide = values.scalar_type() == at::kDouble;
    const at::TensorOptions options = values.options().dtype(wide ? at::kDouble : at::kFloat);
    at::Tensor result =
        kind == Reduction::kNone ? at::empty(losses.sizes(), options) : at::empty({}, options);
    const at::Tensor scale = at::empty({}, values.options().dtype(at::kDouble));
    const at::Tensor scratch = at::empty({static_cast<std::int64_t>(steps->scratch(&rows))},
                                         values.options().dtype(at::kByte));
    const StepResult out{
        result.mutable_data_ptr(), scale.mutable_data_ptr<double>(), scratch.mutable_data_ptr()};
    const StepReduction reduction = reduction_of(kind, losses, rows);
    launch("update", [&](BackendError* error) {
      return (*forward)(rows, reduction, out, stream_on(losses.device()), error);
    });
    context->save_for_backward({weights, scale});
    context->saved_data["reduction"] = given_reduction;
    context->saved_data["sizes"] = losses.sizes();
    context->saved_data["dtype"] = static_cast<std::int64_t>(losses.scalar_type());
    return result;
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const tensor_list saved = context->get_saved_variables();
    const at::Tensor& weights = saved[0];
    const at::Tensor& scale = saved[1];
    const bool none =
        static_cast<Reduction>(context->saved_data["reduction"].toInt()) == Reduction::kNone;
    const std::vector<std::int64_t> sizes = context->saved_data["sizes"].toIntVector();
    const auto dtype = static_cast<at::ScalarType>(context->saved_data["dtype"].toInt());
    const at::Tensor& gradient = gradients[0];  // float32, or float64 of double losses
    const StepFunctions* const steps = steps_of(gradient.device());
    if (steps == nullptr || (at::GradMode::is_enabled() && gradient.requires_grad())) {
      at::Tensor factor = broadcast(weights, sizes.size()).to(gradient.scalar_type());
      if (!none) factor = factor * scale.to(gradient.scalar_type());
      return {(gradient * factor).expand(sizes).to(dtype), {}, {}, {}, {}};
    }
    const c10::DeviceGuard guard(gradient.device());
    at::Tensor result = at::empty(sizes, gradient.options().dtype(dtype));
    const at::Tensor given = gradient.contiguous();
    StepRows rows = rows_of(none ? given : result);
    launch("backward of update", [&](BackendError* error) {
      void* const stream = stream_on(gradient.device());
      if (none) {
        return steps->scale_rows(&rows,
                                 weights.const_data_ptr<float>(),
                                 result.mutable_data_ptr(),
                                 loss_type(dtype).value(),
                                 stream,
                                 error);
      }
      return steps->backward(&rows,
                             given.const_data_ptr(),
                             scale.const_data_ptr<double>(),
                             weights.const_data_ptr<float>(),
                             result.mutable_data_ptr(),
                             stream,
                             error);
    });
    return {result, {}, {}, {}, {}};
  }
};

at::Tensor run(const StepFunctions& steps,
               const at::Tensor& losses,
               const at::Tensor& row_weights,
               const Forward& forward,
               Reduction reduction) {
  return FusedStep::apply(
      losses, row_weights, &steps, &forward, static_cast<std::int64_t>(reduction));
}

}  // namespace

const StepFunctions* fused_steps(const at::Tensor& losses) noexcept {
  if (losses.layout() != at::kStrided || !loss_type(losses.scalar_type())) return nullptr;
  return steps_of(losses.device());
}

at::Tensor fused_in_order(const StepFunctions& steps,
                          const at::Tensor& losses,
                          const at::Tensor& weights,
                          const at::Tensor& staged,
                          Reduction reduction) {
  StepInOrder place;
  place.weights = weights.const_data_ptr<float>();
  place.staged = staged.numel() > 0 ? staged.mutable_data_ptr<float>() : nullptr;
  place.size = weights.size(0);
  const Forward forward = [&](const StepRows& rows,
                              const StepReduction& how,
                              const StepResult& result,
                              void* stream,
                              BackendError* error) {
    return steps.in_order(&rows, &place, &how, &result, stream, error);
  };
  return run(steps, losses, weights, forward, reduction);
}

at::Tensor fused_by_ids(const StepFunctions& steps,
                        const at::Tensor& losses,
                        const at::Tensor& ids,
                        const at::Tensor& weights,
                        const at::Tensor& table,
                        const at::Tensor& row,
                        Reduction reduction) {
  const at::Tensor given_ids = ids.contiguous();
  static_assert(sizeof(long long) == sizeof(std::int64_t));
  StepByIds place;
  place.ids = given_ids.const_data_ptr<std::int64_t>();
  place.samples = weights.size(0) - 2;
  place.weights = weights.const_data_ptr<float>();
  place.losses = reinterpret_cast<long long*>(table.mutable_data_ptr<std::int64_t>());
  place.row = reinterpret_cast<long long*>(row.mutable_data_ptr<std::int64_t>());
  // For the backward, which may come when the table is another epoch's.
  at::Tensor row_weights = at::empty({ids.size(0)}, weights.options());
  {
    const c10::DeviceGuard guard(losses.device());
    launch("update", [&](BackendError* error) {
      return steps.weights_of_ids(&place,
                                  ids.size(0),
                                  row_weights.mutable_data_ptr<float>(),
                                  stream_on(losses.device()),
                                  error);
    });
  }
  const Forward forward = [&](const StepRows& rows,
                              const StepReduction& how,
                              const StepResult& result,
                              void* stream,
                              BackendError* error) {
    return steps.by_ids(&rows, &place, &how, &result, stream, error);
  };
  return run(steps, losses, row_weights, forward, reduction);
}

at::Tensor fused_scaled_rows(const at::Tensor& gradient, const at::Tensor& weights) {
  const StepFunctions* const steps = fused_steps(gradient);
  if (steps == nullptr || gradient.numel() == 0) return {};
  const c10::DeviceGuard guard(gradient.device());
  const at::Tensor given = gradient.contiguous();
  const at::Tensor factors = weights.contiguous();
  at::Tensor result = at::empty_like(given);
  const StepRows rows = rows_of(given);
  launch("backward of scale_gradient", [&](BackendError* error) {
    return steps->scale_rows(&rows,
                             factors.const_data_ptr<float>(),
                             result.mutable_data_ptr(),
                             rows.type,
                             stream_on(gradient.device()),
                             error);
  });
  return result;
}

}  // namespace infobatch::detail
