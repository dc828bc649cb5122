#include <infobatch/detail/kernels.hpp>

#if defined(__AVX2__) && defined(__BMI2__)

#if defined(__GNUC__) && !defined(__clang__)
// GCC's own intrinsics start from a variable that is left undefined on purpose.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <infobatch/detail/lanes.hpp>
#include <infobatch/detail/sum_lanes.hpp>

#include <immintrin.h>

namespace infobatch {
namespace detail {
namespace {

inline __m256i lane_numbers() { return _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0); }

inline __m256i load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

inline void store(void* to, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(to), x); }

// ---- random words -------------------------------------------------------------------------------

// High and low halves of the products of 8 words with 8 factors.
inline void multiply(
    __m256i x, __m256i even_factors, __m256i odd_factors, __m256i* high, __m256i* low) {
  const __m256i even = _mm256_mul_epu32(x, even_factors);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), odd_factors);
  *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
  *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
}

// Eight Philox calls side by side, lane by lane.
struct Philox8 {
  __m256i x0, x1, x2, x3;
};

inline void philox_round(Philox8* p, __m256i key0, __m256i key1) {
  const __m256i factor0 = _mm256_set1_epi64x(0xD2511F53);
  const __m256i factor1 = _mm256_set1_epi64x(0xCD9E8D57);
  __m256i high0, low0, high1, low1;
  multiply(p->x0, factor0, factor0, &high0, &low0);
  multiply(p->x2, factor1, factor1, &high1, &low1);
  p->x0 = _mm256_xor_si256(_mm256_xor_si256(high1, p->x1), key0);
  p->x2 = _mm256_xor_si256(_mm256_xor_si256(high0, p->x3), key1);
  p->x1 = low1;
  p->x3 = low0;
}

void fill_words(std::uint64_t seed,
                std::uint32_t epoch,
                std::uint32_t stream,
                std::uint64_t first_block,
                std::int64_t n_blocks,
                std::uint32_t* out) {
  for (std::int64_t block = 0; block < n_blocks; ++block, out += 64) {
    const std::uint64_t call = (first_block + static_cast<std::uint64_t>(block)) * 16;
    const __m256i calls =
        _mm256_or_si256(_mm256_set1_epi32(static_cast<int>(call)), lane_numbers());
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(call >> 32));
    const __m256i epochs = _mm256_set1_epi32(static_cast<int>(epoch));
    const __m256i streams = _mm256_set1_epi32(static_cast<int>(stream));
    // The 16 calls of a block in two halves, interleaved.
    Philox8 p[2] = {{calls, upper, epochs, streams},
                    {_mm256_or_si256(calls, _mm256_set1_epi32(8)), upper, epochs, streams}};
    auto key0 = static_cast<std::uint32_t>(seed);
    auto key1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const __m256i keys0 = _mm256_set1_epi32(static_cast<int>(key0));
      const __m256i keys1 = _mm256_set1_epi32(static_cast<int>(key1));
      philox_round(&p[0], keys0, keys1);
      philox_round(&p[1], keys0, keys1);
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
    for (int half = 0; half < 2; ++half) {
      store(out + 8 * half, p[half].x0);
      store(out + 16 + 8 * half, p[half].x1);
      store(out + 32 + 8 * half, p[half].x2);
      store(out + 48 + 8 * half, p[half].x3);
    }
  }
}

bool swap_indices(std::uint64_t seed,
                  std::uint32_t epoch,
                  std::uint32_t stream,
                  std::uint64_t first_block,
                  std::int64_t n_blocks,
                  std::int32_t first_bound,
                  std::uint32_t* index) {
  fill_words(seed, epoch, stream, first_block, n_blocks, index);
  __m256i suspicious = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < 64 * n_blocks; i += 8) {
    const __m256i bounds = _mm256_max_epi32(
        _mm256_add_epi32(_mm256_set1_epi32(first_bound + static_cast<std::int32_t>(i)),
                         lane_numbers()),
        _mm256_setzero_si256());
    __m256i high, low;
    multiply(load(index + i), bounds, _mm256_srli_epi64(bounds, 32), &high, &low);
    store(index + i, high);
    // low >= bound, unsigned, where the larger of the two is low.
    const __m256i sound = _mm256_cmpeq_epi32(_mm256_max_epu32(low, bounds), low);
    suspicious = _mm256_or_si256(suspicious, _mm256_xor_si256(sound, _mm256_set1_epi32(-1)));
  }
  return _mm256_testz_si256(suspicious, suspicious) == 0;
}

