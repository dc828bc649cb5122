#include <infobatch/detail/kernels.hpp>

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && \
    defined(__AVX512VL__) && defined(__BMI2__)

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

inline __m512i lane_numbers() {
  return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}

// ---- random words -------------------------------------------------------------------------------

constexpr std::uint32_t kKeyStep0 = 0x9E3779B9u;
constexpr std::uint32_t kKeyStep1 = 0xBB67AE85u;

// Sixteen Philox calls side by side: the four words of each counter, lane by lane.
struct Philox16 {
  __m512i x0, x1, x2, x3;
};

// High and low halves of the products of 16 words with one constant.
inline void multiply(__m512i x, __m512i constant, __m512i* high, __m512i* low) {
  const __m512i even = _mm512_mul_epu32(x, constant);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), constant);
  // The high halves of even lanes move down, those of odd lanes are in place already.
  *high = _mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_DDBB);
  *low = _mm512_mask_shuffle_epi32(even, 0xAAAA, odd, _MM_PERM_CCAA);
}

inline void philox_round(Philox16* p, __m512i key0, __m512i key1) {
  const __m512i factor0 = _mm512_set1_epi64(0xD2511F53);
  const __m512i factor1 = _mm512_set1_epi64(0xCD9E8D57);
  __m512i high0, low0, high1, low1;
  multiply(p->x0, factor0, &high0, &low0);
  multiply(p->x2, factor1, &high1, &low1);
  constexpr int kXor3 = 0x96;
  p->x0 = _mm512_ternarylogic_epi32(high1, p->x1, key0, kXor3);
  p->x2 = _mm512_ternarylogic_epi32(high0, p->x3, key1, kXor3);
  p->x1 = low1;
  p->x3 = low0;
}

// The state after two rounds of the 16 calls of a block. Of their counters only the lowest word
// differs from call to call, so a part of these rounds is the same for all lanes.
inline Philox16 two_rounds(std::uint64_t seed,
                           std::uint32_t epoch,
                           std::uint32_t stream,
                           std::uint64_t block) {
  constexpr std::uint64_t kFactor0 = 0xD2511F53;
  constexpr std::uint64_t kFactor1 = 0xCD9E8D57;
  const auto key0 = static_cast<std::uint32_t>(seed);
  const auto key1 = static_cast<std::uint32_t>(seed >> 32);
  const std::uint64_t call = block * 16;  // the calls of a block share the upper 60 bits

  // Round 1: words 0 and 1 come from the epoch and the upper half of the call.
  const std::uint64_t product1 = kFactor1 * epoch;
  const std::uint32_t x0 =
      static_cast<std::uint32_t>(product1 >> 32) ^ static_cast<std::uint32_t>(call >> 32) ^ key0;
  const auto x1 = static_cast<std::uint32_t>(product1);
  const __m512i first =
      _mm512_set1_epi64(static_cast<long long>(kFactor0 * static_cast<std::uint32_t>(call)));
  const __m512i even =
      _mm512_add_epi64(first, _mm512_mul_epu32(lane_numbers(), _mm512_set1_epi64(kFactor0)));
  const __m512i odd = _mm512_add_epi64(
      first, _mm512_mul_epu32(_mm512_srli_epi64(lane_numbers(), 32), _mm512_set1_epi64(kFactor0)));
  const __m512i high = _mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_DDBB);
  const __m512i x2 = _mm512_xor_si512(high, _mm512_set1_epi32(static_cast<int>(stream ^ key1)));
  const __m512i x3 = _mm512_mask_shuffle_epi32(even, 0xAAAA, odd, _MM_PERM_CCAA);

  // Round 2: word 3 comes from word 0 of round 1.
  const std::uint64_t product0 = kFactor0 * x0;
  __m512i high1, low1;
  multiply(x2, _mm512_set1_epi64(kFactor1), &high1, &low1);
  const std::uint32_t mix0 = x1 ^ (key0 + kKeyStep0);
  const std::uint32_t mix1 = static_cast<std::uint32_t>(product0 >> 32) ^ (key1 + kKeyStep1);
  return {_mm512_xor_si512(high1, _mm512_set1_epi32(static_cast<int>(mix0))),
          low1,
          _mm512_xor_si512(x3, _mm512_set1_epi32(static_cast<int>(mix1))),
          _mm512_set1_epi32(static_cast<int>(static_cast<std::uint32_t>(product0)))};
}

