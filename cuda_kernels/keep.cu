#include <cuda_kernels/algorithms.hpp>
#include <cuda_kernels/keep.hpp>
#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/sample_class.hpp>
#include <infobatch/detail/streams.hpp>
#include <infobatch/error.hpp>

#include <algorithm>

namespace infobatch::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kWords = static_cast<int>(kDrawGroup / 32);  // of 32 samples, in a group of draws
constexpr int kMaxClasses = EpochRule::kMaxClasses;
constexpr unsigned kAll = 0xFFFFFFFFu;
constexpr int kNoClass = -1;  // of lanes behind the last sample

/// What an epoch came to.
struct Totals {
  unsigned long long members[kMaxClasses];
  unsigned long long kept[kMaxClasses];
  unsigned largest_class;  ///< of all samples; one that does not exist is refused
};

/// How each class is kept, and by which draws.
struct KeepRules {
  int n_classes;
  int class_bits;  ///< planes of a class number that are written down
  int planes;      ///< leading planes of a sliced draw that decide all of the bounds
  std::uint64_t seed;
  std::uint32_t epoch;
  std::int32_t kind[kMaxClasses];
  std::uint32_t bound[kMaxClasses];
  DrawCut cut[kMaxClasses];
};

/// Which of 32 draws are below the bound: bit by bit from the top, until it is known.
/// @param planes  word p: bit 31 - p of each draw.
__device__ inline std::uint32_t draws_below(const std::uint32_t* planes,
                                            int stride,
                                            int n_planes,
                                            std::uint32_t bound) {
  std::uint32_t equal = kAll;
  std::uint32_t below = 0;
  for (int plane = 0; plane < n_planes; ++plane) {
    const std::uint32_t draws = planes[plane * stride];
    const bool bit = (bound >> (31 - plane) & 1u) != 0;
    if (bit) below |= equal & ~draws;
    equal &= bit ? draws : ~draws;
  }
  return below;
}

/// One group of 2048 draws a block, a warp for 32 samples: their classes, and which of them are
/// kept.
///
/// masks[(g * (1 + class_bits) + 0) * 64 + w]: the kept of the samples 2048 g + 32 w ...; behind
/// them bit b of their class numbers. counts[g]: the kept of the group.
__global__ void __launch_bounds__(kThreads)
    decide(const INFOBATCH_GRID_CONSTANT Classifier classifier,
           const INFOBATCH_GRID_CONSTANT KeepRules rules,
           std::int64_t n,
           std::uint32_t* INFOBATCH_RESTRICT masks,
           std::uint32_t* INFOBATCH_RESTRICT counts,
           Totals* totals) {
  INFOBATCH_SHARED(std::uint32_t, planes, kDrawPlanes * kWords);
  INFOBATCH_SHARED(std::uint32_t, lanes, kMaxClasses * kWords);
  INFOBATCH_SHARED(std::uint32_t, kept, kWords);
  INFOBATCH_SHARED(std::uint32_t, members_here, kMaxClasses);
  INFOBATCH_SHARED(std::uint32_t, kept_here, kMaxClasses);
  INFOBATCH_SHARED(std::uint32_t, largest_here, 1);
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const std::int64_t group = blockIdx.x;
  if (thread < kMaxClasses) members_here[thread] = kept_here[thread] = 0;
  if (thread < kWords) kept[thread] = 0;
  if (thread == 0) largest_here[0] = 0;
  // 16 Philox calls make the 64 words of a plane.
  for (int call = thread; call < 16 * rules.planes; call += kThreads) {
    const int plane = call / 16;
    const int part = call % 16;
    const std::int64_t block = group * kDrawPlanes + plane;
    const PhiloxWords words = stream_call(
        rules.seed, rules.epoch, kStreamKeep, static_cast<std::uint64_t>(block * 16 + part));
    for (int w = 0; w < 4; ++w) planes[plane * kWords + 16 * w + part] = words.word[w];
  }
  __syncthreads();

  for (int w = thread / 32; w < kWords; w += kWarps) {
    const std::int64_t id = group * kDrawGroup + 32 * w + lane;
    const int class_id = id < n ? class_of(classifier, id) : kNoClass;
    bool covered = false;
    if (class_id >= rules.n_classes) {
      atomicMax(&largest_here[0], static_cast<std::uint32_t>(class_id));
    } else if (class_id >= 0 && rules.kind[class_id] == detail::ClassRule::kCut) {
      const auto position = static_cast<std::uint64_t>(id);
      covered = rules.cut[class_id].covers(
          random_draw64(rules.seed, rules.epoch, kStreamExactKeep, position), id);
    }
    const std::uint32_t before = __ballot_sync(kAll, covered);
    for (int c = 0; c < rules.n_classes; ++c) {
      const std::uint32_t mine = __ballot_sync(kAll, class_id == c);
      if (lane == 0) {
        lanes[c * kWords + w] = mine;
        if (rules.kind[c] == detail::ClassRule::kCut) kept[w] |= mine & before;
      }
    }
  }
  __syncthreads();

  for (int task = thread; task < rules.n_classes * kWords; task += kThreads) {
    const int c = task / kWords;
    const int w = task % kWords;
    const std::uint32_t mine = lanes[task];
    if (mine == 0) continue;
    atomicAdd(&members_here[c], static_cast<std::uint32_t>(__popc(mine)));
    std::uint32_t kept_of_class = 0;
    if (rules.kind[c] == detail::ClassRule::kAll) {
      kept_of_class = mine;
    } else if (rules.kind[c] == detail::ClassRule::kBelow) {
      kept_of_class = mine & draws_below(planes + w, kWords, rules.planes, rules.bound[c]);
    } else if (rules.kind[c] == detail::ClassRule::kCut) {
      // Those of this class are there since the barrier, and no other task touches them.
      atomicAdd(&kept_here[c], static_cast<std::uint32_t>(__popc(atomicOr(&kept[w], 0u) & mine)));
      continue;
    }
    if (kept_of_class == 0) continue;
    atomicOr(&kept[w], kept_of_class);
    atomicAdd(&kept_here[c], static_cast<std::uint32_t>(__popc(kept_of_class)));
  }
  __syncthreads();

  if (thread < kWords) {
    std::uint32_t* const out = masks + group * (1 + rules.class_bits) * kWords + thread;
    out[0] = kept[thread];
    for (int bit = 0; bit < rules.class_bits; ++bit) {
      std::uint32_t plane = 0;
      for (int c = 0; c < rules.n_classes; ++c) {
        if ((c >> bit & 1) != 0) plane |= lanes[c * kWords + thread];
      }
      out[(1 + bit) * kWords] = plane;
    }
  }
  if (thread < rules.n_classes) {
    if (members_here[thread] > 0) {
      atomicAdd(&totals->members[thread], static_cast<unsigned long long>(members_here[thread]));
    }
    if (kept_here[thread] > 0) {
      atomicAdd(&totals->kept[thread], static_cast<unsigned long long>(kept_here[thread]));
    }
  }
  if (thread == 0) {
    std::uint32_t sum = 0;
    for (int c = 0; c < rules.n_classes; ++c) sum += kept_here[c];
    counts[group] = sum;
    if (largest_here[0] > 0) atomicMax(&totals->largest_class, largest_here[0]);
  }
}

