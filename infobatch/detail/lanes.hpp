#pragma once

#include <infobatch/detail/kernels.hpp>

#include <cstdint>

// Lane masks without vector intrinsics. The functions are static: files of different instruction
// sets each compile their own, with their own bit instructions.

namespace infobatch {
namespace detail {
namespace lanes {

constexpr int kGroupWords = 32;  // words of lanes, and of a plane, in a group of 2048 draws
constexpr int kPlaneWords = 64;  // 32-bit words of a plane
constexpr int kPlanesAtOnce = 4;

static inline std::int64_t count(const std::uint64_t* lanes, int n_words) {
  std::int64_t bits = 0;
  for (int w = 0; w < n_words; ++w) bits += __builtin_popcountll(lanes[w]);
  return bits;
}

/// One bit of the comparison draw < bound in all lanes: `open` are the lanes whose leading bits
/// equal those of the bound. Returns the lanes that stay open, united.
static inline std::uint64_t compare_plane(const std::uint32_t* plane,
                                          bool bit,
                                          std::uint64_t* __restrict open,
                                          std::uint64_t* __restrict below) {
  const std::uint64_t bits = bit ? ~std::uint64_t{0} : 0;
  std::uint64_t any = 0;
  for (int w = 0; w < kGroupWords; ++w) {
    std::uint64_t draws;
    __builtin_memcpy(&draws, plane + 2 * w, sizeof(draws));
    below[w] |= open[w] & ~draws & bits;
    open[w] &= ~(draws ^ bits);
    any |= open[w];
  }
  return any;
}

/// Kernels::draws_below with the words of `fill` (Kernels::fill_words).
template <typename Fill>
static inline int draws_below(const Fill& fill,
                              std::uint64_t seed,
                              std::uint32_t epoch,
                              std::uint32_t stream,
                              std::uint64_t group,
                              std::uint32_t bound,
                              std::uint64_t* lanes) {
  alignas(64) std::uint32_t planes[kPlanesAtOnce * kPlaneWords];
  alignas(64) std::uint64_t below[kGroupWords] = {};
  // Where the draw equals the bound up to the last bit that is set, it is not below.
  const int n_planes = 32 - __builtin_ctz(bound);
  std::uint64_t open = ~std::uint64_t{0};
  for (int plane = 0; plane < n_planes && open != 0; plane += kPlanesAtOnce) {
    const int made = n_planes - plane < kPlanesAtOnce ? n_planes - plane : kPlanesAtOnce;
    fill(seed, epoch, stream, 32 * group + static_cast<unsigned>(plane), made, planes);
    for (int k = 0; k < made; ++k) {
      const bool bit = (bound >> (31 - plane - k) & 1u) != 0;
      open = compare_plane(planes + kPlaneWords * k, bit, lanes, below);
    }
  }
  __builtin_memcpy(lanes, below, sizeof(below));
  return static_cast<int>(count(lanes, kGroupWords));
}

/// Kernels::class_lanes.
static inline int class_lanes(const std::uint8_t* classes,
                              int count,
                              std::uint8_t c,
                              std::uint64_t* lanes) {
  int members = 0;
  for (int i = 0; i < count; i += kLaneWord) {
    const int size = count - i < kLaneWord ? count - i : kLaneWord;
    std::uint64_t word = 0;
    for (int k = 0; k < size; ++k) word |= std::uint64_t{classes[i + k] == c} << k;
    lanes[i / kLaneWord] = word;
    members += __builtin_popcountll(word);
  }
  return members;
}

/// Kernels::append_items.
static inline int append_items(const std::uint64_t* lanes,
                               const std::uint8_t* classes,
                               int count,
                               std::uint32_t first_id,
                               int id_bits,
                               std::uint32_t* out) {
  std::uint32_t* const begin = out;
  for (int i = 0; i < count; i += kLaneWord) {
    for (std::uint64_t word = lanes[i / kLaneWord]; word != 0; word &= word - 1) {
      const int k = i + __builtin_ctzll(word);
      *out++ = (first_id + static_cast<std::uint32_t>(k)) |
               static_cast<std::uint32_t>(std::uint64_t{classes[k]} << id_bits);
    }
  }
  return static_cast<int>(out - begin);
}

/// Kernels::emit for the items [begin, end), one by one.
static inline void emit_range(const std::uint32_t* items,
                              std::int64_t begin,
                              std::int64_t end,
                              int id_bits,
                              const float* class_weight,
                              std::int64_t* ids,
                              float* weights) {
  const std::uint32_t mask = (1u << id_bits) - 1u;
  for (std::int64_t i = begin; i < end; ++i) {
    std::uint32_t item;  // whose memory may be that of its weight
    __builtin_memcpy(&item, items + i, sizeof(item));
    ids[i] = item & mask;
    const float weight = class_weight[item >> id_bits];
    __builtin_memcpy(weights + i, &weight, sizeof(weight));
  }
}

/// The first of `count` items whose id and weight both begin a vector of `width` bytes, to be
/// written past the caches; `count` if there is none.
static inline std::int64_t first_aligned(const std::int64_t* ids,
                                         const float* weights,
                                         std::int64_t count,
                                         std::uintptr_t width) {
  std::int64_t i = 0;
  while (i < count && ((reinterpret_cast<std::uintptr_t>(ids + i) |
                        reinterpret_cast<std::uintptr_t>(weights + i)) &
                       (width - 1)) != 0) {
    ++i;
  }
  return i;
}

/// Kernels::scatter_few.
static inline void scatter_few(const std::uint64_t* lanes,
                               int n_words,
                               int parts,
                               const std::uint32_t* items,
                               std::uint32_t** out) {
  for (int part = 0; part < parts; ++part) {
    std::uint32_t* slot = out[part];
    for (int w = 0; w < n_words; ++w) {
      const std::uint32_t* const from = items + kLaneWord * w;
      for (std::uint64_t word = lanes[n_words * part + w]; word != 0; word &= word - 1) {
        *slot++ = from[__builtin_ctzll(word)];
      }
    }
    out[part] = slot;
  }
}

}  // namespace lanes
}  // namespace detail
}  // namespace infobatch