// The words of consecutive blocks. The rounds of kBlocks blocks are interleaved: the latency of one
// hides behind the others.
template <unsigned kBlocks>
inline void make_blocks(std::uint64_t seed,
                        std::uint32_t epoch,
                        std::uint32_t stream,
                        std::uint64_t block,
                        Philox16 (&p)[kBlocks]) {
  for (unsigned b = 0; b < kBlocks; ++b) p[b] = two_rounds(seed, epoch, stream, block + b);
  auto key0 = static_cast<std::uint32_t>(seed) + 2 * kKeyStep0;
  auto key1 = static_cast<std::uint32_t>(seed >> 32) + 2 * kKeyStep1;
#pragma GCC unroll 8
  for (int round = 2; round < 10; ++round) {
    const __m512i keys0 = _mm512_set1_epi32(static_cast<int>(key0));
    const __m512i keys1 = _mm512_set1_epi32(static_cast<int>(key1));
    for (unsigned b = 0; b < kBlocks; ++b) philox_round(&p[b], keys0, keys1);
    key0 += kKeyStep0;
    key1 += kKeyStep1;
  }
}

template <unsigned kBlocks>
inline void fill_blocks(std::uint64_t seed,
                        std::uint32_t epoch,
                        std::uint32_t stream,
                        std::uint64_t block,
                        std::uint32_t* out) {
  Philox16 p[kBlocks];
  make_blocks(seed, epoch, stream, block, p);
  for (unsigned b = 0; b < kBlocks; ++b, out += 64) {
    _mm512_storeu_si512(out, p[b].x0);
    _mm512_storeu_si512(out + 16, p[b].x1);
    _mm512_storeu_si512(out + 32, p[b].x2);
    _mm512_storeu_si512(out + 48, p[b].x3);
  }
}

void fill_words(std::uint64_t seed,
                std::uint32_t epoch,
                std::uint32_t stream,
                std::uint64_t first_block,
                std::int64_t n_blocks,
                std::uint32_t* out) {
  std::int64_t block = 0;
  for (; block + 4 <= n_blocks; block += 4) {
    fill_blocks<4>(
        seed, epoch, stream, first_block + static_cast<std::uint64_t>(block), out + 64 * block);
  }
  for (; block < n_blocks; ++block) {
    fill_blocks<1>(
        seed, epoch, stream, first_block + static_cast<std::uint64_t>(block), out + 64 * block);
  }
}

// ---- sums ---------------------------------------------------------------------------------------

constexpr int kLanes = 32;    // four vectors of eight doubles
constexpr int kLaneBits = 7;  // 4096 scores over 32 lanes

inline __m512d low_half(__m512 x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
inline __m512d high_half(__m512 x) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)); }

inline __mmask16 lanes_below(int count) {
  return static_cast<__mmask16>(count >= 16 ? 0xFFFFu : (1u << count) - 1u);
}

void store_lanes(const __m512d* vectors, double* lanes) {
  for (int v = 0; v < 4; ++v) _mm512_storeu_pd(lanes + 8 * v, vectors[v]);
}

// Range of the scores, NaN and what lies behind `count` left out; and how many were observed.
sum_lanes::Range observed_range(const float* scores, int count, std::int64_t* observed) {
  __m512i max_abs = _mm512_setzero_si512();
  __m512i min_abs = _mm512_set1_epi32(-1);
  *observed = 0;
  for (int i = 0; i < count; i += 16) {
    const __mmask16 valid = lanes_below(count - i);
    const __m512i bits = _mm512_maskz_loadu_epi32(valid, scores + i);
    const __m512i abs = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF));
    const __mmask16 seen = _mm512_mask_cmple_epu32_mask(valid, abs, _mm512_set1_epi32(0x7F800000));
    *observed += __builtin_popcount(seen);
    max_abs = _mm512_mask_max_epu32(max_abs, seen, max_abs, abs);
    min_abs =
        _mm512_mask_min_epu32(min_abs, seen, min_abs, _mm512_sub_epi32(abs, _mm512_set1_epi32(1)));
  }
  return {_mm512_reduce_max_epu32(max_abs), _mm512_reduce_min_epu32(min_abs)};
}

