#pragma once

#include <cuda_kernels/device.hpp>

#include <cstddef>
#include <cstdint>

// Algorithms over a whole device, and nothing else of CUB: under emulation a twin of a few lines.

#if !defined(INFOBATCH_CUDA_EMULATED)
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#else
#include <algorithm>
#include <numeric>
#include <vector>
#endif

namespace infobatch::cuda {

#if !defined(INFOBATCH_CUDA_EMULATED)

/// sums[i] = counts[0] + ... + counts[i - 1], for i in [0, n).
inline void exclusive_sum(Work& work,
                          const std::uint32_t* counts,
                          std::int64_t* sums,
                          std::int64_t n) {
  std::size_t bytes = 0;
  const auto scan = [&](void* scratch) {
    require(cub::DeviceScan::ExclusiveScan(scratch,
                                           bytes,
                                           counts,
                                           sums,
                                           ::cuda::std::plus<std::int64_t>{},
                                           std::int64_t{0},
                                           n,
                                           work.stream()),
            "DeviceScan");
  };
  scan(nullptr);
  void* const scratch = work.make<char>(static_cast<std::int64_t>(bytes));
  scan(scratch);
  work.give_back(scratch);
}

/// Sorts (key, item) by the low `bits` bits of the key; what is equal keeps its order.
template <typename Key>
void sort_pairs(Work& work,
                const Key* keys,
                Key* sorted_keys,
                const std::uint32_t* items,
                std::uint32_t* sorted_items,
                std::int64_t n,
                int bits) {
  std::size_t bytes = 0;
  const auto sort = [&](void* scratch) {
    require(cub::DeviceRadixSort::SortPairs(
                scratch, bytes, keys, sorted_keys, items, sorted_items, n, 0, bits, work.stream()),
            "DeviceRadixSort");
  };
  sort(nullptr);
  void* const scratch = work.make<char>(static_cast<std::int64_t>(bytes));
  sort(scratch);
  work.give_back(scratch);
}

#else

inline void exclusive_sum(Work& work,
                          const std::uint32_t* counts,
                          std::int64_t* sums,
                          std::int64_t n) {
  sim::enqueue("exclusive_sum", work.stream(), [=] {
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      sums[i] = sum;
      sum += counts[i];
    }
  });
  require(cudaGetLastError(), "exclusive_sum");
}

template <typename Key>
void sort_pairs(Work& work,
                const Key* keys,
                Key* sorted_keys,
                const std::uint32_t* items,
                std::uint32_t* sorted_items,
                std::int64_t n,
                int bits) {
  sim::enqueue("sort_pairs", work.stream(), [=] {
    const auto mask = static_cast<Key>((std::uint64_t{1} << bits) - 1);
    std::vector<std::int64_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
      return (keys[a] & mask) < (keys[b] & mask);
    });
    for (std::int64_t i = 0; i < n; ++i) {
      sorted_keys[i] = keys[order[static_cast<std::size_t>(i)]];
      sorted_items[i] = items[order[static_cast<std::size_t>(i)]];
    }
  });
  require(cudaGetLastError(), "sort_pairs");
}

#endif

}  // namespace infobatch::cuda
