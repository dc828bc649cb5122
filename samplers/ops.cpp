#include <infobatch/score.hpp>
#include <samplers/detail/fused_step.hpp>
#include <samplers/detail/ops_cpu.hpp>
#include <samplers/ops.hpp>

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

// Schemas, checks, autograd. Every backend's function checks its arguments, because the dispatcher
// may be called by anybody; the kernels behind them trust theirs.

namespace infobatch {
namespace {

constexpr std::int64_t kExponentBits = 0x7f800000;  // all of them: NaN or infinite

/// The dispatcher's own words for what it cannot take name neither the function nor the argument.
void check_tensor(const char* function, const char* name, const at::Tensor& tensor) {
  TORCH_CHECK_VALUE(
      tensor.defined(), function, ": ", name, " must be a tensor, got an undefined one");
  TORCH_CHECK_VALUE(tensor.layout() == at::kStrided,
                    function,
                    ": ",
                    name,
                    " must be dense, got ",
                    tensor.layout());
}

void check_losses(const char* function, const at::Tensor& losses) {
  check_tensor(function, "losses", losses);
  TORCH_CHECK_VALUE(losses.dim() >= 1,
                    function,
                    ": losses must be per sample, [B] or [B, ...], got a scalar; give the "
                    "criterion reduction = torch::kNone");
  TORCH_CHECK_TYPE(detail::is_loss_type(losses.scalar_type()),
                   function,
                   ": losses must be float16, bfloat16, float32 or float64, got ",
                   losses.scalar_type());
}

void check_weights(const char* function, const at::Tensor& x, const at::Tensor& weights) {
  check_tensor(function, "weights", weights);
  TORCH_CHECK_VALUE(weights.dim() == 1 && weights.size(0) == x.size(0),
                    function,
                    ": weights must be [",
                    x.size(0),
                    "], got ",
                    weights.sizes());
  TORCH_CHECK_TYPE(weights.scalar_type() == at::kFloat,
                   function,
                   ": weights must be float32, got ",
                   weights.scalar_type());
  TORCH_CHECK_VALUE(weights.device() == x.device(),
                    function,
                    ": weights must be on ",
                    x.device(),
                    ", got ",
                    weights.device());
}

void check_reduction(std::int64_t reduction) {
  TORCH_CHECK_VALUE(reduction >= static_cast<std::int64_t>(Reduction::kMean) &&
                        reduction <= static_cast<std::int64_t>(Reduction::kWeightedMean),
                    "weigh: reduction must be 0 (mean), 1 (sum), 2 (none) or 3 (weighted_mean), "
                    "got ",
                    reduction);
}

void check_observe(const at::Tensor& scores, const at::Tensor& losses, std::int64_t position) {
  check_losses("observe_", losses);
  check_tensor("observe_", "scores", scores);
  TORCH_CHECK_VALUE(scores.dim() == 1 && scores.is_contiguous(),
                    "observe_: scores must be a contiguous vector, got ",
                    scores.sizes());
  TORCH_CHECK_VALUE(scores.device() == losses.device(),
                    "observe_: scores must be on ",
                    losses.device(),
                    ", where the losses are, got ",
                    scores.device());
  TORCH_CHECK_TYPE(scores.scalar_type() == at::kFloat,
                   "observe_: scores must be float32, got ",
                   scores.scalar_type());
  TORCH_CHECK_VALUE(position >= 0 && position <= scores.size(0) - losses.size(0),
                    "observe_: position must be in [0, ",
                    scores.size(0),
                    " - ",
                    losses.size(0),
                    "], got ",
                    position);
}

void check_scaled(const at::Tensor& x, const at::Tensor& weights) {
  check_tensor("scale_gradient", "x", x);
  TORCH_CHECK_VALUE(x.dim() >= 1, "scale_gradient: x must be [B, ...], got a scalar");
  TORCH_CHECK_TYPE(at::isFloatingType(x.scalar_type()),
                   "scale_gradient: x must be floating, got ",
                   x.scalar_type());
  check_weights("scale_gradient", x, weights);
}

/// weights as [B, 1, ...], to broadcast over `dims` dimensions.
at::Tensor rows(const at::Tensor& weights, std::size_t dims) {
  std::vector<std::int64_t> shape(dims, 1);
  shape[0] = weights.size(0);
  return weights.view(shape);
}

// --- CPU

void observe_cpu(at::Tensor& scores, const at::Tensor& losses, std::int64_t position) {
  check_observe(scores, losses, position);
  // Losses out of the same memory could be overwritten before they are read.
  const at::Tensor source = losses.is_alias_of(scores) ? losses.clone() : losses;
  detail::row_scores_cpu(source, scores.mutable_data_ptr<float>() + position);
}

at::Tensor weigh_cpu(const at::Tensor& losses, const at::Tensor& weights, std::int64_t reduction) {
  check_losses("weigh", losses);
  check_weights("weigh", losses, weights);
  check_reduction(reduction);
  return detail::weigh_cpu(losses, weights, static_cast<Reduction>(reduction));
}

// --- Meta: shapes without data

void observe_meta(at::Tensor& scores, const at::Tensor& losses, std::int64_t position) {
  check_observe(scores, losses, position);
}

at::Tensor weigh_meta(const at::Tensor& losses, const at::Tensor& weights, std::int64_t reduction) {
  check_losses("weigh", losses);
  check_weights("weigh", losses, weights);
  check_reduction(reduction);
  const bool wide = losses.scalar_type() == at::kDouble;
  const at::TensorOptions options = losses.options().dtype(wide ? at::kDouble : at::kFloat);
  const bool none = static_cast<Reduction>(reduction) == Reduction::kNone;
  return none ? at::empty(losses.sizes(), options) : at::empty({}, options);
}

// --- any device, by plain tensor operations: nothing waits for it

void observe_any(at::Tensor& scores, const at::Tensor& losses, std::int64_t position) {
  check_observe(scores, losses, position);
  const at::ScalarType wide = losses.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor rows = losses.dim() == 1 ? losses : losses.flatten(1).mean(1, /*keepdim=*/false, wide);
  rows = rows.to(at::kFloat).resolve_neg();
  const at::Tensor bits = rows.view(at::kInt);
  const at::Tensor not_finite = bits.bitwise_and(kExponentBits).eq(kExponentBits);
  scores.narrow(0, position, losses.size(0))
      .view(at::kInt)
      .copy_(bits.masked_fill(not_finite, static_cast<std::int64_t>(kNeverObservedBits)));
}

at::Tensor weigh_any(const at::Tensor& losses, const at::Tensor& weights, std::int64_t reduction) {
  check_losses("weigh", losses);
  check_weights("weigh", losses, weights);
  check_reduction(reduction);
  // float16 and bfloat16 losses become float32 here.
  at::Tensor weighted = losses * rows(weights, static_cast<std::size_t>(losses.dim()));
  switch (static_cast<Reduction>(reduction)) {
    case Reduction::kMean:
      return weighted.mean();
    case Reduction::kSum:
      return weighted.sum();
    case Reduction::kNone:
      break;
    case Reduction::kWeightedMean: {
      const std::int64_t batch = std::max<std::int64_t>(losses.size(0), 1);
      const double share = static_cast<double>(losses.numel()) / static_cast<double>(batch);
      return weighted.sum() / (weights.sum() * share);
    }
  }
  return weighted;
}

at::Tensor scale_gradient_forward(const at::Tensor& x, const at::Tensor& weights) {
  check_scaled(x, weights);
  return x.view_as(x);
}

// --- calls through the dispatcher

at::Tensor call_weigh(const at::Tensor& losses, const at::Tensor& weights, std::int64_t reduction) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("infobatch::weigh", "")
                             .typed<decltype(weigh_cpu)>();
  return op.call(losses, weights, reduction);
}

at::Tensor call_scale_gradient(const at::Tensor& x, const at::Tensor& weights) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("infobatch::scale_gradient", "")
                             .typed<decltype(scale_gradient_forward)>();
  return op.call(x, weights);
}