// ---- sums ---------------------------------------------------------------------------------------

constexpr int kLanes = 16;    // four vectors of four doubles
constexpr int kLaneBits = 8;  // 4096 scores over 16 lanes

inline __m256d low_half(__m256 x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
inline __m256d high_half(__m256 x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }

// 8 scores from `start` on; what lies behind `count` reads as NaN, that is, as not observed.
inline __m256 load_tail(const float* scores, int start, int count) {
  const __m256i valid = _mm256_cmpgt_epi32(_mm256_set1_epi32(count - start), lane_numbers());
  return _mm256_or_ps(_mm256_maskload_ps(scores + start, valid),
                      _mm256_castsi256_ps(_mm256_xor_si256(valid, _mm256_set1_epi32(-1))));
}

// What is known of the size of 8 lanes of scores.
struct RangeLanes {
  __m256i max_abs = _mm256_setzero_si256();
  __m256i min_abs_minus_1 = _mm256_set1_epi32(-1);
  __m256i seen = _mm256_setzero_si256();  // minus the number of observed ones

  void add(__m256 x) {
    const __m256i mask = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_ORD_Q));
    const __m256i abs_mask = _mm256_and_si256(mask, _mm256_set1_epi32(0x7FFFFFFF));
    const __m256i abs = _mm256_and_si256(_mm256_castps_si256(x), abs_mask);
    seen = _mm256_add_epi32(seen, mask);
    max_abs = _mm256_max_epu32(max_abs, abs);  // not observed: 0, and so 2^32 - 1 below
    min_abs_minus_1 =
        _mm256_min_epu32(min_abs_minus_1, _mm256_add_epi32(abs, _mm256_set1_epi32(-1)));
  }
};

sum_lanes::Range observed_range(const float* scores, int count, std::int64_t* observed) {
  RangeLanes range0, range1;
  int i = 0;
  for (; i + 16 <= count; i += 16) {
    range0.add(_mm256_loadu_ps(scores + i));
    range1.add(_mm256_loadu_ps(scores + i + 8));
  }
  for (; i < count; i += 8) range0.add(load_tail(scores, i, count));

  alignas(32) std::uint32_t max_abs[8], min_abs_minus_1[8];
  alignas(32) std::int32_t seen[8];
  store(max_abs, _mm256_max_epu32(range0.max_abs, range1.max_abs));
  store(min_abs_minus_1, _mm256_min_epu32(range0.min_abs_minus_1, range1.min_abs_minus_1));
  store(seen, _mm256_add_epi32(range0.seen, range1.seen));
  sum_lanes::Range range{0, ~std::uint32_t{0}};
  *observed = 0;
  for (int lane = 0; lane < 8; ++lane) {
    if (max_abs[lane] > range.max_abs) range.max_abs = max_abs[lane];
    if (min_abs_minus_1[lane] < range.min_abs_minus_1) {
      range.min_abs_minus_1 = min_abs_minus_1[lane];
    }
    *observed -= seen[lane];
  }
  return range;
}

