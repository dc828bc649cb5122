#pragma once

#include <cuda_kernels/device.hpp>
#include <infobatch/detail/classifier.hpp>
#include <infobatch/detail/keep.hpp>
#include <infobatch/detail/plan_builder.hpp>

#include <cstdint>
#include <vector>

namespace infobatch::cuda {

/// members[c], c in [0, n_classes): how many of the samples [0, n) are of class c.
/// @param classifier  its arrays on the device.
/// @throws InvalidArgument  a class number at or above n_classes.
/// @note Waits once.
void count_members(
    Work& work, const Classifier& classifier, std::int64_t n, int n_classes, std::int64_t* members);

/// The kept samples of an epoch, on the device.
struct KeptItems {
  std::uint32_t* items = nullptr;  ///< [size] id | class << id_bits, by ascending id
  std::int64_t size = 0;
};

/// Keeps samples of [0, n), as detail::keep_samples() does, and sets members and kept of `counts`.
/// @throws InvalidArgument  a class number at or above rules.size().
/// @note Waits once, for the number of the kept. Reads the columns once.
KeptItems keep_samples(Work& work,
                       std::int64_t n,
                       std::uint64_t seed,
                       std::uint32_t epoch,
                       const Classifier& classifier,
                       const std::vector<detail::ClassRule>& rules,
                       int id_bits,
                       KeptCounts& counts);

}  // namespace infobatch::cuda
