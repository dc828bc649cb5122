#include <examples/train/dataset.hpp>
#include <examples/train/dataset_builtin.hpp>
#include <examples/train/dataset_cifar.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace infobatch::train {
namespace {

constexpr std::int64_t kBuiltinTrain = 16'000;
constexpr std::int64_t kBuiltinTest = 4'000;

void measure_channels(Dataset& data) {
  const Images& images = data.train;
  const std::int64_t plane = images.height * images.width;
  for (std::int64_t channel = 0; channel < Images::kChannels; ++channel) {
    // Integers: the same result whatever the order.
    std::uint64_t sum = 0;
    std::uint64_t squares = 0;
    for (std::int64_t i = 0; i < images.size(); ++i) {
      const std::uint8_t* pixels = images.image(i) + channel * plane;
      for (std::int64_t k = 0; k < plane; ++k) {
        sum += pixels[k];
        squares += std::uint64_t{pixels[k]} * pixels[k];
      }
    }
    const double count = static_cast<double>(images.size() * plane);
    const double mean = static_cast<double>(sum) / count;
    const double variance = static_cast<double>(squares) / count - mean * mean;
    data.mean[static_cast<std::size_t>(channel)] = static_cast<float>(mean);
    data.deviation[static_cast<std::size_t>(channel)] =
        static_cast<float>(std::sqrt(std::max(variance, 1.0)));
  }
}

void mix(std::uint64_t& digest, const std::vector<std::uint8_t>& bytes) {
  const auto absorb = [&digest](std::uint64_t word) {
    digest = (digest ^ word) * 0x9E3779B97F4A7C15u;
    digest ^= digest >> 32;
  };
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data() + i, 8);
    absorb(word);
  }
  for (; i < bytes.size(); ++i) absorb(bytes[i]);
  absorb(bytes.size());
}

void cut(Images& images, std::int64_t size) {
  images.pixels.resize(static_cast<std::size_t>(size * images.image_bytes()));
  images.labels.resize(static_cast<std::size_t>(size));
}

}  // namespace

Dataset load_dataset(const TrainOptions& options) {
  Dataset data;
  if (options.data_name() == "builtin") {
    const std::int64_t size = options.samples > 0 ? options.samples : kBuiltinTrain;
    data = make_builtin(options.data_seed, size, kBuiltinTest);
  } else if (options.data_name() == "cifar10") {
    data = read_cifar10(options.data_directory());
  } else {
    data = read_cifar100(options.data_directory());
  }
  if (options.samples > data.train.size()) {
    throw UsageError("--samples: must be at most the data's " + std::to_string(data.train.size()) +
                     " training samples, got '" + std::to_string(options.samples) + "'");
  }
  if (options.samples > 0) cut(data.train, options.samples);
  if (data.train.size() < options.batch_size) {
    throw UsageError("--batch-size: must be at most the " + std::to_string(data.train.size()) +
                     " training samples, got '" + std::to_string(options.batch_size) + "'");
  }
  measure_channels(data);
  for (const Images* images : {&data.train, &data.test}) {
    mix(data.digest, images->pixels);
    mix(data.digest, images->labels);
  }
  return data;
}

}  // namespace infobatch::train
