#pragma once

#include <examples/train/dataset.hpp>

#include <array>
#include <cstdint>

namespace infobatch::train {

/// How one image is seen in one epoch: shifted by up to 4 pixels, mirrored or not.
struct View {
  int shift_y = 0;  ///< in [-4, 4]
  int shift_x = 0;  ///< in [-4, 4]
  bool mirrored = false;
};

/// Largest shift: the crop of an image that was padded by this many pixels.
constexpr int kMaxShift = 4;

/// The view of sample `id` in `epoch`: a pure function, uniform on the 9 x 9 x 2 views. The draws
/// do not depend on the order of the samples, on threads or on which other samples the epoch has.
View draw_view(std::uint64_t seed, std::uint32_t epoch, std::uint64_t id);

/// Table from pixel values to network inputs: (value - mean) / deviation, by channel.
using PixelTable = std::array<std::array<float, 256>, 3>;
PixelTable make_pixel_table(const Dataset& data);

/// Writes one image as network input, channels last: `output[(y * width + x) * 3 + channel]`.
/// What a shift moves in from outside repeats the border by reflection.
void write_view(const Images& images,
                std::int64_t index,
                const View& view,
                const PixelTable& table,
                float* output);

}  // namespace infobatch::train