// Adds up the observed scores; with kSplit in two parts, the first on the grid of `rounder`.
template <bool kSplit>
void add_observed(const float* scores, int count, double rounder, double* high, double* low) {
  const __m256d rounders = _mm256_set1_pd(rounder);
  __m256d highs[4], lows[4];
  for (int v = 0; v < 4; ++v) highs[v] = lows[v] = _mm256_setzero_pd();
  const auto add = [&](__m256 loaded, int v) {
    const __m256 x = _mm256_and_ps(loaded, _mm256_cmp_ps(loaded, loaded, _CMP_ORD_Q));
    const __m256d parts[2] = {low_half(x), high_half(x)};
    for (int part = 0; part < 2; ++part) {
      if (kSplit) {
        const __m256d rounded = _mm256_sub_pd(_mm256_add_pd(parts[part], rounders), rounders);
        highs[v + part] = _mm256_add_pd(highs[v + part], rounded);
        lows[v + part] = _mm256_add_pd(lows[v + part], _mm256_sub_pd(parts[part], rounded));
      } else {
        highs[v + part] = _mm256_add_pd(highs[v + part], parts[part]);
      }
    }
  };
  int i = 0;
  for (; i + 16 <= count; i += 16) {
    add(_mm256_loadu_ps(scores + i), 0);
    add(_mm256_loadu_ps(scores + i + 8), 2);
  }
  for (int v = 0; i < count; i += 8, v += 2) add(load_tail(scores, i, count), v);
  for (int v = 0; v < 4; ++v) {
    _mm256_storeu_pd(high + 4 * v, highs[v]);
    _mm256_storeu_pd(low + 4 * v, lows[v]);
  }
}

bool sum_block(const float* scores, int count, BlockSum* sum) {
  return sum_lanes::sum_block<kLanes, kLaneBits>(
      scores, count, observed_range, add_observed<false>, add_observed<true>, sum);
}

// ---- classes and the keep decision --------------------------------------------------------------

void classify_below(const float* scores,
                    std::int64_t count,
                    float threshold,
                    std::uint8_t* classes) {
  const __m256 thresholds = _mm256_set1_ps(threshold);
  const auto below = [&](const float* eight) {
    return _mm256_castps_si256(_mm256_cmp_ps(_mm256_loadu_ps(eight), thresholds, _CMP_LT_OQ));
  };
  std::int64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    // 4 x 8 masks become 32 bytes; packing takes turns between the halves of a vector.
    const __m256i low = _mm256_packs_epi32(below(scores + i), below(scores + i + 8));
    const __m256i high = _mm256_packs_epi32(below(scores + i + 16), below(scores + i + 24));
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high),
                                                      _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0));
    store(classes + i, _mm256_and_si256(bytes, _mm256_set1_epi8(1)));
  }
  for (; i < count; ++i) classes[i] = scores[i] < threshold;
}

int class_lanes(const std::uint8_t* classes, int count, std::uint8_t c, std::uint64_t* lanes) {
  const __m256i wanted = _mm256_set1_epi8(static_cast<char>(c));
  const auto half = [&](int i) {
    return static_cast<std::uint32_t>(
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(load(classes + i), wanted)));
  };
  int members = 0;
  for (int i = 0; i < count; i += 64) {
    std::uint64_t word = std::uint64_t{half(i + 32)} << 32 | half(i);
    if (count - i < 64) word = _bzhi_u64(word, static_cast<unsigned>(count - i));
    lanes[i / 64] = word;
    members += __builtin_popcountll(word);
  }
  return members;
}

int draws_below(std::uint64_t seed,
                std::uint32_t epoch,
                std::uint32_t stream,
                std::uint64_t group,
                std::uint32_t bound,
                std::uint64_t* lanes) {
  return lanes::draws_below(fill_words, seed, epoch, stream, group, bound, lanes);
}

// Which lanes the chosen ones of 8 are, in order: lane numbers as bytes, one row for each choice.
struct ChosenLanes {
  std::uint8_t lane[256][8];
};

constexpr ChosenLanes make_chosen_lanes() {
  ChosenLanes table{};
  for (unsigned chosen = 0; chosen < 256; ++chosen) {
    int n = 0;
    for (std::uint8_t lane = 0; lane < 8; ++lane) {
      if ((chosen >> lane & 1u) != 0) table.lane[chosen][n++] = lane;
    }
  }
  return table;
}

alignas(64) constexpr ChosenLanes kChosenLanes = make_chosen_lanes();

// Moves the chosen ones of 8 lanes to the front. By a table of 2 KB, since _pext_u64 takes some
// processors hundreds of cycles.
inline __m256i compress(__m256i items, unsigned chosen) {
  const auto* row = reinterpret_cast<const __m128i*>(kChosenLanes.lane[chosen]);
  return _mm256_permutevar8x32_epi32(items, _mm256_cvtepu8_epi32(_mm_loadl_epi64(row)));
}

