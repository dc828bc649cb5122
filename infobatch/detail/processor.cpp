#include <infobatch/detail/kernels.hpp>

#include <cstdint>

// The processor is asked itself: what compilers offer for it (__builtin_cpu_supports) is a part of
// their run-time library, and that of Zig, which the wheels are made with, says no to everything.

#if defined(__x86_64__) || defined(__i386__)

#include <cpuid.h>

namespace infobatch {
namespace detail {
namespace {

constexpr std::uint32_t bit(int number) { return std::uint32_t{1} << number; }

// Leaf 1, ecx; leaf 7, ebx.
constexpr std::uint32_t kPopcnt = bit(23), kSystemSaves = bit(27), kAvx = bit(28);
constexpr std::uint32_t kAvx2 = bit(5), kBmi2 = bit(8);
constexpr std::uint32_t kAvx512 = bit(16) | bit(17) | bit(30) | bit(31);  // F, DQ, BW, VL
// Registers that the system saves when threads take turns: xmm and ymm; mask registers and zmm.
constexpr std::uint32_t kSavesAvx = 0x06, kSavesAvx512 = 0xE6;

bool has(std::uint32_t found, std::uint32_t wanted) { return (found & wanted) == wanted; }

/// The lower half of extended control register 0.
std::uint32_t saved_registers() {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

SimdLevel level_of_processor() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return SimdLevel::kPortable;
  if (!has(ecx, kPopcnt | kSystemSaves | kAvx)) return SimdLevel::kPortable;
  const std::uint32_t saved = saved_registers();
  if (!has(saved, kSavesAvx)) return SimdLevel::kPortable;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return SimdLevel::kPortable;
  if (!has(ebx, kAvx2 | kBmi2)) return SimdLevel::kPortable;
  return has(ebx, kAvx512) && has(saved, kSavesAvx512) ? SimdLevel::kAvx512 : SimdLevel::kAvx2;
}

}  // namespace

bool processor_runs(SimdLevel level) {
  static const SimdLevel best = level_of_processor();
  return level <= best;
}

}  // namespace detail
}  // namespace infobatch

#else

namespace infobatch {
namespace detail {

bool processor_runs(SimdLevel level) { return level == SimdLevel::kPortable; }

}  // namespace detail
}  // namespace infobatch

#endif
