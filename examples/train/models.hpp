#pragma once

#include <torch/nn.h>

#include <cstdint>
#include <string>
#include <vector>

namespace infobatch::train {

/// The names that `--model` takes.
const std::vector<std::string>& model_names();

/// Peak learning rate that suits a model at batch 128.
double default_lr(const std::string& model);

/// A classifier of images: `forward` takes [B, 3, H, W] and returns logits [B, classes].
struct Classifier : torch::nn::Module {
  virtual torch::Tensor forward(const torch::Tensor& images) = 0;
};

/// Makes a model, initialised from torch's global generator.
///
/// `small-cnn`: 4x4 convolution of stride 2 (32), pooling, 3x3 (64), pooling, 3x3 (128), each with
/// batch normalisation and ReLU, then the mean over positions and one linear layer; 95 k
/// parameters, made for CPUs. `resnet18`: ResNet-18 with the 3x3 stem for small images; 11 M
/// parameters.
///
/// @param name     one of `model_names()`.
/// @param classes  number of logits.
/// Parameters are float32; 4-D ones lie channels last in memory.
std::shared_ptr<Classifier> make_model(const std::string& name, std::int64_t classes);

}  // namespace infobatch::train
