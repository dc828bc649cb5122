#include <infobatch/detail/first_level.hpp>
#include <infobatch/detail/fisher_yates.hpp>
#include <infobatch/detail/kernels.hpp>
#include <infobatch/detail/level.hpp>
#include <infobatch/detail/shuffle.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>
#include <vector>

namespace infobatch {
namespace detail {
namespace {

constexpr std::int64_t kStreamingFrom = std::int64_t{1}
                                        << 20;  // plans of this size pass the caches by

// Slots for a part of this average size.
std::int64_t slots_for(std::int64_t mean, int deviations) {
  return mean + static_cast<std::int64_t>(std::sqrt(static_cast<double>(mean)) * deviations);
}

// The parts that level 2 makes of one part of level 1, in memory of their own.
class Parts {
 public:
  // For parts of level 1 of up to `largest` items.
  Parts(const Level& level, std::int64_t largest, int slack_deviations)
      : level_(level),
        slack_deviations_(slack_deviations),
        begins_(level.parts()),
        ends_(level.parts()) {
    // Should a part overflow its slots, it runs into the next ones, but never out of the memory.
    if (level.bits > 0) {
      memory_.resize(static_cast<std::int64_t>(level.parts()) * slots(largest) + largest);
    }
  }

  // Moves the items of one part of level 1 into their parts.
  void split(const Piece& piece) {
    const std::int64_t slots = this->slots(piece.size);
    for (std::size_t part = 0; part < begins_.size(); ++part) {
      begins_[part] = static_cast<std::uint32_t>(part) * static_cast<std::uint32_t>(slots);
    }
    move(piece);
    for (std::size_t part = 0; part < begins_.size(); ++part) {
      if (this->size(part) > slots) return split_exactly(piece);
    }
  }

  std::uint32_t* begin(std::size_t part) { return memory_.data() + begins_[part]; }
  std::int64_t size(std::size_t part) const {
    return static_cast<std::int64_t>(ends_[part] - begins_[part]);
  }

 private:
  std::int64_t slots(std::int64_t size) const {
    return slots_for((size >> level_.bits) + 1, slack_deviations_);
  }

  void split_exactly(const Piece& piece) {
    count_parts(level_, piece.position, piece.size, begins_);
    std::uint32_t slot = 0;
    for (std::uint32_t& begin : begins_) slot += std::exchange(begin, slot);
    move(piece);
  }

  void move(const Piece& piece) {
    ends_ = begins_;
    scatter(level_, piece.position, piece.items, piece.size, ends_.data(), memory_.data());
  }

  Level level_;
  int slack_deviations_;
  Buffer<std::uint32_t> memory_;
  std::vector<std::uint32_t> begins_;
  std::vector<std::uint32_t> ends_;
};

void emit_bucket(const std::uint32_t* items,
                 std::int64_t position,
                 std::int64_t size,
                 const ShuffleArrays& arrays,
                 Streaming streaming) {
  kernels().emit(items,
                 size,
                 arrays.id_bits,
                 arrays.class_weight,
                 arrays.ids + position,
                 arrays.weights + position,
                 streaming);
}

// Gathers all runs into arrays.scatter and shuffles them as one bucket.
void shuffle_single(const KeptRuns& kept,
                    const ShuffleArrays& arrays,
                    std::uint64_t seed,
                    std::uint32_t epoch) {
  for (const KeptRuns::Run& run : kept.runs) {
    const std::uint32_t* from = arrays.kept + run.begin;
    std::uint32_t* to = arrays.scatter + run.position;
    if (from != to) std::copy(from, from + run.size, to);
  }
  shuffle_bucket(arrays.scatter, kept.size, 0, seed, epoch);
  emit_bucket(arrays.scatter, 0, kept.size, arrays, Streaming::kNone);
}

}  // namespace

void shuffle_items(const KeptRuns& kept,
                   const ShuffleArrays& arrays,
                   std::uint64_t seed,
                   std::uint32_t epoch,
                   Team& team,
                   const ShuffleConstants& constants) {
  const ShuffleShape shape = shuffle_shape(kept.size, constants);
  if (shape.bits1 == 0 && shape.bits2 == 0) return shuffle_single(kept, arrays, seed, epoch);

  const Level level1{seed, epoch, kStreamBucket1, shape.bits1};
  const Level level2{seed, epoch, kStreamBucket2, shape.bits2};
  const bool two_levels = shape.bits2 > 0;
  const std::vector<Piece> parts = partition(kept, arrays, level1, team);
  std::int64_t largest = 0;
  for (const Piece& part : parts) largest = std::max(largest, part.size);
  // Items in memory of their own leave all of the result to streaming.
  const Streaming streaming = kept.size < kStreamingFrom ? Streaming::kNone
                              : two_levels               ? Streaming::kAll
                                                         : Streaming::kIds;
  const auto finish_bucket = [&](std::uint32_t* items, std::int64_t size, std::int64_t position) {
    shuffle_bucket(items, size, position, seed, epoch);
    emit_bucket(items, position, size, arrays, streaming);
  };
  std::atomic<std::size_t> next_part{0};
  team.run([&](int) {
    Parts buckets(level2, largest, constants.slack_deviations);
    for (std::size_t next; (next = next_part.fetch_add(1)) < parts.size();) {
      const Piece& part = parts[next];
      if (!two_levels) {
        finish_bucket(part.items, part.size, part.position);
        continue;
      }
      buckets.split(part);
      std::int64_t position = part.position;
      for (std::size_t bucket = 0; bucket < level2.parts(); ++bucket) {
        finish_bucket(buckets.begin(bucket), buckets.size(bucket), position);
        position += buckets.size(bucket);
      }
    }
  });
}

}  // namespace detail
}  // namespace infobatch
