#pragma once

#include <infobatch/detail/buffer.hpp>
#include <infobatch/detail/keep.hpp>
#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/streams.hpp>
#include <infobatch/detail/threads.hpp>
#include <infobatch/host_device.hpp>

#include <cstdint>

// The order of a plan (rule 8): Rao-Sandelius shuffle of the kept ids, ascending at first.
//
// K kept ids are parted into 2^bits buckets, in one or two levels, by independent uniform draws;
// the parts of a level keep their order. Then each bucket is shuffled by Fisher-Yates. The buckets
// one after the other are the plan. Every draw is keyed by a position, so the result is a pure
// function of (seed, epoch, kept ids), and every permutation is equally likely:
//
//   level 1   the draw of the item at position p of the kept list is draw p of the stream
//             kStreamBucket1: the sliced draw where bits1 <= 2, byte p where bits1 <= 8, else half
//             word p; its top bits1 bits are the part;
//   level 2   the same with the position after level 1, kStreamBucket2 and bits2;
//   bucket    with first position s and size n: for i = n-1 down to 1 swap items i and j, where
//             j = swap_index(seed, epoch, s + i, i + 1).

namespace infobatch {
namespace detail {

/// The constants of the shuffle; part of the rule, so other values make other plans.
///
/// Few large buckets suit a small plan best: they lie in the L2 cache of a CPU. In a large plan a
/// bucket just fits the shared memory of a GPU (4 bytes an item: 192 KiB).
struct ShuffleConstants {
  std::int64_t large_bucket = std::int64_t{1} << 18;  ///< largest average size of a large bucket
  int large_bucket_bits = 2;                          ///< large ones are at most 2^this many
  std::int64_t bucket = 49152;                        ///< largest average size beyond
  int bits1 = 8;         ///< of level 1 then: fewer parts do not make a partition faster
  int fewest_bits2 = 5;  ///< of level 2, where there is one
  int most_bits2 = 16;   ///< of level 2; level 1 takes what is more
  /// Not part of the rule: a part of level 2 gets slots for its average size and this many
  /// deviations more, and items are counted beforehand only where that was not enough.
  int slack_deviations = 8;
};

/// Bits of the two levels; 0 where there is no such level.
struct ShuffleShape {
  int bits1 = 0;
  int bits2 = 0;
};

/// The fewest bits that make 2^bits buckets of at most this average size.
constexpr int bucket_bits(std::int64_t kept, std::int64_t bucket) {
  int bits = 0;
  while (kept >> bits > bucket) ++bits;
  return bits;
}

/// The levels for K kept items, a function of K alone: level 1 alone where large buckets will do or
/// where its bits make small enough buckets; otherwise level 2 takes the rest.
constexpr ShuffleShape shuffle_shape(std::int64_t kept, const ShuffleConstants& constants = {}) {
  const int few = bucket_bits(kept, constants.large_bucket);
  if (few <= constants.large_bucket_bits) return {few, 0};
  const int bits = bucket_bits(kept, constants.bucket);
  if (bits <= constants.bits1) return {constants.bits1, 0};
  const int rest = bits - constants.bits1;
  if (rest > constants.most_bits2) return {bits - constants.most_bits2, constants.most_bits2};
  return {constants.bits1, rest < constants.fewest_bits2 ? constants.fewest_bits2 : rest};
}

/// A uniform integer of [0, bound) for the item at `position`, made from word `position` of the
/// stream kStreamSwap: the high half of word * bound, rejected where the low half is below
/// 2^32 mod bound; then words 256 position, 256 position + 1, ... of kStreamSwapRetry serve.
///
/// @source Lemire, Fast random integer generation in an interval, TOMACS 2019 (arXiv 1805.10941).
INFOBATCH_HD inline std::uint32_t swap_index(std::uint64_t seed,
                                             std::uint32_t epoch,
                                             std::uint64_t position,
                                             std::uint32_t bound,
                                             std::uint32_t word) {
  std::uint64_t product = std::uint64_t{word} * bound;
  if (static_cast<std::uint32_t>(product) < bound) {
    const std::uint32_t rejected = (0u - bound) % bound;
    for (std::uint64_t attempt = 0; static_cast<std::uint32_t>(product) < rejected; ++attempt) {
      word = random_word(seed, epoch, kStreamSwapRetry, 256 * position + attempt);
      product = std::uint64_t{word} * bound;
    }
  }
  return static_cast<std::uint32_t>(product >> 32);
}

/// The arrays that a plan is made of, while it is made. Items are id | class << id_bits, and lie in
/// the memory of the result: two of them in the place of an id, one in that of a weight.
struct ShuffleArrays {
  std::uint32_t* kept;        ///< the runs of kept items, in `ids` or in `weights`
  std::uint32_t* scatter;     ///< K slots, in `weights`
  std::int64_t* ids;          ///< [K] result
  float* weights;             ///< [K] result
  int id_bits;                ///< where the class begins in an item
  const float* class_weight;  ///< [16] weight of each class
};

/// Shuffles the kept items into ids and weights. They lie in the memory of `ids`, or, where there
/// is one run and no more than constants.large_bucket items, in that of `weights`, which saves a
/// copy.
void shuffle_items(const KeptRuns& kept,
                   const ShuffleArrays& arrays,
                   std::uint64_t seed,
                   std::uint32_t epoch,
                   Team& team,
                   const ShuffleConstants& constants = {});

}  // namespace detail
}  // namespace infobatch
