#include <examples/train/augment.hpp>
#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/streams.hpp>

namespace infobatch::train {
namespace {

/// A stream that no policy uses, so pictures and plans are independent.
constexpr std::uint32_t kStreamViews = kStreamPolicy + 1000;

/// Uniform on 0 .. count-1; the bias of the multiplication is below count / 2^24.
int scale(std::uint32_t bits24, int count) {
  return static_cast<int>((std::uint64_t{bits24} * static_cast<std::uint64_t>(count)) >> 24);
}

int reflect(int position, int size) {
  if (position < 0) position = -position;
  if (position >= size) position = 2 * size - 2 - position;
  return position;
}

}  // namespace

View draw_view(std::uint64_t seed, std::uint32_t epoch, std::uint64_t id) {
  const std::uint64_t draw = random_draw64(seed, epoch, kStreamViews, id);
  const int span = 2 * kMaxShift + 1;
  View view;
  view.shift_y = scale(draw & 0xFFFFFF, span) - kMaxShift;
  view.shift_x = scale(draw >> 24 & 0xFFFFFF, span) - kMaxShift;
  view.mirrored = (draw >> 63) != 0;
  return view;
}

PixelTable make_pixel_table(const Dataset& data) {
  PixelTable table{};
  for (std::size_t channel = 0; channel < table.size(); ++channel) {
    for (int value = 0; value < 256; ++value) {
      table[channel][static_cast<std::size_t>(value)] =
          (static_cast<float>(value) - data.mean[channel]) / data.deviation[channel];
    }
  }
  return table;
}

void write_view(const Images& images,
                std::int64_t index,
                const View& view,
                const PixelTable& table,
                float* output) {
  const int height = static_cast<int>(images.height);
  const int width = static_cast<int>(images.width);
  const std::int64_t plane = images.height * images.width;
  const std::uint8_t* image = images.image(index);
  std::array<int, 256> columns;  // of the source, by column of the view; widths are small
  for (int x = 0; x < width; ++x) {
    const int seen = reflect(x + view.shift_x, width);
    columns[static_cast<std::size_t>(x)] = view.mirrored ? width - 1 - seen : seen;
  }
  for (int y = 0; y < height; ++y) {
    const std::uint8_t* row = image + std::int64_t{reflect(y + view.shift_y, height)} * width;
    for (int x = 0; x < width; ++x) {
      const int column = columns[static_cast<std::size_t>(x)];
      output[0] = table[0][row[column]];
      output[1] = table[1][row[plane + column]];
      output[2] = table[2][row[2 * plane + column]];
      output += 3;
    }
  }
}

}  // namespace infobatch::train
