#pragma once

#include <cstdint>
#include <optional>

// When losses may be believed to belong to the samples they are staged for. Pure functions of plain
// figures; the session keeps the figures and words the refusals. The rules are in docs/rules.md.

namespace infobatch::detail {

/// How the losses of an epoch come back.
enum class ObservedBy { kNone, kOrder, kIds };

/// The part of a batch that one update brings, where updates bring whole batches.
constexpr std::int64_t kWholeBatch = INT64_MAX;

/// The figures of an epoch that its soundness rests on. Positions and counts are in samples.
struct EpochFacts {
  std::int64_t kept = 0;  ///< K, samples of the plan
  bool begun = false;
  std::int64_t start = 0;      ///< where delivery began: not 0 behind a load
  std::int64_t delivered = 0;  ///< positions delivered, [start, delivered)
  std::int64_t observed = 0;   ///< positions observed: in order [0, observed); by ids their number
  ObservedBy by = ObservedBy::kNone;
  std::int64_t updates = 0;  ///< since `start`

  // Delivery.
  bool rows = false;        ///< delivered row by row: batches are not known
  std::int64_t batch = 0;   ///< size of a batch: the last one asked for; rows: as found, 0 unknown
  std::int64_t last = 0;    ///< samples of the last batch delivered
  std::int64_t offset = 0;  ///< samples observed of the oldest batch that is not observed whole
  bool came_back = false;   ///< asked for more behind the end

  // Parts.
  std::int64_t part = 0;        ///< samples of an update: 0 not known yet, or kWholeBatch
  std::int64_t short_part = 0;  ///< that of the oldest batch, where it is short and split anew
  bool split = false;           ///< batches were observed in parts, also before a load

  // Declarations.
  std::optional<bool> drop_last;
  bool lookahead = false;

  // Check (a). `lag`: most samples delivered and not observed just before a delivery.
  std::int64_t lag = 0;
  bool lag_cut = false;         ///< all was delivered before the first update: `lag` may be short
  bool slipped = false;         ///< fewer were out at a delivery: nothing is verified from there on
  std::int64_t known_lag = -1;  ///< that of the last epoch that came to its end; -1: there is none
  std::int64_t known_batch = 0;  ///< size of its batches
  std::int64_t verified = 0;     ///< [0, verified) was observed up to the last check that passed

  // Behind a load.
  std::int64_t loaded = 0;              ///< of `observed`, what the load brought: that of all ranks
  std::int64_t batch_before = 0;        ///< rows of a batch before the load; 0: not known
  std::int64_t proven = 0;              ///< [0, proven) was beyond doubt when it was saved
  std::int64_t lag_batches_before = 0;  ///< unproven lag before the load, in batches
  std::int64_t sure = 0;       ///< [0, sure) would have entered, had the epoch been closed then
  std::int64_t doubt_end = 0;  ///< [proven, doubt_end) was found to be wrong then
};

/// Check (a), just before a delivery: samples are out that the loader did not use to have out.
inline bool lost_before_delivery(const EpochFacts& facts) {
  if (facts.by == ObservedBy::kIds || facts.lookahead || facts.updates == 0) return false;
  return facts.delivered - facts.observed > facts.lag;
}

/// What is wrong with an update of `count` losses in order.
enum class UpdateFault {
  kNone,
  kNotDelivered,  ///< more losses than samples delivered and not observed
  kBeyondBatch,   ///< reaches past the end of the oldest batch that is not observed whole
  kOtherPart,     ///< not the part of a batch that the first batch fixed
  kOtherBatch,    ///< rows: what was pulled since the update before is not one batch
  kOtherSize,     ///< rows: another size than the updates before, before the end of the plan
};

/// Checks (b): `size` of the oldest batch that is not observed whole, of which facts.offset samples
/// are observed. A short batch may come in parts of the same size, or in as many equal parts as the
/// others (torch's chunk).
UpdateFault check_update(const EpochFacts& facts, std::int64_t count, std::int64_t size);

/// Checks (c): `pulled` rows were delivered since the update before.
UpdateFault check_rows_update(const EpochFacts& facts, std::int64_t count, std::int64_t pulled);

/// How an epoch stands.
enum class Ending {
  kOpen,         ///< not over: something is missing
  kWhole,        ///< over: nothing is missing
  kTailDropped,  ///< over: the last batch is missing whole, was short, and is dropped by the loader
};

/// Rule 15 and check (d).
Ending ending_of(const EpochFacts& facts);

/// What of the staged losses enters the scores when the epoch is closed now: the positions
/// [0, end) without [gap_begin, gap_end).
struct Trusted {
  std::int64_t end = 0;
  std::int64_t gap_begin = 0;
  std::int64_t gap_end = 0;

  std::int64_t count() const { return end - (gap_end - gap_begin); }
};

/// Check (d): all where the epoch is over, or where nothing is out; else what was verified, where
/// the lag is proven. A lag of 0 needs no proof: what is lost only makes it larger.
Trusted trusted_of(const EpochFacts& facts);

/// [proven, this) is known to be wrong: what a load has to remember.
std::int64_t doubt_end_of(const EpochFacts& facts);

/// What of it is beyond doubt whatever comes, for a state that is saved now.
std::int64_t proven_of(const EpochFacts& facts);

/// Batches that the loader ran ahead, without a proof: what a load has to remember. 0: proven.
std::int64_t unproven_lag_batches(const EpochFacts& facts);

}  // namespace infobatch::detail
