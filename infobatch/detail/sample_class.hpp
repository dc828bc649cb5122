#pragma once

#include <infobatch/detail/classifier.hpp>
#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/streams.hpp>
#include <infobatch/host_device.hpp>
#include <infobatch/score.hpp>

#include <cstdint>

// What a classifier says about one sample: the rules that CPU and GPU share. The CPU works through
// many samples at a time by faster ways (classifier.cpp, select.cpp) that say the same.

namespace infobatch {

/// float32 of a value that may have outgrown it: then its largest. NaN stays NaN.
INFOBATCH_HD inline float narrowed(double value) {
  constexpr double kLargest = 3.4028234663852886e38;
  if (value > kLargest) value = kLargest;
  if (value < -kLargest) value = -kLargest;
  return static_cast<float>(value);
}

/// The key of sample `i`; NaN: it has none.
INFOBATCH_HD inline float key_of(const Key& key, std::int64_t i) {
  if (const float* const column = key.column()) return column[i];
  double sum = 0.0;
  for (int t = 0; t < key.count; ++t) {
    sum += key.terms[t].factor * static_cast<double>(key.terms[t].column[i]);
  }
  return narrowed(sum);
}

/// Whether sample `i` is in the pool.
INFOBATCH_HD inline bool in_pool(const Pool& pool, std::int64_t i) {
  const auto position = static_cast<std::uint64_t>(i);
  return pool.cut.covers(random_draw64(pool.seed, pool.epoch, kStreamPool, position), i);
}

/// Whether sample `i`, which has this key, lies before the cut; never without one (NaN).
INFOBATCH_HD inline bool before(const RankCut& cut, float key, std::int64_t i) {
  if (key < cut.key) return true;
  if (!(key == cut.key)) return false;
  const auto position = static_cast<std::uint64_t>(i);
  return cut.ties.covers(random_draw64(cut.seed, cut.epoch, kStreamRankTies, position), i);
}

/// The class of sample `i`, which has this key.
INFOBATCH_HD inline std::uint8_t class_by_ranks(float key,
                                                std::int64_t i,
                                                const RankCut* cuts,
                                                int n_cuts) {
  for (int cut = 0; cut < n_cuts; ++cut) {
    if (before(cuts[cut], key, i)) return static_cast<std::uint8_t>(cut + 1);
  }
  return 0;
}

/// The class of sample `i`.
INFOBATCH_HD inline std::uint8_t class_of(const Classifier& classifier, std::int64_t i) {
  if (classifier.pooled && !in_pool(classifier.pool, i)) return classifier.pool.outside;
  switch (classifier.kind) {
    case Classifier::Kind::kBelow:
      return key_of(classifier.key, i) < classifier.threshold ? 1 : 0;
    case Classifier::Kind::kRanks:
      return class_by_ranks(key_of(classifier.key, i), i, classifier.cuts, classifier.n_cuts);
    case Classifier::Kind::kTable:
      return classifier.table[i];
    case Classifier::Kind::kEverybody:
      break;
  }
  return 0;
}

/// A key as an integer of the same order; -0 and +0 are one. Not of NaN.
INFOBATCH_HD inline std::uint32_t ordered_key(float key) {
  if (key == 0.0f) return 0x80000000u;
  const std::uint32_t bits = float_bits(key);
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}
/// The key of that integer.
INFOBATCH_HD inline float key_of_ordered(std::uint32_t ordered) {
  return bits_float(ordered >> 31 != 0 ? ordered & 0x7FFFFFFFu : ~ordered);
}

}  // namespace infobatch
