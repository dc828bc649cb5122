#pragma once

#include <infobatch/detail/draw_cut.hpp>

#include <cstdint>

namespace infobatch {

/// One term of a key: a column of the per-sample state, times a factor.
struct KeyTerm {
  const float* column = nullptr;  ///< [N] by sample; NaN: not known
  double factor = 1.0;
};

/// What samples are ordered by: the sum of its terms, in float64, rounded once to float32. A sample
/// of which a column is not known has no key (NaN).
struct Key {
  static constexpr int kMaxTerms = 4;

  KeyTerm terms[kMaxTerms];
  int count = 0;

  /// The column itself.
  static Key of(const float* column) {
    Key key;
    key.terms[0].column = column;
    key.count = 1;
    return key;
  }
  /// The column that the key is, where it is one as it stands; else nullptr.
  INFOBATCH_HD const float* column() const {
    return count == 1 && terms[0].factor == 1.0 ? terms[0].column : nullptr;
  }
};

/// A uniform part of all samples: those whose draw of the stream `pool` lies before the cut.
struct Pool {
  DrawCut cut;
  std::uint64_t seed = 0;
  std::uint32_t epoch = 0;
  std::uint8_t outside = 0;  ///< the class of the samples that are not in it
};

/// Which class every sample belongs to, as plain data: it can be evaluated anywhere, on any thread,
/// also on a device, without a call back.
struct Classifier {
  enum class Kind : std::int32_t {
    kEverybody,  ///< class 0
    kBelow,      ///< class 1 where the key is less than `threshold`, else 0; without a key 0
    kRanks,      ///< 1 + the lowest of the cuts that the sample lies before; behind all of them, or
                 ///< without a key, 0
    kTable,      ///< table[i]
  };
  static constexpr int kMaxCuts = 14;

  Kind kind = Kind::kEverybody;
  Key key;
  float threshold = 0.0f;
  RankCut cuts[kMaxCuts];  ///< ascending
  int n_cuts = 0;
  const std::uint8_t* table = nullptr;  ///< [N]
  bool pooled = false;  ///< samples outside `pool` are of class pool.outside, whatever their key
  Pool pool;

  static Classifier below(const Key& key, float threshold) {
    Classifier result;
    result.kind = Kind::kBelow;
    result.key = key;
    result.threshold = threshold;
    return result;
  }
  static Classifier of_table(const std::uint8_t* table) {
    Classifier result;
    result.kind = Kind::kTable;
    result.table = table;
    return result;
  }
};

/// The keys of the samples [begin, end): key[0 .. end - begin).
void fill_keys(const Key& key, std::int64_t begin, std::int64_t end, float* out);

/// Sets key[i - begin] to NaN where sample i of [begin, end) is not in the pool.
void leave_pool(const Pool& pool, std::int64_t begin, std::int64_t end, float* key);

/// The classes of the samples [begin, end): classes[0 .. end - begin). Any thread.
void classify(const Classifier& classifier,
              std::int64_t begin,
              std::int64_t end,
              std::uint8_t* classes);

}  // namespace infobatch
