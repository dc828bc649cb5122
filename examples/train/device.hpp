#pragma once

#include <torch/types.h>

#include <string>

namespace infobatch::train {

/// The device that `--device` names: `cpu`, `cuda`, `cuda:1`, `mps`, `xpu`, ... It is tried with a
/// tensor of `dtype`.
/// @throws UsageError  there is none of that name, or torch cannot compute with `dtype` on it.
torch::Device find_device(const std::string& name, torch::Dtype dtype);

/// float64 where the device has it, else float32.
torch::Dtype widest_float(torch::Device device);

}  // namespace infobatch::train
