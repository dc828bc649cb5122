#pragma once

#include <examples/train/models.hpp>
#include <examples/train/options.hpp>

#include <torch/optim/sgd.h>
#include <torch/types.h>

#include <memory>
#include <string>

namespace infobatch::train {

/// The OneCycle schedule as a function of the fraction of the run that is done: by cosines from
/// `peak / 25` at 0 up to `peak` at 0.3 and down to `peak / 250000` at 1.
///
/// @param progress  in [0, 1].
/// @source Smith and Topin, Super-Convergence, arXiv 1708.07120; the shape of OneCycleLR.
double one_cycle(double peak, double progress);

/// SGD with Nesterov momentum 0.9 and weight decay over all parameters of `model`.
std::unique_ptr<torch::optim::SGD> make_optimizer(const Classifier& model,
                                                  const TrainOptions& options);

/// Sets the learning rate of the next step.
void set_learning_rate(torch::optim::SGD& optimizer, double lr);

/// [B] cross entropy of each sample with label smoothing, float32 (float64 for double logits).
///
/// @param logits  [B, classes], any floating dtype.
/// @param labels  [B] int64.
torch::Tensor sample_losses(const torch::Tensor& logits,
                            const torch::Tensor& labels,
                            double label_smoothing);

/// How `--dtype` and `--device` compute: where, the dtype of parameters and inputs, and whether
/// bfloat16 autocast is on.
struct Precision {
  torch::Dtype dtype = torch::kFloat32;
  bool autocast = false;
  torch::Device device = torch::kCPU;
};
Precision precision_of(const std::string& dtype, torch::Device device = torch::kCPU);

/// Logits of a batch, [B, classes]; under autocast where `precision` says so.
torch::Tensor forward(Classifier& model, const torch::Tensor& images, const Precision& precision);

}  // namespace infobatch::train
