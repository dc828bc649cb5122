#include <cuda_kernels/algorithms.hpp>
#include <cuda_kernels/shuffle.hpp>
#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/streams.hpp>
#include <infobatch/error.hpp>

// Fisher-Yates of a bucket, all places at once.
//
// Swap i (for i = n-1 down to 1) brings to place i what lies at place H[i] then. That is what the
// last swap before it left there: the smallest k > i with H[k] = H[i], whose own item had come from
// place k; and so on, until no swap had touched a place: then it is the item that was there at
// first. So each place finds its item by itself, once the swaps are listed by the place that they
// take from. A chain has one hop in the mean, and 17 at the most in 10^9.

namespace infobatch::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::uint32_t kNone = 0xFFFFFFFFu;

/// The bucket of each position: a level's part, or both levels' one behind the other.
template <typename Key>
struct Buckets {
  const Key* of;               ///< [size], ascending; nullptr: there is one bucket
  const std::int64_t* begins;  ///< by bucket

  __device__ std::int64_t begin(std::int64_t position) const {
    return of == nullptr ? 0 : begins[of[position]];
  }
};

/// keys[p]: the part of the item at position p, by the draw of the stream, behind that of the level
/// before.
template <typename Parent, typename Key>
__global__ void __launch_bounds__(kThreads) draw_parts(std::int64_t size,
                                                       std::uint64_t seed,
                                                       std::uint32_t epoch,
                                                       std::uint32_t stream,
                                                       int bits,
                                                       const Parent* INFOBATCH_RESTRICT parents,
                                                       Key* INFOBATCH_RESTRICT keys) {
  const std::int64_t p = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (p >= size) return;
  const auto position = static_cast<std::uint64_t>(p);
  std::uint32_t part;
  if (bits <= 2) {
    part = sliced_draw(seed, epoch, stream, position) >> (32 - bits);
  } else if (bits <= 8) {
    part = random_byte(seed, epoch, stream, position) >> (8 - bits);
  } else {
    part = random_half(seed, epoch, stream, position) >> (16 - bits);
  }
  const std::uint32_t parent = parents == nullptr ? 0 : parents[p];
  keys[p] = static_cast<Key>(parent << bits | part);
}

/// begins[b]: where the ascending keys reach b; of empty buckets, where the next one begins.
template <typename Key>
__global__ void __launch_bounds__(kThreads)
    find_begins(std::int64_t size, const Key* INFOBATCH_RESTRICT keys, std::int64_t* begins) {
  const std::int64_t p = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (p >= size) return;
  const int first = p == 0 ? 0 : static_cast<int>(keys[p - 1]) + 1;
  for (int b = first; b <= static_cast<int>(keys[p]); ++b) begins[b] = p;
}

__device__ inline std::uint32_t swap_target(std::uint64_t seed,
                                            std::uint32_t epoch,
                                            std::int64_t begin,
                                            std::uint32_t i) {
  const std::uint64_t position = static_cast<std::uint64_t>(begin) + i;
  const std::uint32_t word = random_word(seed, epoch, kStreamSwap, position);
  return detail::swap_index(seed, epoch, position, i + 1, word);
}

/// Lists the swaps of every place that they take from, in any order: heads[place] is the last that
/// came, next[swap] the one before it. Places and swaps count within their bucket, from where it
/// begins.
template <typename Key>
__global__ void __launch_bounds__(kThreads) list_swaps(Buckets<Key> buckets,
                                                       std::int64_t size,
                                                       std::uint64_t seed,
                                                       std::uint32_t epoch,
                                                       std::uint32_t* heads,
                                                       std::uint32_t* INFOBATCH_RESTRICT next) {
  const std::int64_t p = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (p >= size) return;
  const std::int64_t begin = buckets.begin(p);
  const auto i = static_cast<std::uint32_t>(p - begin);
  next[p] = atomicExch(&heads[begin + swap_target(seed, epoch, begin, i)], i);
}

/// The item of each place, by its chain of swaps; out come its id and its weight.
template <typename Key>
__global__ void __launch_bounds__(kThreads)
    follow_swaps(Buckets<Key> buckets,
                 std::int64_t size,
                 std::uint64_t seed,
                 std::uint32_t epoch,
                 const std::uint32_t* INFOBATCH_RESTRICT items,
                 const std::uint32_t* INFOBATCH_RESTRICT heads,
                 const std::uint32_t* INFOBATCH_RESTRICT next,
                 int id_bits,
                 const INFOBATCH_GRID_CONSTANT ClassWeights class_weights,
                 std::int64_t* INFOBATCH_RESTRICT ids,
                 float* INFOBATCH_RESTRICT weights) {
  const std::int64_t p = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (p >= size) return;
  const std::int64_t begin = buckets.begin(p);
  auto swap = static_cast<std::uint32_t>(p - begin);
  std::uint32_t place = swap_target(seed, epoch, begin, swap);
  for (;;) {
    std::uint32_t before = kNone;  // the swap that took from `place` just before this one
    for (std::uint32_t k = heads[begin + place]; k != kNone; k = next[begin + k]) {
      if (k > swap && k < before) before = k;
    }
    if (before == kNone) break;
    place = swap = before;
  }
  const std::uint32_t item = items[begin + place];
  ids[p] = static_cast<std::int64_t>(item & ((std::uint64_t{1} << id_bits) - 1));
  weights[p] = class_weights.of[std::uint64_t{item} >> id_bits];
}

