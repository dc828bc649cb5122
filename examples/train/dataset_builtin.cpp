#include <examples/train/dataset_builtin.hpp>
#include <infobatch/detail/philox.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace infobatch::train {
namespace {

constexpr int kSide = 32;
constexpr int kClasses = 10;
constexpr int kBlobs = 4;
constexpr float kTau = 6.28318530718f;

/// What draws are for: a coordinate of Philox beside seed and item.
enum Part : std::uint32_t { kPrototypes = 0, kTrain = 1, kTest = 2 };

/// Uniform draws one after another, keyed by (seed, part, item).
class Draws {
 public:
  Draws(std::uint64_t seed, Part part, std::uint64_t item)
      : seed_(seed), part_(part), item_(item) {}

  std::uint32_t word() {
    if (used_ == 4) {
      const auto low = static_cast<std::uint32_t>(item_);
      const auto high = static_cast<std::uint32_t>(item_ >> 32);
      words_ = philox4x32_10({{low, high, call_++, part_}},
                             static_cast<std::uint32_t>(seed_),
                             static_cast<std::uint32_t>(seed_ >> 32));
      used_ = 0;
    }
    return words_.word[used_++];
  }
  /// Uniform in [low, high).
  float uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(word() >> 8) * 0x1p-24f;
  }
  int below(int count) {
    return static_cast<int>(std::uint64_t{word()} * static_cast<std::uint64_t>(count) >> 32);
  }

 private:
  std::uint64_t seed_;
  std::uint32_t part_;
  std::uint64_t item_;
  std::uint32_t call_ = 0;
  PhiloxWords words_{};
  int used_ = 4;
};

using Colour = std::array<float, 3>;

struct Blob {
  float x, y, radius;
  Colour colour;
};

/// A class: blobs on stripes. Coordinates in [-1, 1].
struct Prototype {
  std::array<Blob, kBlobs> blobs;
  float stripe_x, stripe_y, stripe_phase;
  Colour stripe;
};

Colour draw_colour(Draws& draws, float strength) {
  return {draws.uniform(-strength, strength),
          draws.uniform(-strength, strength),
          draws.uniform(-strength, strength)};
}

Prototype draw_prototype(std::uint64_t seed, int label) {
  Draws draws(seed, kPrototypes, static_cast<std::uint64_t>(label));
  Prototype prototype{};
  for (Blob& blob : prototype.blobs) {
    blob.x = draws.uniform(-0.6f, 0.6f);
    blob.y = draws.uniform(-0.6f, 0.6f);
    blob.radius = draws.uniform(0.15f, 0.4f);
    blob.colour = draw_colour(draws, 0.9f);
  }
  const float angle = draws.uniform(0.0f, kTau / 2);
  const float frequency = draws.uniform(1.0f, 2.5f);
  prototype.stripe_x = frequency * std::cos(angle);
  prototype.stripe_y = frequency * std::sin(angle);
  prototype.stripe_phase = draws.uniform(0.0f, kTau);
  prototype.stripe = draw_colour(draws, 0.35f);
  return prototype;
}

/// Colours of a class at every pixel, moved, turned and scaled.
using Canvas = std::array<Colour, kSide * kSide>;

void paint(
    const Prototype& prototype, Draws& draws, float difficulty, float amount, Canvas& canvas) {
  const float angle = draws.uniform(-0.5f, 0.5f) * difficulty;
  const float scale = 1.0f + draws.uniform(-0.35f, 0.35f) * difficulty;
  const float shift_x = draws.uniform(-0.45f, 0.45f) * difficulty;
  const float shift_y = draws.uniform(-0.45f, 0.45f) * difficulty;
  const float cosine = std::cos(angle) * scale;
  const float sine = std::sin(angle) * scale;
  std::array<Colour, kBlobs> colours;
  for (int b = 0; b < kBlobs; ++b) {
    const Colour change = draw_colour(draws, 0.5f * difficulty);
    for (std::size_t c = 0; c < 3; ++c) {
      colours[static_cast<std::size_t>(b)][c] =
          prototype.blobs[static_cast<std::size_t>(b)].colour[c] + change[c];
    }
  }
  for (int row = 0; row < kSide; ++row) {
    for (int column = 0; column < kSide; ++column) {
      const float px = (static_cast<float>(column) + 0.5f) * 2.0f / kSide - 1.0f - shift_x;
      const float py = (static_cast<float>(row) + 0.5f) * 2.0f / kSide - 1.0f - shift_y;
      const float x = cosine * px - sine * py;
      const float y = sine * px + cosine * py;
      const float wave = std::sin(kTau * (prototype.stripe_x * x + prototype.stripe_y * y) / 2 +
                                  prototype.stripe_phase);
      Colour colour;
      for (std::size_t c = 0; c < 3; ++c) colour[c] = prototype.stripe[c] * wave;
      for (std::size_t b = 0; b < kBlobs; ++b) {
        const Blob& blob = prototype.blobs[b];
        const float dx = (x - blob.x) / blob.radius;
        const float dy = (y - blob.y) / blob.radius;
        const float fall = 1.0f / (1.0f + dx * dx + dy * dy);
        for (std::size_t c = 0; c < 3; ++c) colour[c] += colours[b][c] * fall * fall;
      }
      Colour& target = canvas[static_cast<std::size_t>(row * kSide + column)];
      for (std::size_t c = 0; c < 3; ++c) target[c] += amount * colour[c];
    }
  }
}

