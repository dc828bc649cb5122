#include <infobatch/detail/kernels.hpp>
#include <infobatch/random_words.hpp>
#include <infobatch/shuffle.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

namespace infobatch {
namespace detail {
namespace {

constexpr std::int64_t kDrawChunk = 4096;  // bucket draws at a time
constexpr std::int64_t kSwapChunk = 1024;  // swaps at a time
constexpr std::int64_t kStreamingFrom = std::int64_t{1}
                                        << 20;  // plans of this size pass the caches by

// One level of the partition: how many parts, which draws.
struct Level {
  std::uint64_t seed;
  std::uint32_t epoch;
  std::uint32_t stream;
  int bits;

  std::size_t parts() const { return std::size_t{1} << bits; }
};

// The bucket draws of consecutive positions, read from a random stream chunk by chunk.
template <typename Draw>
class Draws {
 public:
  explicit Draws(const Level& level) : level_(level) {}

  // The draws of positions [position, position + count), count <= kDrawChunk, as bytes.
  const unsigned char* read(std::int64_t position, std::int64_t count) {
    const std::int64_t first_block = position / kPerBlock;
    const std::int64_t last_block = (position + count - 1) / kPerBlock;
    fill_random_words(level_.seed,
                      level_.epoch,
                      level_.stream,
                      static_cast<std::uint64_t>(first_block),
                      last_block - first_block + 1,
                      words_);
    return reinterpret_cast<const unsigned char*>(words_) +
           static_cast<std::size_t>(position % kPerBlock) * sizeof(Draw);
  }

 private:
  static constexpr auto kPerBlock =
      static_cast<std::int64_t>(kWordsPerBlock * sizeof(std::uint32_t) / sizeof(Draw));

