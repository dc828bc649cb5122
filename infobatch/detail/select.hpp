#pragma once

#include <infobatch/detail/classifier.hpp>
#include <infobatch/detail/draw_cut.hpp>
#include <infobatch/detail/sample_class.hpp>
#include <infobatch/detail/threads.hpp>

#include <cstdint>

namespace infobatch {

namespace detail {
class Peers;
}

/// The cut that exactly m of the members lie before, in the order (draw64 of the stream, id).
///
/// The members are the samples of [0, n) that the classifier puts into `class_id`; there are
/// n_members of them, and m is in [0, n_members].
/// @param first  id of sample 0 where these are a range of a larger table, a multiple of 32.
/// @param peers  who holds the rest of it; n_members and m are then of the whole table.
/// @note One pass over the n samples, O(sqrt(n)) memory.
DrawCut select_smallest_draws(const Classifier& classifier,
                              std::uint8_t class_id,
                              std::int64_t n,
                              std::int64_t n_members,
                              std::int64_t m,
                              std::uint64_t seed,
                              std::uint32_t epoch,
                              std::uint32_t stream,
                              Team& team,
                              std::int64_t first = 0,
                              const detail::Peers* peers = nullptr);

/// The cut that exactly `rank` samples with a key lie before; rank in [0, how many there are].
/// @param pool  only its samples count; nullptr: all do.
/// @note Three or four passes over the columns.
RankCut select_rank(const Key& key,
                    const Pool* pool,
                    std::int64_t n,
                    std::int64_t rank,
                    std::uint64_t seed,
                    std::uint32_t epoch,
                    Team& team);

/// classes[i - begin] for the samples [begin, end): 1 + the index of the lowest cut that the sample
/// lies before; 0 for a sample behind all cuts or without a key. `cuts` ascend.
/// @param keys  [end - begin]
void classify_by_ranks(const float* keys,
                       std::int64_t begin,
                       std::int64_t end,
                       const RankCut* cuts,
                       int n_cuts,
                       std::uint8_t* classes);

/// classes[i] = 1 where keys[i] < threshold, otherwise (NaN included) 0, for i in [0, count).
void classify_below(const float* keys, std::int64_t count, float threshold, std::uint8_t* classes);

}  // namespace infobatch
