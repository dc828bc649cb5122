#pragma once

#include <infobatch/detail/classifier.hpp>
#include <infobatch/detail/short_list.hpp>

#include <cstdint>

namespace infobatch {

/// How the kept fraction of a class is drawn (rule 4).
enum class KeepMode {
  kBernoulli,  ///< every sample on its own: kept iff its 32-bit draw is below q
  kExact,      ///< max(1, floor(ratio * n)) of the n members: those with the smallest draws
};

/// One class of samples that an epoch treats alike.
struct KeepClass {
  double keep_ratio = 1.0;  ///< in [0, 1]; 1: always kept, weight 1; 0: never kept
  bool rescale = true;      ///< weight = inverse of the keep probability used; else weight 1
};

/// What a policy decides about one epoch: a class for each sample, and how each class is kept.
/// Plain data.
///
/// The engine draws, weighs and shuffles; so a policy that rescales is unbiased by construction.
struct EpochRule {
  static constexpr int kMaxClasses = 16;

  /// 1 to kMaxClasses classes; class 0 by convention is "kept, weight 1".
  detail::ShortList<KeepClass, kMaxClasses> classes;
  Classifier classifier;
  KeepMode mode = KeepMode::kBernoulli;
  /// B in [1, 2^31]: `kExact` makes the kept samples a multiple of B where it can (rule 16, see
  /// detail/whole_batches.hpp). `kBernoulli`, which leaves their number to chance, ignores it.
  std::int64_t multiple = 1;
};

}  // namespace infobatch