  Level level_;
  alignas(64)
      std::uint32_t words_[kDrawChunk * sizeof(Draw) / sizeof(std::uint32_t) + 2 * kWordsPerBlock];
};

// Calls visit(k, part) for k = 0 .. count - 1, several draws to a load.
template <typename Draw, typename Visit>
inline void for_each_part(const unsigned char* draws,
                          std::int64_t count,
                          int bits,
                          const Visit& visit) {
  constexpr int kDrawBits = 8 * static_cast<int>(sizeof(Draw));
  constexpr int kPerLoad = 64 / kDrawBits;
  const int shift = kDrawBits - bits;
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  std::int64_t i = 0;
  for (; i + kPerLoad <= count; i += kPerLoad) {
    std::uint64_t loaded;
    std::memcpy(&loaded, draws + static_cast<std::size_t>(i) * sizeof(Draw), sizeof(loaded));
    loaded >>= shift;
#pragma GCC unroll 8  // clang knows this spelling, too
    for (int k = 0; k < kPerLoad; ++k) visit(i + k, k, loaded >> (kDrawBits * k) & mask);
  }
  for (; i < count; ++i) {
    Draw draw;
    std::memcpy(&draw, draws + static_cast<std::size_t>(i) * sizeof(Draw), sizeof(draw));
    visit(i, 0, static_cast<std::uint64_t>(draw >> shift));
  }
}

// counts[part] = items at the positions [position, position + size) that go to the part. Four
// tables take turns, so that equal draws in a row do not wait for each other.
template <typename Draw, typename Slot>
void count_parts_of(const Level& level,
                    std::int64_t position,
                    std::int64_t size,
                    std::vector<Slot>& counts) {
  constexpr std::size_t kTables = 4;
  const std::size_t parts = level.parts();
  std::vector<Slot> tables(kTables * parts);
  Slot* const first = tables.data();
  Draws<Draw> draws(level);
  for (std::int64_t done = 0; done < size; done += kDrawChunk) {
    const std::int64_t count = std::min(kDrawChunk, size - done);
    for_each_part<Draw>(draws.read(position + done, count),
                        count,
                        level.bits,
                        [first, parts](std::int64_t, int turn, std::uint64_t part) {
                          ++first[static_cast<std::size_t>(turn) % kTables * parts + part];
                        });
  }
  counts.assign(parts, 0);
  for (std::size_t i = 0; i < tables.size(); ++i) counts[i % parts] += tables[i];
}

// Up to four parts: by vector instructions.
constexpr int kFewBits = 2;

void count_few_parts(const Level& level,
                     std::int64_t position,
                     std::int64_t size,
                     std::vector<std::uint32_t>& counts) {
  counts.assign(level.parts(), 0);
  Draws<std::uint8_t> draws(level);
  for (std::int64_t done = 0; done < size; done += kDrawChunk) {
    const std::int64_t count = std::min(kDrawChunk, size - done);
    kernels().count_few(draws.read(position + done, count), count, level.bits, counts.data());
  }
}

template <typename Slot>
void count_parts(const Level& level,
                 std::int64_t position,
                 std::int64_t size,
                 std::vector<Slot>& counts) {
  if constexpr (sizeof(Slot) == sizeof(std::uint32_t)) {
    if (level.bits <= kFewBits) return count_few_parts(level, position, size, counts);
  }
  if (level.bits <= 8) return count_parts_of<std::uint8_t>(level, position, size, counts);
  count_parts_of<std::uint16_t>(level, position, size, counts);
}

// Moves each item to the next free slot of its part: out[next[part]++].
template <typename Draw, typename Item>
void scatter_of(const Level& level,
                std::int64_t position,
                const Item* items,
                std::int64_t size,
                Item* next,
                Item* out) {
  Draws<Draw> draws(level);
  for (std::int64_t done = 0; done < size; done += kDrawChunk) {
    const std::int64_t count = std::min(kDrawChunk, size - done);
    const Item* from = items + done;
    for_each_part<Draw>(draws.read(position + done, count),
                        count,
                        level.bits,
                        [from, next, out](std::int64_t i, int, std::uint64_t part) {
                          const Item item = from[i];
                          out[next[part]++] = item;
                        });
  }
}

void scatter_few_parts(const Level& level,
                       std::int64_t position,
                       const std::uint32_t* items,
                       std::int64_t size,
                       std::uint32_t* next,
                       std::uint32_t* out) {
  Draws<std::uint8_t> draws(level);
  for (std::int64_t done = 0; done < size; done += kDrawChunk) {
    const std::int64_t count = std::min(kDrawChunk, size - done);
    kernels().scatter_few(
        draws.read(position + done, count), items + done, count, level.bits, next, out);
  }
}

template <typename Item>
void scatter(const Level& level,
             std::int64_t position,
             const Item* items,
             std::int64_t size,
             Item* next,
             Item* out) {
  if constexpr (sizeof(Item) == sizeof(std::uint32_t)) {
    if (level.bits <= kFewBits) {
      return scatter_few_parts(level, position, items, size, next, out);
    }
  }
  if (level.bits <= 8) {
    return scatter_of<std::uint8_t>(level, position, items, size, next, out);
  }
  scatter_of<std::uint16_t>(level, position, items, size, next, out);
}

// The parts that level 2 makes of one part of level 1, in memory of their own.
template <typename Item>
class Parts {
 public:
  // For parts of level 1 of up to `largest` items.
  Parts(const Level& level, std::int64_t largest, int room_deviations)
      : level_(level),
        room_deviations_(room_deviations),
        begins_(level.parts()),
        ends_(level.parts()) {
    // Should a part overflow its room, it runs into the next ones, but never out of the memory.
    if (level.bits > 0) {
      memory_.resize(static_cast<std::int64_t>(level.parts()) * room(largest) + largest);
    }
  }

  // Moves the items, whose first has this position, into their parts.
  void split(const Item* items, std::int64_t size, std::int64_t position) {
    const std::int64_t room = this->room(size);
    for (std::size_t part = 0; part < begins_.size(); ++part) {
      begins_[part] = static_cast<Item>(part) * static_cast<Item>(room);
    }
    ends_ = begins_;
    scatter(level_, position, items, size, ends_.data(), memory_.data());
    for (std::size_t part = 0; part < begins_.size(); ++part) {
      if (this->size(part) > room) return split_exactly(items, size, position);
    }
  }

  Item* begin(std::size_t part) { return memory_.data() + begins_[part]; }
  std::int64_t size(std::size_t part) const {
    return static_cast<std::int64_t>(ends_[part] - begins_[part]);
  }

 private:
  std::int64_t room(std::int64_t size) const {
    const std::int64_t mean = (size >> level_.bits) + 1;
    const double deviation = std::sqrt(static_cast<double>(mean));
    return mean + static_cast<std::int64_t>(deviation * room_deviations_);
  }

  void split_exactly(const Item* items, std::int64_t size, std::int64_t position) {
    count_parts(level_, position, size, begins_);
    Item slot = 0;
    for (Item& begin : begins_) slot += std::exchange(begin, slot);
    ends_ = begins_;
    scatter(level_, position, items, size, ends_.data(), memory_.data());
  }

