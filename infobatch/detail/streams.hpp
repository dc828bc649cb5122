#pragma once

#include <cstdint>

namespace infobatch {

/// The random streams of an epoch. Draws of different streams are independent; the numbers are
/// part of the rule that makes a plan, so they never change.
enum Stream : std::uint32_t {
  kStreamKeep = 1,        ///< sliced 32-bit draw by sample id: keep mode `bernoulli`
  kStreamExactKeep = 2,   ///< 64-bit draw by sample id: keep mode `exact`
  kStreamRankTies = 3,    ///< 64-bit draw by sample id: order among equal scores
  kStreamThinning = 4,    ///< 32-bit draw by sample id: sampling weights below their mean
  kStreamRange = 5,       ///< by the first id of a range of a larger table: its shuffle's key
  kStreamBucket1 = 8,     ///< by position in the kept list: first partition of the shuffle
  kStreamBucket2 = 9,     ///< by position after the first partition: second partition
  kStreamSwap = 16,       ///< 32-bit draw by position in the plan: Fisher-Yates in a bucket
  kStreamSwapRetry = 17,  ///< by (position, attempt): where the draw above was rejected
  kStreamPolicy = 64,     ///< the first stream that policies may use; all above are theirs
  kStreamPool = 64,       ///< 64-bit draw by sample id: the uniform pool of a policy
};

}  // namespace infobatch