// Adds up the observed scores; with kSplit in two parts, the first on the grid of `rounder`.
template <bool kSplit>
void add_observed(const float* scores, int count, double rounder, double* high, double* low) {
  const __m512d rounders = _mm512_set1_pd(rounder);
  __m512d highs[4], lows[4];
  for (int v = 0; v < 4; ++v) highs[v] = lows[v] = _mm512_setzero_pd();
  for (int i = 0; i < count; i += 32) {
    for (int half = 0; half < 2; ++half) {
      const int start = i + 16 * half;
      if (start >= count) break;
      __m512 x = _mm512_maskz_loadu_ps(lanes_below(count - start), scores + start);
      x = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x);
      const __m512d parts[2] = {low_half(x), high_half(x)};
      for (int part = 0; part < 2; ++part) {
        const int v = 2 * half + part;
        if (kSplit) {
          const __m512d rounded = _mm512_sub_pd(_mm512_add_pd(parts[part], rounders), rounders);
          highs[v] = _mm512_add_pd(highs[v], rounded);
          lows[v] = _mm512_add_pd(lows[v], _mm512_sub_pd(parts[part], rounded));
        } else {
          highs[v] = _mm512_add_pd(highs[v], parts[part]);
        }
      }
    }
  }
  store_lanes(highs, high);
  store_lanes(lows, low);
}

// The usual block: whole, all observed, of a moderate range. One pass finds out and adds up.
bool sum_whole_block(const float* scores, BlockSum* sum) {
  const __m512i abs_mask = _mm512_set1_epi32(0x7FFFFFFF);
  const __m512i one = _mm512_set1_epi32(1);
  __m512i max_abs = _mm512_setzero_si512();
  __m512i min_abs = _mm512_set1_epi32(-1);
  __m512d sums[4];
  for (__m512d& lanes : sums) lanes = _mm512_setzero_pd();
  for (int i = 0; i < kSumBlock; i += 32) {
    const __m512 x0 = _mm512_loadu_ps(scores + i);
    const __m512 x1 = _mm512_loadu_ps(scores + i + 16);
    const __m512i abs0 = _mm512_and_si512(_mm512_castps_si512(x0), abs_mask);
    const __m512i abs1 = _mm512_and_si512(_mm512_castps_si512(x1), abs_mask);
    max_abs = _mm512_max_epu32(max_abs, _mm512_max_epu32(abs0, abs1));
    min_abs = _mm512_min_epu32(
        min_abs, _mm512_min_epu32(_mm512_sub_epi32(abs0, one), _mm512_sub_epi32(abs1, one)));
    sums[0] = _mm512_add_pd(sums[0], low_half(x0));
    sums[1] = _mm512_add_pd(sums[1], high_half(x0));
    sums[2] = _mm512_add_pd(sums[2], low_half(x1));
    sums[3] = _mm512_add_pd(sums[3], high_half(x1));
  }
  const sum_lanes::Range range{_mm512_reduce_max_epu32(max_abs), _mm512_reduce_min_epu32(min_abs)};
  const int grid = sum_lanes::grid(range);
  if (!sum_lanes::is_plain(range) || !sum_lanes::fits(sum_lanes::top(range), grid, kLaneBits)) {
    return false;
  }
  double lanes[kLanes];
  store_lanes(sums, lanes);
  *sum = BlockSum{};
  sum->count = kSumBlock;
  sum->high = sum_lanes::total(lanes, kLanes, grid);
  sum->high_exponent = grid;
  return true;
}

bool sum_block(const float* scores, int count, BlockSum* sum) {
  if (count == kSumBlock && sum_whole_block(scores, sum)) return true;
  return sum_lanes::sum_block<kLanes, kLaneBits>(
      scores, count, observed_range, add_observed<false>, add_observed<true>, sum);
}

// ---- classes and the keep decision --------------------------------------------------------------

void classify_below(const float* scores,
                    std::int64_t count,
                    float threshold,
                    std::uint8_t* classes) {
  const __m512 thresholds = _mm512_set1_ps(threshold);
  const __m128i ones = _mm_set1_epi8(1);
  std::int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __mmask16 below = _mm512_cmp_ps_mask(_mm512_loadu_ps(scores + i), thresholds, _CMP_LT_OQ);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(classes + i), _mm_maskz_mov_epi8(below, ones));
  }
  for (; i < count; ++i) classes[i] = scores[i] < threshold;
}

inline __mmask64 valid_lanes(int left) {
  return left >= 64 ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
}