  Level level_;
  int room_deviations_;
  Buffer<Item> memory_;
  std::vector<Item> begins_;
  std::vector<Item> ends_;
};

// swap_index() of the words of n_blocks blocks, bound by bound from first_bound on; bounds below 1
// are left out.
void exact_indices(std::uint64_t seed,
                   std::uint32_t epoch,
                   std::int64_t first_block,
                   std::int64_t n_blocks,
                   std::int64_t first_bound,
                   std::uint32_t* index) {
  fill_random_words(
      seed, epoch, kStreamSwap, static_cast<std::uint64_t>(first_block), n_blocks, index);
  const std::int64_t first_word = first_block * kWordsPerBlock;
  for (std::int64_t k = std::max<std::int64_t>(1 - first_bound, 0); k < n_blocks * kWordsPerBlock;
       ++k) {
    index[k] = swap_index(seed,
                          epoch,
                          static_cast<std::uint64_t>(first_word + k),
                          static_cast<std::uint32_t>(first_bound + k),
                          index[k]);
  }
}

// For i = last down to first: swaps items[i] with items[index[i - first]].
template <typename Item>
void swap_down(Item* items, std::int64_t first, std::int64_t last, const std::uint32_t* index) {
  index -= first;
  for (std::int64_t i = last; i >= first; --i) std::swap(items[i], items[index[i]]);
}

// Two final items go out in one store.
void swap_down(std::uint32_t* items,
               std::int64_t first,
               std::int64_t last,
               const std::uint32_t* index) {
  index -= first;
  std::int64_t i = last;
  for (; i > first; i -= 2) {
    std::uint64_t pair;
    std::memcpy(&pair, index + i - 1, sizeof(pair));
    const auto j_high = static_cast<std::uint32_t>(pair >> 32);
    const auto j_low = static_cast<std::uint32_t>(pair);
    const std::uint32_t high = items[j_high];
    items[j_high] = items[i];
    const std::uint32_t low = items[j_low];
    items[j_low] = items[i - 1];
    pair = std::uint64_t{high} << 32 | low;
    std::memcpy(items + i - 1, &pair, sizeof(pair));
  }
  if (i == first) std::swap(items[i], items[index[i]]);
}

// Fisher-Yates of the bucket whose first item has the position `base`.
template <typename Item>
void shuffle_bucket(
    Item* items, std::int64_t size, std::int64_t base, std::uint64_t seed, std::uint32_t epoch) {
  alignas(64) std::uint32_t index[kSwapChunk];
  for (std::int64_t top = size; top > 1;) {
    // The words of positions [first_word, base + top) are whole blocks but for the last.
    const std::int64_t last_block = (base + top - 1) / kWordsPerBlock;
    const std::int64_t first_block =
        std::max(last_block + 1 - kSwapChunk / kWordsPerBlock, base / kWordsPerBlock);
    const std::int64_t first_word = first_block * kWordsPerBlock;
    const std::int64_t low = std::max<std::int64_t>(first_word - base, 0);
    const std::int64_t skipped = base + low - first_word;
    const std::int64_t blocks = last_block - first_block + 1;
    const std::int64_t first_bound = low - skipped + 1;
    if (kernels().swap_indices(seed,
                               epoch,
                               kStreamSwap,
                               static_cast<std::uint64_t>(first_block),
                               blocks,
                               static_cast<std::int32_t>(first_bound),
                               index)) {
      exact_indices(seed, epoch, first_block, blocks, first_bound, index);
    }
    swap_down(items, low, top - 1, index + skipped);
    top = low;
  }
}

void emit_bucket(const std::uint32_t* items,
                 std::int64_t position,
                 std::int64_t size,
                 const ShuffleArrays<std::uint32_t>& arrays,
                 bool streaming) {
  kernels().emit(items,
                 size,
                 arrays.id_bits,
                 arrays.class_weight,
                 arrays.ids + position,
                 arrays.weights + position,
                 streaming);
}

void emit_bucket(const std::uint64_t* items,
                 std::int64_t position,
                 std::int64_t size,
                 const ShuffleArrays<std::uint64_t>& arrays,
                 bool /*streaming*/) {
  const std::uint64_t mask = (std::uint64_t{1} << arrays.id_bits) - 1;
  for (std::int64_t i = 0; i < size; ++i) {
    arrays.ids[position + i] = static_cast<std::int64_t>(items[i] & mask);
    arrays.weights[position + i] = arrays.class_weight[items[i] >> arrays.id_bits];
  }
}

// Gathers all runs into arrays.scatter and shuffles them as one bucket.
template <typename Item>
void shuffle_single(const KeptRuns& kept,
                    const ShuffleArrays<Item>& arrays,
                    std::uint64_t seed,
                    std::uint32_t epoch) {
  for (const KeptRuns::Run& run : kept.runs) {
    const Item* from = arrays.kept + run.begin;
    Item* to = arrays.scatter + run.position;
    if (from != to) std::copy(from, from + run.size, to);
  }
  shuffle_bucket(arrays.scatter, kept.size, 0, seed, epoch);
  emit_bucket(arrays.scatter, 0, kept.size, arrays, false);
}

// Level 1: from the runs into arrays.scatter; returns the first position of each part and the end.
template <typename Item>
std::vector<std::int64_t> partition_runs(const KeptRuns& kept,
                                         const ShuffleArrays<Item>& arrays,
                                         const Level& level,
                                         Team& team) {
  // Items and slots have the same width: there are no more items than ids.
  std::vector<std::vector<Item>> next(kept.runs.size());
  team.run([&](int thread) {
    const auto t = static_cast<std::size_t>(thread);
    count_parts(level, kept.runs[t].position, kept.runs[t].size, next[t]);
  });
  std::vector<std::int64_t> begins(level.parts() + 1);
  Item slot = 0;
  for (std::size_t part = 0; part < level.parts(); ++part) {
    begins[part] = static_cast<std::int64_t>(slot);
    for (std::vector<Item>& slots : next) slot += std::exchange(slots[part], slot);
  }
  begins[level.parts()] = kept.size;
  team.run([&](int thread) {
    const auto t = static_cast<std::size_t>(thread);
    scatter(level,
            kept.runs[t].position,
            arrays.kept + kept.runs[t].begin,
            kept.runs[t].size,
            next[t].data(),
            arrays.scatter);
  });
  return begins;
}

}  // namespace

template <typename Item>
void shuffle_items(const KeptRuns& kept,
                   const ShuffleArrays<Item>& arrays,
                   std::uint64_t seed,
                   std::uint32_t epoch,
                   Team& team,
                   const ShuffleConstants& constants) {
  const ShuffleShape shape = shuffle_shape(kept.size, constants);
  if (shape.bits1 == 0 && shape.bits2 == 0) return shuffle_single(kept, arrays, seed, epoch);

  const Level level1{seed, epoch, kStreamBucket1, shape.bits1};
  const Level level2{seed, epoch, kStreamBucket2, shape.bits2};
  const std::vector<std::int64_t> begins = partition_runs(kept, arrays, level1, team);
  std::int64_t largest = 0;
  for (std::size_t part = 0; part < level1.parts(); ++part) {
    largest = std::max(largest, begins[part + 1] - begins[part]);
  }
  const bool streaming = kept.size >= kStreamingFrom;
  const auto finish_bucket = [&](Item* items, std::int64_t size, std::int64_t position) {
    shuffle_bucket(items, size, position, seed, epoch);
    emit_bucket(items, position, size, arrays, streaming);
  };
  std::atomic<std::size_t> next_part{0};
  team.run([&](int) {
    Parts<Item> parts(level2, largest, constants.room_deviations);
    for (std::size_t part; (part = next_part.fetch_add(1)) < level1.parts();) {
      Item* const items = arrays.scatter + begins[part];
      const std::int64_t size = begins[part + 1] - begins[part];
      if (shape.bits2 == 0) {
        finish_bucket(items, size, begins[part]);
      } else {
        parts.split(items, size, begins[part]);
        std::int64_t position = begins[part];
        for (std::size_t bucket = 0; bucket < level2.parts(); ++bucket) {
          finish_bucket(parts.begin(bucket), parts.size(bucket), position);
          position += parts.size(bucket);
        }
      }
    }
  });
}

template void shuffle_items(const KeptRuns&,
                            const ShuffleArrays<std::uint32_t>&,
                            std::uint64_t,
                            std::uint32_t,
                            Team&,
                            const ShuffleConstants&);
template void shuffle_items(const KeptRuns&,
                            const ShuffleArrays<std::uint64_t>&,
                            std::uint64_t,
                            std::uint32_t,
                            Team&,
                            const ShuffleConstants&);

}  // namespace detail
}  // namespace infobatch
