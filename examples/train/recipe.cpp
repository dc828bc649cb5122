#include <examples/train/recipe.hpp>

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include <cmath>

namespace infobatch::train {
namespace {

constexpr double kRise = 0.3;
constexpr double kStartDivisor = 25.0;
constexpr double kEndDivisor = 1e4;
constexpr double kPi = 3.14159265358979323846;

double cosine(double from, double to, double fraction) {
  return to + (from - to) / 2.0 * (1.0 + std::cos(kPi * fraction));
}

/// Switches autocast on a device on, and off again.
class Autocast {
 public:
  Autocast(c10::DeviceType device, bool enabled) : device_(device), enabled_(enabled) {
    if (!enabled_) return;
    before_ = at::autocast::is_autocast_enabled(device_);
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::set_autocast_dtype(device_, at::kBFloat16);
  }
  ~Autocast() {
    if (!enabled_) return;
    at::autocast::clear_cache();  // it holds casts of parameters that the next step changes
    at::autocast::set_autocast_enabled(device_, before_);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  c10::DeviceType device_;
  bool enabled_;
  bool before_ = false;
};

}  // namespace

double one_cycle(double peak, double progress) {
  const double start = peak / kStartDivisor;
  if (progress < kRise) return cosine(start, peak, progress / kRise);
  return cosine(peak, start / kEndDivisor, (progress - kRise) / (1.0 - kRise));
}

std::unique_ptr<torch::optim::SGD> make_optimizer(const Classifier& model,
                                                  const TrainOptions& options) {
  return std::make_unique<torch::optim::SGD>(model.parameters(),
                                             torch::optim::SGDOptions(one_cycle(options.lr, 0.0))
                                                 .momentum(0.9)
                                                 .weight_decay(options.weight_decay)
                                                 .nesterov(true));
}

void set_learning_rate(torch::optim::SGD& optimizer, double lr) {
  for (auto& group : optimizer.param_groups()) group.options().set_lr(lr);
}

torch::Tensor sample_losses(const torch::Tensor& logits,
                            const torch::Tensor& labels,
                            double label_smoothing) {
  const auto exact = logits.scalar_type() == torch::kFloat64 ? logits : logits.to(torch::kFloat32);
  return torch::nn::functional::cross_entropy(exact,
                                              labels,
                                              torch::nn::functional::CrossEntropyFuncOptions()
                                                  .reduction(torch::kNone)
                                                  .label_smoothing(label_smoothing));
}

Precision precision_of(const std::string& dtype, torch::Device device) {
  Precision precision;
  precision.device = device;
  if (dtype == "fp64") precision.dtype = torch::kFloat64;
  precision.autocast = dtype == "bf16";
  return precision;
}

torch::Tensor forward(Classifier& model, const torch::Tensor& images, const Precision& precision) {
  const Autocast guard(precision.device.type(), precision.autocast);
  return model.forward(images);
}

}  // namespace infobatch::train
