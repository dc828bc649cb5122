#pragma once

#include <examples/train/dataset.hpp>

#include <cstdint>

namespace infobatch::train {

/// Ten classes of coloured 32 x 32 images, made in memory: a class is a few soft blobs and stripes,
/// and every sample shows them moved, scaled, recoloured, covered in part, mixed with another class
/// and under noise. How much of all that a sample gets is drawn per sample, from next to nothing
/// (most samples) to hardly recognisable (few), so losses spread as they do on real data.
///
/// A pure function of (seed, part, index): fewer samples are a prefix of more. Labels are right.
/// @note About 20 us a sample on one core.
Dataset make_builtin(std::uint64_t seed, std::int64_t train_size, std::int64_t test_size);

}  // namespace infobatch::train