int append_items(const std::uint64_t* lanes,
                 const std::uint8_t* classes,
                 int count,
                 std::uint32_t first_id,
                 int id_bits,
                 std::uint32_t* out) {
  std::uint32_t* const begin = out;
  const __m128i class_shift = _mm_cvtsi32_si128(id_bits);
  for (int i = 0; i < count; i += 8) {
    const auto chosen = static_cast<unsigned>(lanes[i / 64] >> i % 64 & 0xFFu);
    std::uint64_t bytes;
    __builtin_memcpy(&bytes, classes + i, sizeof(bytes));
    const __m256i class_ids =
        _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(bytes)));
    const __m256i ids = _mm256_add_epi32(
        _mm256_set1_epi32(static_cast<int>(first_id + static_cast<unsigned>(i))), lane_numbers());
    store(out, compress(_mm256_or_si256(ids, _mm256_sll_epi32(class_ids, class_shift)), chosen));
    out += __builtin_popcount(chosen);
  }
  return static_cast<int>(out - begin);
}

// ---- order --------------------------------------------------------------------------------------

// Whether each lane is set for some part.
bool all_lanes(const std::uint64_t* lanes, int n_words, int parts) {
  std::uint64_t all = ~std::uint64_t{0};
  for (int w = 0; w < n_words; ++w) {
    std::uint64_t any = 0;
    for (int part = 0; part < parts; ++part) any |= lanes[n_words * part + w];
    all &= any;
  }
  return all == ~std::uint64_t{0};
}

// Part by part: the items stay in L1, and a part is a short chain of loads and stores.
void scatter_few(const std::uint64_t* lanes,
                 int n_words,
                 int parts,
                 const std::uint32_t* items,
                 std::uint32_t** out) {
  // At the ends of a list there are no items to load for some lanes.
  if (!all_lanes(lanes, n_words, parts)) {
    return lanes::scatter_few(lanes, n_words, parts, items, out);
  }
  for (int part = 0; part < parts; ++part, lanes += n_words) {
    std::uint32_t* slot = out[part];
    const std::uint32_t* const end = slot + lanes::count(lanes, n_words);
    int w = 0;
    // 8 slots are written at a time, and what lies behind the end belongs to the next part.
    for (; w < n_words && end - slot >= kLaneWord; ++w) {
      for (int k = 0; k < kLaneWord; k += 8) {
        const auto chosen = static_cast<unsigned>(lanes[w] >> k & 0xFFu);
        store(slot, compress(load(items + kLaneWord * w + k), chosen));
        slot += __builtin_popcount(chosen);
      }
    }
    for (; w < n_words; ++w) {
      for (std::uint64_t word = lanes[w]; word != 0; word &= word - 1) {
        *slot++ = items[kLaneWord * w + __builtin_ctzll(word)];
      }
    }
    out[part] = slot;
  }
}

void emit(const std::uint32_t* items,
          std::int64_t count,
          int id_bits,
          const float* class_weight,
          std::int64_t* ids,
          float* weights,
          Streaming streaming) {
  const __m256i id_mask = _mm256_set1_epi32(static_cast<int>((1u << id_bits) - 1u));
  const __m128i class_shift = _mm_cvtsi32_si128(id_bits);
  // 16 weights in two vectors; bit 3 of a class, where a blend looks for it, says which.
  const __m256 low_weights = _mm256_loadu_ps(class_weight);
  const __m256 high_weights = _mm256_loadu_ps(class_weight + 8);
  const bool streams = streaming != Streaming::kNone;
  std::int64_t i = streams ? lanes::first_aligned(ids, weights, count, 32) : 0;
  lanes::emit_range(items, 0, i, id_bits, class_weight, ids, weights);
  for (; i + 8 <= count; i += 8) {
    const __m256i item = load(items + i);
    const __m256i id = _mm256_and_si256(item, id_mask);
    const __m256i low = _mm256_cvtepu32_epi64(_mm256_castsi256_si128(id));
    const __m256i high = _mm256_cvtepu32_epi64(_mm256_extracti128_si256(id, 1));
    const __m256i classes = _mm256_srl_epi32(item, class_shift);
    const __m256 weight = _mm256_blendv_ps(_mm256_permutevar8x32_ps(low_weights, classes),
                                           _mm256_permutevar8x32_ps(high_weights, classes),
                                           _mm256_castsi256_ps(_mm256_slli_epi32(classes, 28)));
    if (streaming == Streaming::kAll) {
      _mm256_stream_ps(weights + i, weight);
    } else {
      _mm256_storeu_ps(weights + i, weight);
    }
    if (streaming == Streaming::kNone) {
      store(ids + i, low);
      store(ids + i + 4, high);
    } else {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(ids + i), low);
      _mm256_stream_si256(reinterpret_cast<__m256i*>(ids + i + 4), high);
    }
  }
  lanes::emit_range(items, i, count, id_bits, class_weight, ids, weights);
  if (streams) _mm_sfence();
}