using ObserveOp = c10::TypedOperatorHandle<decltype(observe_cpu)>;

const ObserveOp& observe_op() {
  static const ObserveOp op = c10::Dispatcher::singleton()
                                  .findSchemaOrThrow("infobatch::observe_", "")
                                  .typed<decltype(observe_cpu)>();
  return op;
}

/// So that autograd notices where it had saved `scores`.
void observe_tracked(at::Tensor& scores, const at::Tensor& losses, std::int64_t position) {
  {
    const at::AutoDispatchBelowADInplaceOrView below;
    observe_op().call(scores, losses, position);
  }
  scores.unsafeGetTensorImpl()->bump_version();
}

// --- autograd

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

class Weigh : public torch::autograd::Function<Weigh> {
 public:
  static at::Tensor forward(AutogradContext* context,
                            const at::Tensor& losses,
                            const at::Tensor& weights,
                            std::int64_t reduction) {
    const at::AutoDispatchBelowADInplaceOrView below;
    at::Tensor result = call_weigh(losses, weights, reduction);
    context->save_for_backward({weights});
    context->saved_data["reduction"] = reduction;
    context->saved_data["sizes"] = losses.sizes();
    context->saved_data["dtype"] = static_cast<std::int64_t>(losses.scalar_type());
    return result;
  }