/// items[begins[g] ...]: the kept samples of group g, in order.
__global__ void __launch_bounds__(kThreads) append(const std::uint32_t* INFOBATCH_RESTRICT masks,
                                                   const std::int64_t* INFOBATCH_RESTRICT begins,
                                                   int class_bits,
                                                   int id_bits,
                                                   std::uint32_t* INFOBATCH_RESTRICT items) {
  INFOBATCH_SHARED(std::uint32_t, before, kWords);
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const std::int64_t group = blockIdx.x;
  const std::uint32_t* const kept = masks + group * (1 + class_bits) * kWords;
  if (thread < 32) {  // the kept before each word: a scan of 64 counts by one warp
    const int first = __popc(kept[2 * lane]);
    const int second = __popc(kept[2 * lane + 1]);
    int sum = first + second;
    for (int step = 1; step < 32; step *= 2) {
      const int other = __shfl_up_sync(kAll, sum, step);
      if (lane >= step) sum += other;
    }
    before[2 * lane] = static_cast<std::uint32_t>(sum - first - second);
    before[2 * lane + 1] = static_cast<std::uint32_t>(sum - second);
  }
  __syncthreads();
  for (int w = thread / 32; w < kWords; w += kWarps) {
    const std::uint32_t mask = kept[w];
    if ((mask >> lane & 1u) == 0) continue;
    std::uint32_t class_id = 0;
    for (int bit = 0; bit < class_bits; ++bit) {
      class_id |= (kept[(1 + bit) * kWords + w] >> lane & 1u) << bit;
    }
    const auto place = before[w] + static_cast<std::uint32_t>(__popc(mask & ((1u << lane) - 1)));
    const std::int64_t id = group * kDrawGroup + 32 * w + lane;
    items[begins[group] + place] = static_cast<std::uint32_t>(id) | class_id << id_bits;
  }
}

/// Adds to members[c] how many samples are of class c; to the last, those of a class beyond.
__global__ void __launch_bounds__(kThreads)
    count_classes(const INFOBATCH_GRID_CONSTANT Classifier classifier,
                  std::int64_t n,
                  int n_classes,
                  Totals* totals) {
  INFOBATCH_SHARED(std::uint32_t, members_here, kMaxClasses);
  INFOBATCH_SHARED(std::uint32_t, largest_here, 1);
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  if (thread < kMaxClasses) members_here[thread] = 0;
  if (thread == 0) largest_here[0] = 0;
  __syncthreads();
  const std::int64_t first = std::int64_t{blockIdx.x} * kDrawGroup;
  for (std::int64_t i = first + thread; i < first + kDrawGroup; i += kThreads) {
    const int class_id = i < n ? class_of(classifier, i) : kNoClass;
    if (class_id >= n_classes) atomicMax(&largest_here[0], static_cast<std::uint32_t>(class_id));
    const std::uint32_t same = __match_any_sync(kAll, class_id);
    const bool leads = (same & ((1u << lane) - 1)) == 0;
    if (leads && class_id >= 0 && class_id < n_classes) {
      atomicAdd(&members_here[class_id], static_cast<std::uint32_t>(__popc(same)));
    }
  }
  __syncthreads();
  if (thread < n_classes && members_here[thread] > 0) {
    atomicAdd(&totals->members[thread], static_cast<unsigned long long>(members_here[thread]));
  }
  if (thread == 0 && largest_here[0] > 0) atomicMax(&totals->largest_class, largest_here[0]);
}

