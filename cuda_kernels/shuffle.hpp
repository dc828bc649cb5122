#pragma once

#include <cuda_kernels/device.hpp>
#include <infobatch/detail/epoch_rule.hpp>
#include <infobatch/detail/shuffle.hpp>

#include <cstdint>

namespace infobatch::cuda {

/// The weight of each class.
struct ClassWeights {
  float of[EpochRule::kMaxClasses];
};

/// Shuffles kept items into ids and weights (rule 8), as detail::shuffle_items() does.
///
/// @param items    [size] id | class << id_bits on the device, of `work`; given back.
/// @param ids      [size] on the device.
/// @param weights  [size] on the device.
/// @note Waits for nothing. Scratch of up to 20 bytes an item.
void shuffle_items(Work& work,
                   std::uint32_t* items,
                   std::int64_t size,
                   std::uint64_t seed,
                   std::uint32_t epoch,
                   int id_bits,
                   const ClassWeights& class_weights,
                   const detail::ShuffleConstants& constants,
                   std::int64_t* ids,
                   float* weights);

}  // namespace infobatch::cuda