/// What all steps of one shuffle share.
struct Shuffle {
  Work& work;
  std::int64_t size;
  std::uint64_t seed;
  std::uint32_t epoch;

  std::int64_t blocks() const { return blocks_for(size, kThreads); }

  /// Sorts the items by their keys, which become ascending, and gives the old arrays back.
  template <typename Key>
  void sort(Key*& keys, std::uint32_t*& items, int bits) const {
    auto* const sorted_keys = work.make<Key>(size);
    auto* const sorted_items = work.make<std::uint32_t>(size);
    sort_pairs(work, keys, sorted_keys, items, sorted_items, size, bits);
    work.give_back(keys);
    work.give_back(items);
    keys = sorted_keys;
    items = sorted_items;
  }

  template <typename Key>
  Buckets<Key> buckets(const Key* keys, int bits) const {
    auto* const begins = work.make<std::int64_t>(std::int64_t{1} << bits);
    INFOBATCH_CUDA_LAUNCH(
        (find_begins<Key>), blocks(), kThreads, work.stream(), size, keys, begins);
    return {keys, begins};
  }

  template <typename Key>
  void finish(const Buckets<Key>& buckets,
              const std::uint32_t* items,
              int id_bits,
              const ClassWeights& class_weights,
              std::int64_t* ids,
              float* weights) const {
    auto* const heads = work.make<std::uint32_t>(size);
    auto* const next = work.make<std::uint32_t>(size);
    work.fill(heads, 0xFF, static_cast<std::size_t>(size) * sizeof(*heads));
    INFOBATCH_CUDA_LAUNCH((list_swaps<Key>),
                          blocks(),
                          kThreads,
                          work.stream(),
                          buckets,
                          size,
                          seed,
                          epoch,
                          heads,
                          next);
    INFOBATCH_CUDA_LAUNCH((follow_swaps<Key>),
                          blocks(),
                          kThreads,
                          work.stream(),
                          buckets,
                          size,
                          seed,
                          epoch,
                          items,
                          heads,
                          next,
                          id_bits,
                          class_weights,
                          ids,
                          weights);
    work.give_back(heads);
    work.give_back(next);
    work.give_back(buckets.of);
    work.give_back(buckets.begins);
    work.give_back(items);
  }
};

}  // namespace

void shuffle_items(Work& work,
                   std::uint32_t* items,
                   std::int64_t size,
                   std::uint64_t seed,
                   std::uint32_t epoch,
                   int id_bits,
                   const ClassWeights& class_weights,
                   const detail::ShuffleConstants& constants,
                   std::int64_t* ids,
                   float* weights) {
  if (size == 0) return;
  const detail::ShuffleShape shape = detail::shuffle_shape(size, constants);
  if (shape.bits1 > 8 || shape.bits1 + shape.bits2 > 16) {
    throw InvalidArgument(
        detail::message("plan: buckets must be numbered in 16 bits on a device, got ",
                        shape.bits1,
                        " + ",
                        shape.bits2));
  }
  const Shuffle shuffle{work, size, seed, epoch};
  if (shape.bits1 == 0) {
    shuffle.finish(
        Buckets<std::uint8_t>{nullptr, nullptr}, items, id_bits, class_weights, ids, weights);
    return;
  }
  auto* parts = work.make<std::uint8_t>(size);
  INFOBATCH_CUDA_LAUNCH((draw_parts<std::uint8_t, std::uint8_t>),
                        shuffle.blocks(),
                        kThreads,
                        work.stream(),
                        size,
                        seed,
                        epoch,
                        std::uint32_t{kStreamBucket1},
                        shape.bits1,
                        static_cast<const std::uint8_t*>(nullptr),
                        parts);
  shuffle.sort(parts, items, shape.bits1);
  if (shape.bits2 == 0) {
    shuffle.finish(
        shuffle.buckets(parts, shape.bits1), items, id_bits, class_weights, ids, weights);
    return;
  }
  auto* buckets = work.make<std::uint16_t>(size);
  INFOBATCH_CUDA_LAUNCH((draw_parts<std::uint8_t, std::uint16_t>),
                        shuffle.blocks(),
                        kThreads,
                        work.stream(),
                        size,
                        seed,
                        epoch,
                        std::uint32_t{kStreamBucket2},
                        shape.bits2,
                        parts,
                        buckets);
  work.give_back(parts);
  const int bits = shape.bits1 + shape.bits2;
  shuffle.sort(buckets, items, bits);
  shuffle.finish(shuffle.buckets(buckets, bits), items, id_bits, class_weights, ids, weights);
}

}  // namespace infobatch::cuda
