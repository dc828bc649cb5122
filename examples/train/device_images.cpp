#include <examples/train/device_images.hpp>

#include <torch/torch.h>

#include <array>
#include <cstddef>

namespace infobatch::train {
namespace {

/// Bytes of the host as a tensor over the same memory.
torch::Tensor over(const std::vector<std::uint8_t>& bytes) {
  return torch::from_blob(const_cast<std::uint8_t*>(bytes.data()),
                          {static_cast<std::int64_t>(bytes.size())},
                          torch::kUInt8);
}

torch::Tensor by_channel(const std::array<float, 3>& values, torch::Device device) {
  return torch::tensor({values[0], values[1], values[2]}).to(device);
}

/// Positions of a row or column [B, size]: shifted, and reflected at the border.
torch::Tensor shifted(const torch::Tensor& shift, std::int64_t size) {
  const auto place = torch::arange(size, shift.options()) + shift.unsqueeze(1);
  return (size - 1) - ((size - 1) - place.abs()).abs();
}

}  // namespace

DeviceImages::DeviceImages(const Dataset& data, const Images& part, torch::Device device)
    : height_(part.height), width_(part.width) {
  const std::int64_t plane = height_ * width_;
  pixels_ = over(part.pixels)
                .to(device)
                .view({part.size(), Images::kChannels, plane})
                .transpose(1, 2)
                .reshape({part.size() * plane, Images::kChannels});
  labels_ = over(part.labels).to(device).to(torch::kInt64);
  mean_ = by_channel(data.mean, device);
  deviation_ = by_channel(data.deviation, device);
}

DeviceImages::Views DeviceImages::views(const std::vector<std::int64_t>& indices,
                                        const std::vector<View>& seen) const {
  const torch::Device device = pixels_.device();
  const auto count = static_cast<std::int64_t>(indices.size());
  // Out of pinned memory CUDA copies without making the host wait.
  const bool pinned = device.is_cuda();
  auto host = torch::empty({4, count}, torch::dtype(torch::kInt64).pinned_memory(pinned));
  auto* const row = host.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    const View& view = seen[static_cast<std::size_t>(i)];
    row[i] = indices[static_cast<std::size_t>(i)];
    row[count + i] = view.shift_y;
    row[2 * count + i] = view.shift_x;
    row[3 * count + i] = view.mirrored ? 1 : 0;
  }
  const auto there = host.to(device, torch::kInt64, /*non_blocking=*/pinned);
  const auto index = there[0];
  const auto rows = shifted(there[1], height_);
  const auto plain = shifted(there[2], width_);
  const auto columns = torch::where(there[3].unsqueeze(1).eq(1), (width_ - 1) - plain, plain);
  const auto image = (index * (height_ * width_)).view({count, 1, 1});
  const auto place = image + (rows * width_).unsqueeze(2) + columns.unsqueeze(1);
  const auto values = pixels_.index_select(0, place.flatten()).to(torch::kFloat32);
  const auto input = values.sub_(mean_).div_(deviation_);
  return {input.view({count, height_, width_, Images::kChannels}).permute({0, 3, 1, 2}),
          labels_.index_select(0, index)};
}

}  // namespace infobatch::train
