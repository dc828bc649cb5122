#pragma once

#include <examples/train/augment.hpp>
#include <examples/train/dataset.hpp>
#include <examples/train/device_images.hpp>

#include <torch/data/datasets/base.h>
#include <torch/types.h>

#include <cstdint>
#include <memory>

namespace infobatch::train {

/// Images as network input, with their labels.
struct Batch {
  torch::Tensor images;  ///< [B, 3, H, W] float32, channels last
  torch::Tensor labels;  ///< [B] int64, on the same device
};

/// A part of a data set as a `torch::data` batch dataset.
///
/// With a seed every image is seen as `draw_view(seed, epoch, id)` says, without one as it is.
/// Copies share the data and the epoch, so `set_epoch` reaches the copy inside a data loader.
class ImageBatches : public torch::data::datasets::BatchDataset<ImageBatches, Batch> {
 public:
  /// @param data  outlives every copy; `part` is one of its parts.
  ImageBatches(const Dataset& data, const Images& part);

  /// The same images, kept and augmented on a device, by tensor operations. Also on the CPU, where
  /// the loops that are used otherwise give the same.
  ImageBatches on(torch::Device device) const;
  /// The same images, augmented.
  ImageBatches augmented(std::uint64_t seed) const;
  /// The epoch whose views are delivered from now on.
  void set_epoch(std::int64_t epoch) { *epoch_ = epoch; }

  Batch get_batch(c10::ArrayRef<std::size_t> ids) override;
  std::optional<std::size_t> size() const override;

 private:
  const Dataset* data_;
  const Images* images_;
  std::shared_ptr<const DeviceImages> there_;  // null: not on a device
  std::shared_ptr<const PixelTable> table_;
  std::shared_ptr<std::int64_t> epoch_ = std::make_shared<std::int64_t>(0);
  bool augment_ = false;
  std::uint64_t seed_ = 0;
};

}  // namespace infobatch::train