int class_lanes(const std::uint8_t* classes, int count, std::uint8_t c, std::uint64_t* lanes) {
  const __m512i wanted = _mm512_set1_epi8(static_cast<char>(c));
  int members = 0;
  for (int i = 0; i < count; i += 64) {
    const std::uint64_t word = _mm512_mask_cmpeq_epi8_mask(
        valid_lanes(count - i), _mm512_loadu_si512(classes + i), wanted);
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

int append_items(const std::uint64_t* lanes,
                 const std::uint8_t* classes,
                 int count,
                 std::uint32_t first_id,
                 int id_bits,
                 std::uint32_t* out) {
  std::uint32_t* const begin = out;
  const __m128i class_shift = _mm_cvtsi32_si128(id_bits);
  __m512i ids = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(first_id)), lane_numbers());
  for (int i = 0; i < count; i += 64) {
    const std::uint64_t word = lanes[i / 64];
    for (int k = 0; k < 64; k += 16) {
      const __m512i class_ids =
          _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(classes + i + k)));
      const auto chosen = static_cast<__mmask16>(word >> k);
      const __m512i items = _mm512_or_si512(ids, _mm512_sll_epi32(class_ids, class_shift));
      // A compressing store is microcode on some processors; compressing in a register is not.
      _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(chosen, items));
      out += __builtin_popcount(chosen);
      ids = _mm512_add_epi32(ids, _mm512_set1_epi32(16));
    }
  }
  return static_cast<int>(out - begin);
}

// ---- shuffle ------------------------------------------------------------------------------------

// Scales 16 words by their bounds, stores the high halves and adds to `suspicious` the lanes whose
// low half is below the bound.
inline void scale_words(__m512i words,
                        __m512i bounds,
                        __mmask16* suspicious,
                        std::uint32_t* index) {
  bounds = _mm512_max_epi32(bounds, _mm512_setzero_si512());
  const __m512i even = _mm512_mul_epu32(words, bounds);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(words, 32), _mm512_srli_epi64(bounds, 32));
  _mm512_storeu_si512(index, _mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_DDBB));
  const __m512i low = _mm512_mask_shuffle_epi32(even, 0xAAAA, odd, _MM_PERM_CCAA);
  *suspicious = static_cast<__mmask16>(*suspicious | _mm512_cmplt_epu32_mask(low, bounds));
}

template <unsigned kBlocks>
inline __mmask16 index_blocks(std::uint64_t seed,
                              std::uint32_t epoch,
                              std::uint32_t stream,
                              std::uint64_t block,
                              std::int32_t first_bound,
                              std::uint32_t* index) {
  Philox16 p[kBlocks];
  make_blocks(seed, epoch, stream, block, p);
  __mmask16 suspicious = 0;
  for (unsigned b = 0; b < kBlocks; ++b) {
    const __m512i words[4] = {p[b].x0, p[b].x1, p[b].x2, p[b].x3};
    for (int w = 0; w < 4; ++w, index += 16, first_bound += 16) {
      scale_words(words[w],
                  _mm512_add_epi32(_mm512_set1_epi32(first_bound), lane_numbers()),
                  &suspicious,
                  index);
    }
  }
  return suspicious;
}

bool swap_indices(std::uint64_t seed,
                  std::uint32_t epoch,
                  std::uint32_t stream,
                  std::uint64_t first_block,
                  std::int64_t n_blocks,
                  std::int32_t first_bound,
                  std::uint32_t* index) {
  const std::uint64_t last_block = first_block + static_cast<std::uint64_t>(n_blocks);
  __mmask16 suspicious = 0;
  std::uint64_t block = first_block;
  for (; block + 4 <= last_block; block += 4, index += 256, first_bound += 256) {
    suspicious |= index_blocks<4>(seed, epoch, stream, block, first_bound, index);
  }
  for (; block < last_block; ++block, index += 64, first_bound += 64) {
    suspicious |= index_blocks<1>(seed, epoch, stream, block, first_bound, index);
  }
  return suspicious != 0;
}

template <int kParts>
void scatter_parts(const std::uint64_t* lanes,
                   int n_words,
                   const std::uint32_t* items,
                   std::uint32_t** out) {
  std::uint32_t* slots[kParts];
  for (int part = 0; part < kParts; ++part) slots[part] = out[part];
  for (int w = 0; w < n_words; ++w) {
    std::uint64_t words[kParts];
    std::uint64_t any = 0;
    for (int part = 0; part < kParts; ++part) any |= words[part] = lanes[n_words * part + w];
    for (int k = 0; k < 64; k += 16) {
      const __m512i group =
          _mm512_maskz_loadu_epi32(static_cast<__mmask16>(any >> k), items + 64 * w + k);
      for (int part = 0; part < kParts; ++part) {
        const auto mask = static_cast<__mmask16>(words[part] >> k);
        const auto n = static_cast<unsigned>(__builtin_popcount(mask));
        // Exactly n slots are written: what follows belongs to the next part.
        _mm512_mask_storeu_epi32(slots[part],
                                 static_cast<__mmask16>(_bzhi_u32(0xFFFFu, n)),
                                 _mm512_maskz_compress_epi32(mask, group));
        slots[part] += n;
      }
    }
  }
  for (int part = 0; part < kParts; ++part) out[part] = slots[part];
}

