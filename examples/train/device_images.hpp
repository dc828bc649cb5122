#pragma once

#include <examples/train/augment.hpp>
#include <examples/train/dataset.hpp>

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace infobatch::train {

/// Images that live on a device, and are turned into network input there: the host only says which
/// image is seen how, in one small copy a batch.
class DeviceImages {
 public:
  /// Copies `part` of `data` to the device: a byte a pixel and channel.
  DeviceImages(const Dataset& data, const Images& part, torch::Device device);

  struct Views {
    torch::Tensor images;  ///< [B, 3, H, W] float32, channels last
    torch::Tensor labels;  ///< [B] int64
  };
  /// One image for each pair of index and view: what `write_view` writes, to the bit where the
  /// device subtracts and divides float32 as IEEE 754 says.
  Views views(const std::vector<std::int64_t>& indices, const std::vector<View>& seen) const;

 private:
  std::int64_t height_;
  std::int64_t width_;
  torch::Tensor pixels_;     // [N * H * W, 3] uint8
  torch::Tensor labels_;     // [N] int64
  torch::Tensor mean_;       // [3] float32
  torch::Tensor deviation_;  // [3] float32
};

}  // namespace infobatch::train
