#pragma once

// Warp operations. The lanes of a mask meet in one operation and see what each of them brought. All
// of them must come, with that very mask: a lane of the mask that has ended is refused, although
// the hardware goes on without it.
#include <tests/cuda/sim/barriers.hpp>
#include <tests/cuda/sim/position.hpp>

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace sim::detail {

/// Slot l of the result holds what lane l brought, until the lane's next operation.
const std::uint64_t* meet_warp(unsigned mask, std::uint64_t value, const char* file, int line);
[[noreturn]] void fail(const char* what, const char* file, int line);

/// The type in which CUDA carries a T through a warp: small integers become int.
template <typename T>
using Carried = decltype(+T{});

template <typename T>
std::uint64_t to_bits(T value) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "warp operations carry numbers of 4 and 8 bytes");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <typename T>
T from_bits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// The value of lane `source`, which must be in the mask.
template <typename T>
T shuffle(unsigned mask, T value, unsigned source, const char* file, int line) {
  const std::uint64_t* all = meet_warp(mask, to_bits(value), file, line);
  if (source >= 32 || (mask >> source & 1U) == 0) {
    fail("a shuffle reads a lane outside its mask", file, line);
  }
  return from_bits<T>(all[source]);
}
/// The lanes whose bits satisfy `of_value`.
template <typename Predicate>
unsigned vote(unsigned mask, std::uint64_t value, Predicate of_value, const char* file, int line) {
  const std::uint64_t* all = meet_warp(mask, value, file, line);
  unsigned lanes = 0;
  for (unsigned l = 0; l < 32; ++l) {
    if ((mask >> l & 1U) != 0 && of_value(all[l])) lanes |= 1U << l;
  }
  return lanes;
}
/// @throws Fault  `width` is not 1, 2, 4, 8, 16 or 32.
inline unsigned checked_width(int width, const char* file, int line) {
  const auto w = static_cast<unsigned>(width);
  if (w == 0 || w > 32 || (w & (w - 1)) != 0) fail("the width of a shuffle", file, line);
  return w;
}

}  // namespace sim::detail

constexpr int warpSize = 32;

inline void __syncwarp(unsigned mask = 0xFFFFFFFFU, INFOBATCH_SIM_CALLER) {
  (void)sim::detail::meet_warp(mask, 0, file, line);
}
template <typename T>
sim::detail::Carried<T> __shfl_sync(
    unsigned mask, T value, int source, int width = 32, INFOBATCH_SIM_CALLER) {
  const unsigned w = sim::detail::checked_width(width, file, line), lane = sim::here().lane;
  return sim::detail::shuffle(
      mask, +value, (lane & ~(w - 1)) | (static_cast<unsigned>(source) & (w - 1)), file, line);
}
template <typename T>
sim::detail::Carried<T> __shfl_up_sync(
    unsigned mask, T value, unsigned delta, int width = 32, INFOBATCH_SIM_CALLER) {
  const unsigned w = sim::detail::checked_width(width, file, line), lane = sim::here().lane;
  const unsigned source = (lane & (w - 1)) < delta ? lane : lane - delta;
  return sim::detail::shuffle(mask, +value, source, file, line);
}
template <typename T>
sim::detail::Carried<T> __shfl_down_sync(
    unsigned mask, T value, unsigned delta, int width = 32, INFOBATCH_SIM_CALLER) {
  const unsigned w = sim::detail::checked_width(width, file, line), lane = sim::here().lane;
  const unsigned source = delta >= w || (lane & (w - 1)) + delta >= w ? lane : lane + delta;
  return sim::detail::shuffle(mask, +value, source, file, line);
}
template <typename T>
sim::detail::Carried<T> __shfl_xor_sync(
    unsigned mask, T value, int lanes, int width = 32, INFOBATCH_SIM_CALLER) {
  const unsigned w = sim::detail::checked_width(width, file, line), lane = sim::here().lane;
  const unsigned source = lane ^ static_cast<unsigned>(lanes);
  return sim::detail::shuffle(mask, +value, source > (lane | (w - 1)) ? lane : source, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, INFOBATCH_SIM_CALLER) {
  return sim::detail::vote(
      mask, predicate != 0, [](std::uint64_t v) { return v != 0; }, file, line);
}
inline int __any_sync(unsigned mask, int predicate, INFOBATCH_SIM_CALLER) {
  return __ballot_sync(mask, predicate, file, line) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int predicate, INFOBATCH_SIM_CALLER) {
  return __ballot_sync(mask, predicate, file, line) == mask ? 1 : 0;
}
template <typename T>
unsigned __match_any_sync(unsigned mask, T value, INFOBATCH_SIM_CALLER) {
  const std::uint64_t mine = sim::detail::to_bits(+value);
  return sim::detail::vote(
      mask, mine, [mine](std::uint64_t v) { return v == mine; }, file, line);
}