// ---- the step -----------------------------------------------------------------------------------

std::int64_t stage_losses(const float* losses,
                          std::int64_t count,
                          std::uint32_t replacement,
                          float* out) {
  const __m256i other = _mm256_set1_epi32(static_cast<int>(replacement));
  const __m256i abs_mask = _mm256_set1_epi32(0x7FFFFFFF);
  const __m256i infinity = _mm256_set1_epi32(0x7F800000);
  std::int64_t finite = 0;
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    __m256i bits;
    __builtin_memcpy(&bits, losses + i, sizeof(bits));
    const __m256i is_finite = _mm256_cmpgt_epi32(infinity, _mm256_and_si256(bits, abs_mask));
    bits = _mm256_blendv_epi8(other, bits, is_finite);
    __builtin_memcpy(out + i, &bits, sizeof(bits));
    const int mask = _mm256_movemask_ps(_mm256_castsi256_ps(is_finite));
    finite += __builtin_popcount(static_cast<unsigned>(mask));
  }
  for (; i < count; ++i) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, losses + i, sizeof(bits));
    const bool is_finite = (bits & 0x7F800000u) != 0x7F800000u;
    finite += is_finite ? 1 : 0;
    bits = is_finite ? bits : replacement;
    __builtin_memcpy(out + i, &bits, sizeof(bits));
  }
  return count - finite;
}

double weighted_sum(const float* losses, const float* weights, std::int64_t count) {
  __m256d low = _mm256_setzero_pd();
  __m256d high = _mm256_setzero_pd();
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256 x = _mm256_loadu_ps(losses + i);
    const __m256 w = _mm256_loadu_ps(weights + i);
    low = _mm256_add_pd(low,
                        _mm256_mul_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(w)),
                                      _mm256_cvtps_pd(_mm256_castps256_ps128(x))));
    high = _mm256_add_pd(high,
                         _mm256_mul_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(w, 1)),
                                       _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))));
  }
  alignas(32) double sums[8];
  _mm256_store_pd(sums, low);
  _mm256_store_pd(sums + 4, high);
  for (int lane = 0; i < count; ++i, ++lane) {
    sums[lane] += static_cast<double>(weights[i]) * static_cast<double>(losses[i]);
  }
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

Kernels make_kernels() {
  Kernels kernels = *portable_kernels();
  kernels.fill_words = fill_words;
  kernels.sum_block = sum_block;
  kernels.classify_below = classify_below;
  kernels.class_lanes = class_lanes;
  kernels.draws_below = draws_below;
  kernels.append_items = append_items;
  kernels.swap_indices = swap_indices;
  kernels.count_lanes = lanes::count;
  kernels.scatter_few = scatter_few;
  kernels.emit = emit;
  kernels.stage_losses = stage_losses;
  kernels.weighted_sum = weighted_sum;
  return kernels;
}

}  // namespace

const Kernels* avx2_kernels() {
  static const bool fits = processor_runs(SimdLevel::kAvx2);
  if (!fits) return nullptr;
  static const Kernels kernels = make_kernels();
  return &kernels;
}

}  // namespace detail
}  // namespace infobatch

#else

namespace infobatch {
namespace detail {

const Kernels* avx2_kernels() { return nullptr; }

}  // namespace detail
}  // namespace infobatch

#endif
