#include <cuda_kernels/select.hpp>
#include <infobatch/detail/draw_window.hpp>
#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/sample_class.hpp>
#include <infobatch/detail/streams.hpp>

#include <cmath>
#include <vector>

namespace infobatch::cuda {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kAll = 0xFFFFFFFFu;
constexpr int kHalves = 1 << 16;

/// The samples of one class.
struct OfClass {
  Classifier classifier;
  std::uint8_t class_id;

  __device__ bool operator()(std::int64_t i) const { return class_of(classifier, i) == class_id; }
};

/// The key of sample `i`; NaN where it is not in the pool, too.
struct PooledKey {
  Key key;
  bool pooled;
  Pool pool;

  __device__ float operator()(std::int64_t i) const {
    const float value = key_of(key, i);
    if (!pooled || value != value || in_pool(pool, i)) return value;
    return never_observed();
  }
};

/// The samples of one key.
struct WithKey {
  PooledKey key_of;
  float key;

  __device__ bool operator()(std::int64_t i) const { return key_of(i) == key; }
};

struct DrawRange {
  std::uint64_t low;  ///< both ends included
  std::uint64_t high;
  std::uint64_t seed;
  std::uint32_t epoch;
  std::uint32_t stream;
};

/// detail::Draw as kernels can write it.
struct ListedDraw {
  std::uint64_t draw;
  std::int64_t id;
};

struct WindowCounts {
  unsigned long long below;
  unsigned long long inside;
};

/// Lists the draws of the members that lie in the range, as far as there are slots, in any order,
/// and counts those below it.
template <typename IsMember>
__global__ void __launch_bounds__(kThreads)
    find_draws(const INFOBATCH_GRID_CONSTANT IsMember is_member,
               const INFOBATCH_GRID_CONSTANT DrawRange range,
               std::int64_t n,
               ListedDraw* found,
               std::int64_t slots,
               WindowCounts* counts) {
  INFOBATCH_SHARED(std::uint32_t, below_here, 1);
  if (threadIdx.x == 0) below_here[0] = 0;
  __syncthreads();
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  bool below = false;
  if (i < n && is_member(i)) {
    const std::uint64_t draw =
        random_draw64(range.seed, range.epoch, range.stream, static_cast<std::uint64_t>(i));
    below = draw < range.low;
    if (!below && draw <= range.high) {
      const auto place = static_cast<std::int64_t>(atomicAdd(&counts->inside, 1ull));
      if (place < slots) found[place] = {draw, i};
    }
  }
  const unsigned bits = __ballot_sync(kAll, below);
  if (threadIdx.x % 32 == 0 && bits != 0) {
    atomicAdd(&below_here[0], static_cast<std::uint32_t>(__popc(bits)));
  }
  __syncthreads();
  if (threadIdx.x == 0 && below_here[0] > 0) {
    atomicAdd(&counts->below, static_cast<unsigned long long>(below_here[0]));
  }
}

template <typename IsMember>
detail::DrawWindow draws_between(Work& work,
                                 const IsMember& is_member,
                                 const DrawRange& range,
                                 std::int64_t n,
                                 std::int64_t members) {
  // Twice what is expected; should that not do, what was counted tells how many there are.
  const double share = std::ldexp(static_cast<double>(range.high - range.low), -64);
  auto slots = static_cast<std::int64_t>(2.0 * share * static_cast<double>(members)) + 64;
  for (;;) {
    auto* const found = work.make<ListedDraw>(slots);
    auto* const counts = work.zeros<WindowCounts>(1);
    INFOBATCH_CUDA_LAUNCH((find_draws<IsMember>),
                          blocks_for(n, kThreads),
                          kThreads,
                          work.stream(),
                          is_member,
                          range,
                          n,
                          found,
                          slots,
                          counts);
    const WindowCounts counted = work.fetch(counts);
    const auto inside = static_cast<std::int64_t>(counted.inside);
    detail::DrawWindow window;
    window.below = static_cast<std::int64_t>(counted.below);
    const bool all = inside <= slots;
    if (all) {
      std::vector<ListedDraw> draws(static_cast<std::size_t>(inside));
      work.fetch_bytes(draws.data(), found, draws.size() * sizeof(ListedDraw));
      window.inside.reserve(draws.size());
      for (const ListedDraw& draw : draws) window.inside.emplace_back(draw.draw, draw.id);
    }
    work.give_back(found);
    work.give_back(counts);
    if (all) return window;
    slots = inside;
  }
}

template <typename IsMember>
DrawCut smallest_draws(Work& work,
                       const IsMember& is_member,
                       std::int64_t n,
                       std::int64_t members,
                       std::int64_t wanted,
                       DrawRange range) {
  return detail::smallest_draws(members, wanted, [&](std::uint64_t low, std::uint64_t high) {
    range.low = low;
    range.high = high;
    return draws_between(work, is_member, range, n, members);
  });
}

/// Adds to counts[half] how many keys have that upper half as ordered integers; with `top` in
/// [0, 2^16), how many of those that have this upper half have that lower one.
__global__ void __launch_bounds__(kThreads)
    count_halves(const INFOBATCH_GRID_CONSTANT PooledKey key_of,
                 std::int64_t n,
                 std::int32_t top,
                 unsigned long long* counts) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  std::int32_t half = -1;
  if (i < n) {
    const float key = key_of(i);
    if (key == key) {
      const std::uint32_t ordered = ordered_key(key);
      const auto upper = static_cast<std::int32_t>(ordered >> 16);
      if (top < 0) {
        half = upper;
      } else if (upper == top) {
        half = static_cast<std::int32_t>(ordered & 0xFFFFu);
      }
    }
  }
  // Losses crowd in few halves: one addition for all lanes that have the same.
  const std::uint32_t same = __match_any_sync(kAll, half);
  const bool leads = (same & ((1u << (threadIdx.x % 32)) - 1)) == 0;
  if (leads && half >= 0) {
    atomicAdd(&counts[half], static_cast<unsigned long long>(__popc(same)));
  }
}