  /// Plain tensor operations on the incoming gradient, so that they are differentiable again.
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const at::Tensor weights = context->get_saved_variables()[0];
    const auto reduction = static_cast<Reduction>(context->saved_data["reduction"].toInt());
    const std::vector<std::int64_t> sizes = context->saved_data["sizes"].toIntVector();
    const auto dtype = static_cast<at::ScalarType>(context->saved_data["dtype"].toInt());
    const at::Tensor& gradient = gradients[0];  // float32, or float64 of double losses
    std::int64_t numel = 1;
    for (const std::int64_t extent : sizes) numel *= extent;
    at::Tensor scale = rows(weights, sizes.size()).to(gradient.scalar_type());
    if (reduction == Reduction::kMean) scale = scale / static_cast<double>(numel);
    if (reduction == Reduction::kWeightedMean) {
      const double share = static_cast<double>(numel) / static_cast<double>(sizes[0]);
      // Not every device has float64.
      const at::ScalarType wide = weights.is_cpu() ? at::kDouble : gradient.scalar_type();
      scale = scale / (weights.sum(wide) * share);
    }
    at::Tensor result = (gradient * scale).expand(sizes).to(dtype);
    return {result, at::Tensor(), at::Tensor()};
  }
};

at::Tensor weigh_autograd(const at::Tensor& losses,
                          const at::Tensor& weights,
                          std::int64_t reduction) {
  if (at::GradMode::is_enabled() && losses.requires_grad()) {
    return Weigh::apply(losses, weights, reduction);
  }
  const at::AutoDispatchBelowADInplaceOrView below;
  return call_weigh(losses, weights, reduction);
}

class ScaleGradient : public torch::autograd::Function<ScaleGradient> {
 public:
  static at::Tensor forward(AutogradContext* context,
                            const at::Tensor& x,
                            const at::Tensor& weights) {
    // Not below ADInplaceOrView: torch must know that the result is a view, so that writing to it
    // is refused instead of silently changing x.
    const at::AutoDispatchBelowAutograd below;
    at::Tensor result = call_scale_gradient(x, weights);
    context->save_for_backward({weights});
    return result;
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const at::Tensor weights = context->get_saved_variables()[0];
    const at::Tensor& gradient = gradients[0];
    if (!at::GradMode::is_enabled() || !gradient.requires_grad()) {
      at::Tensor fused = detail::fused_scaled_rows(gradient, weights);
      if (fused.defined()) return {fused, at::Tensor()};
    }
    // Weights are never cast down: a half-precision gradient is multiplied in float32.
    const at::Tensor scaled = gradient * rows(weights, static_cast<std::size_t>(gradient.dim()));
    return {scaled.to(gradient.scalar_type()), at::Tensor()};
  }
};

at::Tensor scale_gradient_autograd(const at::Tensor& x, const at::Tensor& weights) {
  return ScaleGradient::apply(x, weights);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(infobatch, m) {
  m.def("observe_(Tensor(a!) scores, Tensor losses, int position=0) -> ()");
  m.def("weigh(Tensor losses, Tensor weights, int reduction=0) -> Tensor");
  m.def("scale_gradient(Tensor(a) x, Tensor weights) -> Tensor(a)");
}

TORCH_LIBRARY_IMPL(infobatch, CPU, m) {
  m.impl("observe_", &observe_cpu);
  m.impl("weigh", &weigh_cpu);
}

TORCH_LIBRARY_IMPL(infobatch, Meta, m) {
  m.impl("observe_", &observe_meta);
  m.impl("weigh", &weigh_meta);
}

TORCH_LIBRARY_IMPL(infobatch, CompositeExplicitAutograd, m) {
  m.impl("observe_", &observe_any);
  m.impl("weigh", &weigh_any);
  m.impl("scale_gradient", &scale_gradient_forward);
}

TORCH_LIBRARY_IMPL(infobatch, ADInplaceOrView, m) { m.impl("observe_", &observe_tracked); }

TORCH_LIBRARY_IMPL(infobatch, Autograd, m) {
  m.impl("observe_", torch::CppFunction::makeFallthrough());  // records, has no gradient
  m.impl("weigh", &weigh_autograd);
  m.impl("scale_gradient", &scale_gradient_autograd);
}

void observe_(torch::Tensor& scores, const torch::Tensor& losses, std::int64_t position) {
  check_tensor("observe_", "scores", scores);
  check_tensor("observe_", "losses", losses);
  const torch::NoGradGuard no_grad;
  observe_op().call(scores, losses, position);
}

torch::Tensor weigh(const torch::Tensor& losses,
                    const torch::Tensor& weights,
                    Reduction reduction) {
  check_tensor("weigh", "losses", losses);
  check_tensor("weigh", "weights", weights);
  return call_weigh(losses, weights, static_cast<std::int64_t>(reduction));
}

torch::Tensor scale_gradient(const torch::Tensor& x, const torch::Tensor& weights) {
  check_tensor("scale_gradient", "x", x);
  check_tensor("scale_gradient", "weights", weights);
  return call_scale_gradient(x, weights);
}

}  // namespace infobatch
