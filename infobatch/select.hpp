#pragma once

#include <infobatch/philox.hpp>
#include <infobatch/streams.hpp>
#include <infobatch/threads.hpp>

#include <cstdint>
#include <functional>
#include <limits>

namespace infobatch {

/// Writes the class of the samples [begin, end) to klass[0 .. end - begin), as in EpochRule.
using Classify = std::function<void(std::int64_t begin, std::int64_t end, std::uint8_t* klass)>;

/// A cut in the order (64-bit draw, sample id).
struct DrawCut {
  std::uint64_t draw = 0;
  std::int64_t id = 0;

  /// Whether a sample lies before the cut.
  bool covers(std::uint64_t sample_draw, std::int64_t sample_id) const {
    return sample_draw < draw || (sample_draw == draw && sample_id < id);
  }
  /// The cut that every sample lies before.
  static DrawCut all() {
    return {std::numeric_limits<std::uint64_t>::max(), std::numeric_limits<std::int64_t>::max()};
  }
};

/// The cut that exactly m of the members lie before, in the order (draw64 of the stream, id).
///
/// The members are the samples of [0, n) to which `classify` gives `klass`; there are n_members of
/// them, and m is in [0, n_members].
/// @note One pass over the n samples, O(sqrt(n)) memory.
DrawCut select_smallest_draws(const Classify& classify,
                              std::uint8_t klass,
                              std::int64_t n,
                              std::int64_t n_members,
                              std::int64_t m,
                              std::uint64_t seed,
                              std::uint32_t epoch,
                              std::uint32_t stream,
                              Team& team);

/// A cut in the order (score, draw64 of the stream `rank ties`, sample id), where -0 == +0.
struct RankCut {
  float score = -std::numeric_limits<float>::infinity();
  DrawCut ties;  ///< among the samples whose score equals `score`
  std::uint64_t seed = 0;
  std::uint32_t epoch = 0;
};

/// The cut that exactly `rank` observed (not NaN) samples lie before; rank in [0, observed].
/// @note Three or four passes over the scores.
RankCut select_rank(const float* scores,
                    std::int64_t n,
                    std::int64_t rank,
                    std::uint64_t seed,
                    std::uint32_t epoch,
                    Team& team);

/// Whether the sample lies before the cut; never for NaN.
inline bool before(const RankCut& cut, float score, std::int64_t id) {
  if (score < cut.score) return true;
  if (!(score == cut.score)) return false;
  const auto position = static_cast<std::uint64_t>(id);
  return cut.ties.covers(random_draw64(cut.seed, cut.epoch, kStreamRankTies, position), id);
}

/// klass[i] for the samples [begin, end): 1 + the index of the lowest cut that the sample lies
/// before; 0 for a sample behind all cuts or never observed. `cuts` ascend.
void classify_by_ranks(const float* scores,
                       std::int64_t begin,
                       std::int64_t end,
                       const RankCut* cuts,
                       int n_cuts,
                       std::uint8_t* klass);

/// klass[i] = 1 where scores[i] < cutoff, otherwise (NaN included) 0, for i in [0, count).
void classify_below(const float* scores, std::int64_t count, float cutoff, std::uint8_t* klass);

}  // namespace infobatch
