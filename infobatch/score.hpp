#pragma once

#include <infobatch/host_device.hpp>

#include <cstdint>
#include <cstring>

namespace infobatch {

/// A score is a finite float32, or one of two reserved NaN patterns. Patterns are told apart by
/// their bits, never by arithmetic.
constexpr std::uint32_t kNeverObservedBits = 0x7fc00001u;  ///< no finite loss was ever observed
constexpr std::uint32_t kUnseenBits = 0x7fc00002u;         ///< staged: this epoch did not get here

INFOBATCH_HD inline std::uint32_t float_bits(float value) {
  std::uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
INFOBATCH_HD inline float bits_float(std::uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

INFOBATCH_HD inline float never_observed() { return bits_float(kNeverObservedBits); }
INFOBATCH_HD inline float unseen() { return bits_float(kUnseenBits); }
INFOBATCH_HD inline bool is_unseen(float value) { return float_bits(value) == kUnseenBits; }

/// Neither NaN nor infinite.
INFOBATCH_HD inline bool is_finite(float value) {
  return (float_bits(value) & 0x7f800000u) != 0x7f800000u;
}

/// Rule 10: the score that a loss leaves behind.
INFOBATCH_HD inline float score_of_loss(float loss) {
  return is_finite(loss) ? loss : never_observed();
}

}  // namespace infobatch
