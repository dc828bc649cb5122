#pragma once

#include <cuda_kernels/device.hpp>
#include <infobatch/detail/plan_builder.hpp>
#include <infobatch/detail/shuffle.hpp>

namespace infobatch::cuda {

/// Keeps, weighs and shuffles what detail::check_plan() found to be right, as detail::fill_plan()
/// does: the same plan to the bit.
///
/// @param task    the arrays of its classifier on the device.
/// @param memory  on the device.
/// @throws InvalidArgument  a class number at or above the number of classes; std::bad_alloc,
///                          CudaError.
/// @note Waits once where every sample is kept on its own; where numbers are kept exactly, once
///       more for the counts and at least once for each class that is cut.
detail::PlanOutcome fill_plan(Work& work,
                              const detail::PlanTask& task,
                              const detail::ShuffleConstants& constants,
                              const detail::PlanMemory& memory);

}  // namespace infobatch::cuda