std::vector<unsigned long long> histogram(Work& work,
                                          const PooledKey& key,
                                          std::int64_t n,
                                          std::int32_t top) {
  auto* const counts = work.zeros<unsigned long long>(kHalves);
  INFOBATCH_CUDA_LAUNCH(
      count_halves, blocks_for(n, kThreads), kThreads, work.stream(), key, n, top, counts);
  std::vector<unsigned long long> result(kHalves);
  work.fetch_bytes(result.data(), counts, result.size() * sizeof(result[0]));
  work.give_back(counts);
  return result;
}

/// The half that holds the rank-th element (from 0); `rank` becomes the rank within it.
std::int32_t half_at(const std::vector<unsigned long long>& counts, std::int64_t& rank) {
  std::int32_t half = 0;
  for (;; ++half) {
    const auto count = static_cast<std::int64_t>(counts[static_cast<std::size_t>(half)]);
    if (rank < count) return half;
    rank -= count;
  }
}

}  // namespace

DrawCut select_smallest_draws(Work& work,
                              const Classifier& classifier,
                              std::uint8_t class_id,
                              std::int64_t n,
                              std::int64_t members,
                              std::int64_t wanted,
                              std::uint64_t seed,
                              std::uint32_t epoch,
                              std::uint32_t stream) {
  return smallest_draws(
      work, OfClass{classifier, class_id}, n, members, wanted, {0, 0, seed, epoch, stream});
}

RankCut select_rank(Work& work,
                    const Key& key,
                    const Pool* pool,
                    std::int64_t n,
                    std::int64_t rank,
                    std::uint64_t seed,
                    std::uint32_t epoch) {
  RankCut cut;
  cut.seed = seed;
  cut.epoch = epoch;
  if (rank <= 0) return cut;
  const PooledKey pooled{key, pool != nullptr, pool != nullptr ? *pool : Pool{}};
  // The last sample before the cut has rank `rank - 1`: find its key, then how many of the samples
  // with this key lie before the cut.
  std::int64_t rest = rank - 1;
  const std::int32_t top = half_at(histogram(work, pooled, n, -1), rest);
  const std::vector<unsigned long long> lower = histogram(work, pooled, n, top);
  const std::int32_t bottom = half_at(lower, rest);
  cut.key =
      key_of_ordered(static_cast<std::uint32_t>(top) << 16 | static_cast<std::uint32_t>(bottom));
  const auto ties = static_cast<std::int64_t>(lower[static_cast<std::size_t>(bottom)]);
  cut.ties = smallest_draws(
      work, WithKey{pooled, cut.key}, n, ties, rest + 1, {0, 0, seed, epoch, kStreamRankTies});
  return cut;
}

}  // namespace infobatch::cuda
