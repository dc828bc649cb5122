#include <infobatch/detail/kernels.hpp>

#include <atomic>

namespace infobatch {
namespace detail {
namespace {

const Kernels* kernels_of(SimdLevel level) {
  switch (level) {
    case SimdLevel::kAvx512:
      return avx512_kernels();
    case SimdLevel::kAvx2:
      return avx2_kernels();
    case SimdLevel::kPortable:
      break;
  }
  return portable_kernels();
}

SimdLevel best_up_to(SimdLevel level) {
  while (kernels_of(level) == nullptr) {
    level = static_cast<SimdLevel>(static_cast<int>(level) - 1);
  }
  return level;
}

std::atomic<const Kernels*>& current() {
  static std::atomic<const Kernels*> kernels{kernels_of(best_simd_level())};
  return kernels;
}

}  // namespace

SimdLevel best_simd_level() { return best_up_to(SimdLevel::kAvx512); }

const Kernels& kernels() { return *current().load(std::memory_order_relaxed); }

SimdLevel set_simd_level(SimdLevel level) {
  level = best_up_to(level);
  current().store(kernels_of(level), std::memory_order_relaxed);
  return level;
}

}  // namespace detail
}  // namespace infobatch
