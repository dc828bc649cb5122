#pragma once

#include <infobatch/detail/kernels.hpp>

#include <vector>

namespace infobatch {
namespace testing {

/// The instruction sets that this machine runs, the portable code first.
inline std::vector<detail::SimdLevel> simd_levels() {
  std::vector<detail::SimdLevel> levels{detail::SimdLevel::kPortable};
  if (detail::avx2_kernels() != nullptr) levels.push_back(detail::SimdLevel::kAvx2);
  if (detail::avx512_kernels() != nullptr) levels.push_back(detail::SimdLevel::kAvx512);
  return levels;
}

/// Uses one instruction set as long as it lives.
class WithLevel {
 public:
  explicit WithLevel(detail::SimdLevel level) { detail::set_simd_level(level); }
  ~WithLevel() { detail::set_simd_level(detail::SimdLevel::kAvx512); }
  WithLevel(const WithLevel&) = delete;
  WithLevel& operator=(const WithLevel&) = delete;
};

/// |z| beyond this has a probability of 1e-6, both sides together.
constexpr double kLargestZ = 4.89;

}  // namespace testing
}  // namespace infobatch
