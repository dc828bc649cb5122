#include <examples/train/device.hpp>
#include <examples/train/options.hpp>

#include <torch/torch.h>

#include <algorithm>

namespace infobatch::train {
namespace {

/// Torch goes on for a page.
std::string first_sentence(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  return text.substr(0, std::min(text.find(". "), text.find('\n')));
}

/// Throws where the device cannot compute with this type, or gives no value back.
void try_out(torch::Device device, torch::Dtype dtype) {
  const auto one = torch::ones({1}, torch::dtype(dtype).device(device));
  TORCH_CHECK((one + one).item<double>() == 2.0, "1 + 1 is not 2 there");
}

}  // namespace

torch::Device find_device(const std::string& name, torch::Dtype dtype) {
  try {
    const torch::Device device(name);
    try_out(device, dtype);
    return device;
  } catch (const c10::Error& error) {
    throw UsageError(
        "--device: must be cpu, cuda, mps, xpu or another device on which this torch can compute "
        "with " +
        std::string(c10::toString(dtype)) + ", got '" + name + "': " + first_sentence(error));
  }
}

torch::Dtype widest_float(torch::Device device) {
  try {
    try_out(device, torch::kFloat64);
    return torch::kFloat64;
  } catch (const std::exception&) {  // MPS has none: a TypeError of its own
    return torch::kFloat32;
  }
}

}  // namespace infobatch::train
