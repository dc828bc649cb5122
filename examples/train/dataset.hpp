#pragma once

#include <examples/train/options.hpp>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace infobatch::train {

/// Labelled 8-bit images, one after another, each as planes (red, green, blue) of rows.
struct Images {
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::vector<std::uint8_t> pixels;  ///< [N, 3, height, width]
  std::vector<std::uint8_t> labels;  ///< [N]

  static constexpr std::int64_t kChannels = 3;
  std::int64_t size() const { return static_cast<std::int64_t>(labels.size()); }
  std::int64_t image_bytes() const { return kChannels * height * width; }
  const std::uint8_t* image(std::int64_t index) const {
    return pixels.data() + index * image_bytes();
  }
};

struct Dataset {
  std::int64_t classes = 0;
  Images train;
  Images test;
  /// Of the training pixels, by channel, in units of a pixel value.
  std::array<float, 3> mean{};
  std::array<float, 3> deviation{};
  /// Digest of everything above: a checkpoint belongs to one data set, wherever it lies.
  std::uint64_t digest = 0;
};

/// The data that `options.data` names, its training part cut to `options.samples`.
/// @throws UsageError  missing, truncated or damaged files, fewer samples than asked for.
Dataset load_dataset(const TrainOptions& options);

}  // namespace infobatch::train
