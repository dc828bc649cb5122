#include <examples/train/batches.hpp>

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <vector>

namespace infobatch::train {

ImageBatches::ImageBatches(const Dataset& data, const Images& part)
    : data_(&data), images_(&part), table_(std::make_shared<PixelTable>(make_pixel_table(data))) {}

ImageBatches ImageBatches::on(torch::Device device) const {
  ImageBatches result = *this;
  result.there_ = std::make_shared<DeviceImages>(*data_, *images_, device);
  return result;
}

ImageBatches ImageBatches::augmented(std::uint64_t seed) const {
  ImageBatches result = *this;
  result.epoch_ = std::make_shared<std::int64_t>(0);
  result.augment_ = true;
  result.seed_ = seed;
  return result;
}

Batch ImageBatches::get_batch(c10::ArrayRef<std::size_t> ids) {
  const auto count = static_cast<std::int64_t>(ids.size());
  const auto epoch = static_cast<std::uint32_t>(*epoch_);
  if (there_) {
    const std::vector<std::int64_t> indices(ids.begin(), ids.end());
    std::vector<View> seen(ids.size());
    for (std::size_t i = 0; i < ids.size() && augment_; ++i) {
      seen[i] = draw_view(seed_, epoch, ids[i]);
    }
    const DeviceImages::Views views = there_->views(indices, seen);
    return {views.images, views.labels};
  }
  auto pixels = torch::empty({count, images_->height, images_->width, Images::kChannels});
  auto labels = torch::empty({count}, torch::kInt64);
  float* pixel_data = pixels.data_ptr<float>();
  std::int64_t* label_data = labels.data_ptr<std::int64_t>();
  at::parallel_for(0, count, /*grain_size=*/32, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::size_t id = ids[static_cast<std::size_t>(i)];
      const View view = augment_ ? draw_view(seed_, epoch, id) : View{};
      write_view(*images_,
                 static_cast<std::int64_t>(id),
                 view,
                 *table_,
                 pixel_data + i * images_->image_bytes());
      label_data[i] = images_->labels[id];
    }
  });
  return {pixels.permute({0, 3, 1, 2}), labels};
}

std::optional<std::size_t> ImageBatches::size() const {
  return static_cast<std::size_t>(images_->size());
}

}  // namespace infobatch::train
