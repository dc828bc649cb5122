#pragma once

#include <cuda_kernels/device.hpp>
#include <infobatch/detail/exact_mean.hpp>

#include <cstdint>

namespace infobatch::cuda {

/// The exact sum and number of the values that are not NaN (rule 2): infobatch::sum_scores().
/// @param values  [n] on the device.
/// @note Reads 4 n bytes; waits once.
ScoreSum sum_scores(Work& work, const float* values, std::int64_t n);

}  // namespace infobatch::cuda
