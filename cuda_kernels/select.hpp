#pragma once

#include <cuda_kernels/device.hpp>
#include <infobatch/detail/classifier.hpp>
#include <infobatch/detail/draw_cut.hpp>

#include <cstdint>

namespace infobatch::cuda {

/// The cut that exactly `wanted` of the members lie before: infobatch::select_smallest_draws(). The
/// members are the samples of [0, n) of class `class_id`.
/// @param classifier  its arrays on the device.
/// @note Waits once, and again where the draws are not where they are expected.
DrawCut select_smallest_draws(Work& work,
                              const Classifier& classifier,
                              std::uint8_t class_id,
                              std::int64_t n,
                              std::int64_t members,
                              std::int64_t wanted,
                              std::uint64_t seed,
                              std::uint32_t epoch,
                              std::uint32_t stream);

/// The cut that exactly `rank` samples with a key lie before: infobatch::select_rank().
/// @param key   its columns on the device.
/// @param pool  only its samples count; nullptr: all do.
/// @note Waits three times; two histograms of 65,536 numbers come to the host.
RankCut select_rank(Work& work,
                    const Key& key,
                    const Pool* pool,
                    std::int64_t n,
                    std::int64_t rank,
                    std::uint64_t seed,
                    std::uint32_t epoch);

}  // namespace infobatch::cuda
