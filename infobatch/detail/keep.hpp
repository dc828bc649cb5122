#pragma once

#include <infobatch/detail/epoch_rule.hpp>
#include <infobatch/detail/plan_builder.hpp>
#include <infobatch/detail/select.hpp>
#include <infobatch/detail/threads.hpp>

#include <cstdint>
#include <vector>

namespace infobatch {
namespace detail {

/// num / den rounded once to float32; 1 <= den <= num < 2^42.
float rounded_quotient(std::uint64_t num, std::uint64_t den);

/// The kept fraction of a class as the 32-bit bound q of `bernoulli`: round(ratio * 2^32), at least
/// 1 for a positive ratio; 2^32 keeps all.
std::uint64_t keep_bound(double ratio);

/// How many of n members `exact` keeps: floor(round(ratio * 1e9) * n / 1e9), at least 1 of a
/// positive fraction of something.
std::int64_t exact_kept(double ratio, std::int64_t n);

/// How the samples of one class are kept in an epoch.
struct ClassRule {
  enum Kind { kAll, kNone, kBelow, kCut };
  Kind kind = kAll;
  std::uint64_t keep_below = 0;  ///< kBelow: kept iff the draw is less
  DrawCut cut;                   ///< kCut: kept iff (draw64, id) lies before it
};

/// The kept items in ascending order of their ids, one run for each thread that wrote them.
struct KeptRuns {
  struct Run {
    std::int64_t begin = 0;     ///< index of its first item in the array
    std::int64_t size = 0;      ///< its number of items
    std::int64_t position = 0;  ///< kept items before it
  };
  std::vector<Run> runs;  ///< one for each thread of the team
  std::int64_t size = 0;
};

/// members[c] = how many samples of [0, n) are of class c, for c < n_classes <= 16.
/// @throws InvalidArgument a class number at or above n_classes
void count_members(
    const Classifier& classifier, std::int64_t n, int n_classes, Team& team, std::int64_t* members);

/// Slots that keep_samples needs behind the n-th.
constexpr std::int64_t kKeepSlack = 64;

/// Writes the items (id | class << id_bits) of the kept samples of [0, n) to `items`, which has
/// n + kKeepSlack slots, and sets members and kept of `counts`. With `streaming` they are written
/// past the caches, which pays where the list is larger than these.
/// @param first  id of sample 0 where these are a range of a larger table, a multiple of
///               kDrawGroup: draws are by the ids of that.
/// @throws InvalidArgument a class number at or above rules.size()
KeptRuns keep_samples(std::int64_t n,
                      std::uint64_t seed,
                      std::uint32_t epoch,
                      const Classifier& classifier,
                      const std::vector<ClassRule>& rules,
                      int id_bits,
                      Team& team,
                      std::uint32_t* items,
                      KeptCounts& counts,
                      bool streaming = false,
                      std::int64_t first = 0);

}  // namespace detail
}  // namespace infobatch