void scatter_few(const std::uint64_t* lanes,
                 int n_words,
                 int parts,
                 const std::uint32_t* items,
                 std::uint32_t** out) {
  if (parts == 2) return scatter_parts<2>(lanes, n_words, items, out);
  if (parts == 4) return scatter_parts<4>(lanes, n_words, items, out);
  lanes::scatter_few(lanes, n_words, parts, items, out);
}

void emit(const std::uint32_t* items,
          std::int64_t count,
          int id_bits,
          const float* class_weight,
          std::int64_t* ids,
          float* weights,
          Streaming streaming) {
  const __m512i id_mask = _mm512_set1_epi32(static_cast<int>((1u << id_bits) - 1u));
  const __m128i class_shift = _mm_cvtsi32_si128(id_bits);
  const __m512 table = _mm512_loadu_ps(class_weight);
  const bool streams = streaming != Streaming::kNone;
  std::int64_t i = streams ? lanes::first_aligned(ids, weights, count, 64) : 0;
  lanes::emit_range(items, 0, i, id_bits, class_weight, ids, weights);
  for (; i + 16 <= count; i += 16) {
    const __m512i item = _mm512_loadu_si512(items + i);
    const __m512i id = _mm512_and_si512(item, id_mask);
    const __m512i low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(id));
    const __m512i high = _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(id, 1));
    const __m512 weight = _mm512_permutexvar_ps(_mm512_srl_epi32(item, class_shift), table);
    if (streaming == Streaming::kAll) {
      _mm512_stream_ps(weights + i, weight);
    } else {
      _mm512_storeu_ps(weights + i, weight);
    }
    if (streaming == Streaming::kNone) {
      _mm512_storeu_si512(ids + i, low);
      _mm512_storeu_si512(ids + i + 8, high);
    } else {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(ids + i), low);
      _mm512_stream_si512(reinterpret_cast<__m512i*>(ids + i + 8), high);
    }
  }
  lanes::emit_range(items, i, count, id_bits, class_weight, ids, weights);
  if (streams) _mm_sfence();
}

std::int64_t stage_losses(const float* losses,
                          std::int64_t count,
                          std::uint32_t replacement,
                          float* out) {
  const __m512i other = _mm512_set1_epi32(static_cast<int>(replacement));
  const __m512i abs_mask = _mm512_set1_epi32(0x7FFFFFFF);
  const __m512i infinity = _mm512_set1_epi32(0x7F800000);
  std::int64_t finite = 0;
  for (std::int64_t i = 0; i < count; i += 16) {
    const std::int64_t rest = count - i;
    const auto here = static_cast<__mmask16>(rest < 16 ? (1u << rest) - 1u : 0xFFFFu);
    const __m512i bits = _mm512_maskz_loadu_epi32(here, losses + i);
    const __mmask16 is_finite =
        _mm512_mask_cmplt_epu32_mask(here, _mm512_and_si512(bits, abs_mask), infinity);
    _mm512_mask_storeu_epi32(out + i, here, _mm512_mask_mov_epi32(other, is_finite, bits));
    finite += __builtin_popcount(is_finite);
  }
  return count - finite;
}

double weighted_sum(const float* losses, const float* weights, std::int64_t count) {
  __m512d lanes = _mm512_setzero_pd();
  for (std::int64_t i = 0; i < count; i += 8) {
    const std::int64_t rest = count - i;
    const auto here = static_cast<__mmask8>(rest < 8 ? (1u << rest) - 1u : 0xFFu);
    const __m512d x = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(here, losses + i));
    const __m512d w = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(here, weights + i));
    lanes = _mm512_mask_add_pd(lanes, here, lanes, _mm512_mul_pd(w, x));
  }
  alignas(64) double sums[8];
  _mm512_store_pd(sums, lanes);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace

const Kernels* avx512_kernels() {
  static const Kernels kernels = {fill_words,
                                  sum_block,
                                  classify_below,
                                  class_lanes,
                                  draws_below,
                                  append_items,
                                  swap_indices,
                                  lanes::count,
                                  scatter_few,
                                  emit,
                                  stage_losses,
                                  weighted_sum};
  static const bool fits = processor_runs(SimdLevel::kAvx512);
  return fits ? &kernels : nullptr;
}

}  // namespace detail
}  // namespace infobatch

#else

namespace infobatch {
namespace detail {

const Kernels* avx512_kernels() { return nullptr; }

}  // namespace detail
}  // namespace infobatch

#endif