/// A rectangle of one colour over a part of the image.
void cover(Draws& draws, float difficulty, Canvas& canvas) {
  const int height = static_cast<int>(draws.uniform(0.3f, 0.8f) * difficulty * kSide);
  const int width = static_cast<int>(draws.uniform(0.3f, 0.8f) * difficulty * kSide);
  const int top = draws.below(kSide - height + 1);
  const int left = draws.below(kSide - width + 1);
  const Colour colour = draw_colour(draws, 0.8f);
  for (int row = top; row < top + height; ++row) {
    for (int column = left; column < left + width; ++column) {
      canvas[static_cast<std::size_t>(row * kSide + column)] = colour;
    }
  }
}

/// Noise of nearly normal distribution (the sum of four uniform bytes), then 8 bits.
void develop(Draws& draws, float noise, const Canvas& canvas, std::uint8_t* pixels) {
  for (std::size_t channel = 0; channel < 3; ++channel) {
    for (std::size_t k = 0; k < canvas.size(); ++k) {
      const std::uint32_t word = draws.word();
      const int sum =
          static_cast<int>((word & 255) + (word >> 8 & 255) + (word >> 16 & 255) + (word >> 24));
      const float normal = static_cast<float>(sum - 510) / 148.0f;
      const float value = 128.0f + 90.0f * (canvas[k][channel] + noise * normal);
      pixels[channel * canvas.size() + k] =
          static_cast<std::uint8_t>(std::clamp(value, 0.0f, 255.0f));
    }
  }
}

Images make_images(std::uint64_t seed,
                   Part part,
                   std::int64_t size,
                   const std::array<Prototype, kClasses>& prototypes) {
  Images images;
  images.height = images.width = kSide;
  images.labels.resize(static_cast<std::size_t>(size));
  images.pixels.resize(static_cast<std::size_t>(size * images.image_bytes()));
  for (std::int64_t i = 0; i < size; ++i) {
    Draws draws(seed, part, static_cast<std::uint64_t>(i));
    const int label = draws.below(kClasses);
    const int other = (label + 1 + draws.below(kClasses - 1)) % kClasses;
    // The square puts most samples at the easy end.
    const float u = draws.uniform(0.0f, 1.0f);
    const float difficulty = 0.15f + 0.85f * u * u;
    const float blend = 0.48f * difficulty * draws.uniform(0.3f, 1.0f);
    Canvas canvas{};
    paint(prototypes[static_cast<std::size_t>(label)], draws, difficulty, 1.0f - blend, canvas);
    paint(prototypes[static_cast<std::size_t>(other)], draws, difficulty, blend, canvas);
    if (draws.uniform(0.0f, 1.0f) < difficulty) cover(draws, difficulty, canvas);
    images.labels[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(label);
    develop(
        draws, 0.15f + 0.9f * difficulty, canvas, images.pixels.data() + i * images.image_bytes());
  }
  return images;
}

}  // namespace

Dataset make_builtin(std::uint64_t seed, std::int64_t train_size, std::int64_t test_size) {
  std::array<Prototype, kClasses> prototypes;
  for (int label = 0; label < kClasses; ++label) {
    prototypes[static_cast<std::size_t>(label)] = draw_prototype(seed, label);
  }
  Dataset data;
  data.classes = kClasses;
  data.train = make_images(seed, kTrain, train_size, prototypes);
  data.test = make_images(seed, kTest, test_size, prototypes);
  return data;
}

}  // namespace infobatch::train
