#pragma once

#include <cuda_kernels/device.hpp>
#include <infobatch/session/fold.hpp>

#include <cstdint>

namespace infobatch::cuda {

/// Columns of a policy that a fold on a device takes.
constexpr int kMaxFoldColumns = 8;

/// Folds the losses of the ranges into the columns, as detail::fold() does.
/// @param rule    its array of columns on the host, their values on the device.
/// @param arrays  on the device.
/// @return how many losses were not finite.
/// @throws InvalidArgument  more columns than kMaxFoldColumns.
/// @note Waits once.
std::int64_t fold(Work& work,
                  const detail::FoldRule& rule,
                  const detail::FoldArrays& arrays,
                  const detail::FoldRanges& ranges);

/// Gives back what `fold` overwrote, and waits for it.
/// @return how many of the parts were taken back, the first ones; fewer than all where the device
///         refused one.
int unfold(Work& work,
           const detail::FoldRule& rule,
           const detail::FoldArrays& arrays,
           const detail::FoldRanges& ranges) noexcept;

}  // namespace infobatch::cuda
