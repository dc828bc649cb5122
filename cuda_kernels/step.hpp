#pragma once

#include <cuda_kernels/port.hpp>
#include <infobatch/detail/step_functions.hpp>

#include <cstddef>
#include <cstdint>

// The kernels behind detail::StepFunctions, whose comments say what each does. All throw CudaError
// where a launch is refused.

namespace infobatch::cuda {

using detail::LossType;
using detail::StepByIds;
using detail::StepInOrder;
using detail::StepReduction;
using detail::StepResult;
using detail::StepRows;

std::size_t step_scratch(const StepRows& rows);

void step_in_order(const StepRows& rows,
                   const StepInOrder& place,
                   const StepReduction& reduction,
                   const StepResult& result,
                   cudaStream_t stream);
void step_by_ids(const StepRows& rows,
                 const StepByIds& place,
                 const StepReduction& reduction,
                 const StepResult& result,
                 cudaStream_t stream);
void step_backward(const StepRows& shape,
                   const void* given,
                   const double* scale,
                   const float* row_weights,
                   void* gradient,
                   cudaStream_t stream);
void scale_rows(const StepRows& rows,
                const float* row_weights,
                void* out,
                LossType out_type,
                cudaStream_t stream);
void row_scores(const StepRows& rows, float* scores, cudaStream_t stream);
void weights_of_ids(const StepByIds& place, std::int64_t rows, float* out, cudaStream_t stream);

/// All of them, for other libraries.
const detail::StepFunctions& step_functions();

}  // namespace infobatch::cuda