void refuse_class(const Totals& totals, std::size_t n_classes) {
  if (totals.largest_class < n_classes) return;
  throw InvalidArgument(detail::message("plan: the class of a sample must be below ",
                                        n_classes,
                                        ", the number of classes, got ",
                                        totals.largest_class));
}

/// The leading planes of a draw that tell whether it is below the bound.
int planes_of(std::uint32_t bound) {
  int zeros = 0;
  while (zeros < 31 && (bound >> zeros & 1u) == 0) ++zeros;
  return kDrawPlanes - zeros;
}

KeepRules keep_rules(const std::vector<detail::ClassRule>& rules,
                     std::uint64_t seed,
                     std::uint32_t epoch) {
  KeepRules result{};
  result.n_classes = static_cast<int>(rules.size());
  result.class_bits = rules.size() == 1 ? 0 : class_bits(rules.size());
  result.seed = seed;
  result.epoch = epoch;
  for (std::size_t c = 0; c < rules.size(); ++c) {
    result.kind[c] = rules[c].kind;
    result.cut[c] = rules[c].cut;
    if (rules[c].kind != detail::ClassRule::kBelow) continue;
    result.bound[c] = static_cast<std::uint32_t>(rules[c].keep_below);
    result.planes = std::max(result.planes, planes_of(result.bound[c]));
  }
  return result;
}

}  // namespace

void count_members(Work& work,
                   const Classifier& classifier,
                   std::int64_t n,
                   int n_classes,
                   std::int64_t* members) {
  std::fill(members, members + n_classes, std::int64_t{0});
  if (n == 0) return;
  auto* const totals = work.zeros<Totals>(1);
  INFOBATCH_CUDA_LAUNCH(count_classes,
                        blocks_for(n, kDrawGroup),
                        kThreads,
                        work.stream(),
                        classifier,
                        n,
                        n_classes,
                        totals);
  const Totals found = work.fetch(totals);
  work.give_back(totals);
  refuse_class(found, static_cast<std::size_t>(n_classes));
  for (int c = 0; c < n_classes; ++c) members[c] = static_cast<std::int64_t>(found.members[c]);
}

KeptItems keep_samples(Work& work,
                       std::int64_t n,
                       std::uint64_t seed,
                       std::uint32_t epoch,
                       const Classifier& classifier,
                       const std::vector<detail::ClassRule>& rules,
                       int id_bits,
                       KeptCounts& counts) {
  for (std::size_t c = 0; c < rules.size(); ++c) counts[c].members = counts[c].kept = 0;
  KeptItems result;
  if (n == 0) return result;
  const std::int64_t groups = blocks_for(n, kDrawGroup);
  const KeepRules device_rules = keep_rules(rules, seed, epoch);
  auto* const masks = work.make<std::uint32_t>(groups * (1 + device_rules.class_bits) * kWords);
  auto* const group_counts = work.zeros<std::uint32_t>(groups + 1);  // and one for the sum of all
  auto* const begins = work.make<std::int64_t>(groups + 1);
  auto* const totals = work.zeros<Totals>(1);
  INFOBATCH_CUDA_LAUNCH(decide,
                        groups,
                        kThreads,
                        work.stream(),
                        classifier,
                        device_rules,
                        n,
                        masks,
                        group_counts,
                        totals);
  exclusive_sum(work, group_counts, begins, groups + 1);
  const Totals found = work.fetch(totals);  // the one wait: how many are kept sets the rest up
  refuse_class(found, rules.size());
  for (std::size_t c = 0; c < rules.size(); ++c) {
    counts[c].members = static_cast<std::int64_t>(found.members[c]);
    counts[c].kept = static_cast<std::int64_t>(found.kept[c]);
    result.size += counts[c].kept;
  }
  result.items = work.make<std::uint32_t>(result.size);
  INFOBATCH_CUDA_LAUNCH(append,
                        groups,
                        kThreads,
                        work.stream(),
                        masks,
                        begins,
                        device_rules.class_bits,
                        id_bits,
                        result.items);
  for (const void* const scratch : {static_cast<const void*>(masks),
                                    static_cast<const void*>(group_counts),
                                    static_cast<const void*>(begins),
                                    static_cast<const void*>(totals)}) {
    work.give_back(scratch);
  }
  return result;
}

}  // namespace infobatch::cuda
