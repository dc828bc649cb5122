#pragma once

#include <infobatch/host_device.hpp>
#include <infobatch/score.hpp>

#include <cstdint>

// Half precision by its bits, so that no header of CUDA is needed for it, and the emulation
// computes what a device does.

namespace infobatch::cuda {

/// float16, as IEEE 754 has it.
struct Half {
  std::uint16_t bits;
};
/// bfloat16: the upper half of a float32.
struct Bfloat16 {
  std::uint16_t bits;
};

INFOBATCH_HD inline float to_float(Half half) {
  const std::uint32_t sign = std::uint32_t{half.bits & 0x8000u} << 16;
  const std::uint32_t magnitude = half.bits & 0x7FFFu;
  if (magnitude >= 0x7C00u) return bits_float(sign | 0x7F800000u | (magnitude & 0x3FFu) << 13);
  if (magnitude >= 0x400u) return bits_float(sign | ((magnitude << 13) + 0x38000000u));
  const float denormal = static_cast<float>(magnitude) * 5.9604644775390625e-8f;  // 2^-24: exact
  return bits_float(sign | float_bits(denormal));
}
INFOBATCH_HD inline float to_float(Bfloat16 value) {
  return bits_float(std::uint32_t{value.bits} << 16);
}
INFOBATCH_HD inline float to_float(float value) { return value; }

/// Rounded to nearest, ties to even.
INFOBATCH_HD inline Half to_half(float value) {
  const std::uint32_t bits = float_bits(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return {static_cast<std::uint16_t>(sign | 0x7E00u)};   // NaN
  if (magnitude >= 0x477FF000u) return {static_cast<std::uint16_t>(sign | 0x7C00u)};  // infinite
  if (magnitude < 0x38800000u) {
    // A denormal: adding 1/2 leaves its mantissa, rounded, in the lowest bits.
    const std::uint32_t sum = float_bits(bits_float(magnitude) + 0.5f);
    return {static_cast<std::uint16_t>(sign | (sum - 0x3F000000u))};
  }
  magnitude += 0xFFFu + (magnitude >> 13 & 1u);
  return {static_cast<std::uint16_t>(sign | (magnitude - 0x38000000u) >> 13)};
}
INFOBATCH_HD inline Bfloat16 to_bfloat16(float value) {
  std::uint32_t bits = float_bits(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return {0x7FC0u};
  bits += 0x7FFFu + (bits >> 16 & 1u);
  return {static_cast<std::uint16_t>(bits >> 16)};
}

}  // namespace infobatch::cuda
