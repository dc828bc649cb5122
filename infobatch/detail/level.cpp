#include <infobatch/detail/kernels.hpp>
#include <infobatch/detail/level.hpp>
#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/random_words.hpp>

#include <algorithm>
#include <cstring>

namespace infobatch {
namespace detail {
namespace {

constexpr std::int64_t kDrawChunk = 4096;  // bucket draws at a time

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

// count_parts() for draws of this width. Four tables take turns, so that equal draws in a row do
// not wait for each other.
template <typename Draw>
void count_parts_of(const Level& level,
                    std::int64_t position,
                    std::int64_t size,
                    std::vector<std::uint32_t>& counts) {
  constexpr std::size_t kTables = 4;
  const std::size_t parts = level.parts();
  std::vector<std::uint32_t> tables(kTables * parts);
  std::uint32_t* const first = tables.data();
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

// Up to four parts: their draws are sliced, so that the lanes of a part are a matter of a few bit
// operations. Large items follow the same rule lane by lane.
constexpr int kFewBits = 2;
constexpr std::size_t kGroupWords = static_cast<std::size_t>(kDrawGroup / kLaneWord);

// The lanes of each part among the positions [from, to) of one group, relative to its beginning.
class FewParts {
 public:
  explicit FewParts(const Level& level) : level_(level) {}

  int parts() const { return static_cast<int>(level_.parts()); }
  static constexpr int words() { return static_cast<int>(kGroupWords); }
  const std::uint64_t* lanes(int part = 0) const {
    return lanes_ + kGroupWords * static_cast<std::size_t>(part);
  }

  void read(std::int64_t group, std::int64_t from, std::int64_t to) {
    alignas(64) std::uint64_t planes[kFewBits * kGroupWords];
    fill_random_words(level_.seed,
                      level_.epoch,
                      level_.stream,
                      static_cast<std::uint64_t>(group * kDrawPlanes),
                      level_.bits,
                      reinterpret_cast<std::uint32_t*>(planes));
    for (std::size_t part = 0; part < level_.parts(); ++part) {
      for (std::size_t w = 0; w < kGroupWords; ++w) {
        std::uint64_t word = ~std::uint64_t{0};
        for (int bit = 0; bit < level_.bits; ++bit) {
          const std::uint64_t plane = planes[kGroupWords * static_cast<std::size_t>(bit) + w];
          word &= (part >> (level_.bits - 1 - bit) & 1u) != 0 ? plane : ~plane;
        }
        lanes_[kGroupWords * part + w] = word;
      }
    }
    if (from == 0 && to == kDrawGroup) return;
    for (std::size_t i = 0; i < level_.parts() * kGroupWords; ++i) {
      lanes_[i] &= range(from, to, static_cast<std::int64_t>(i % kGroupWords));
    }
  }

 private:
  // The lanes of [from, to) in word w.
  static std::uint64_t range(std::int64_t from, std::int64_t to, std::int64_t w) {
    const auto below = [w](std::int64_t end) {
      const std::int64_t bits = end - kLaneWord * w;
      if (bits <= 0) return std::uint64_t{0};
      return bits >= kLaneWord ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1;
    };
    return below(to) & ~below(from);
  }

  Level level_;
  alignas(64) std::uint64_t lanes_[(std::size_t{1} << kFewBits) * kGroupWords];
};

// Calls visit(parts, first) for each group of the positions [position, position + size), where
// `first` is the position of its first lane.
template <typename Visit>
void for_each_group(const Level& level,
                    std::int64_t position,
                    std::int64_t size,
                    const Visit& visit) {
  FewParts parts(level);
  const std::int64_t end = position + size;
  for (std::int64_t first = position / kDrawGroup * kDrawGroup; first < end; first += kDrawGroup) {
    parts.read(first / kDrawGroup,
               std::max<std::int64_t>(position - first, 0),
               std::min(end - first, kDrawGroup));
    visit(parts, first);
  }
}

void count_few_parts(const Level& level,
                     std::int64_t position,
                     std::int64_t size,
                     std::vector<std::uint32_t>& counts) {
  counts.assign(level.parts(), 0);
  for_each_group(level, position, size, [&](const FewParts& parts, std::int64_t) {
    for (int part = 0; part < parts.parts(); ++part) {
      counts[static_cast<std::size_t>(part)] +=
          static_cast<std::uint32_t>(kernels().count_lanes(parts.lanes(part), FewParts::words()));
    }
  });
}

// scatter() for draws of this width.
template <typename Draw>
void scatter_of(const Level& level,
                std::int64_t position,
                const std::uint32_t* items,
                std::int64_t size,
                std::uint32_t* next,
                std::uint32_t* out) {  // NOLINT(readability-non-const-parameter): written
  Draws<Draw> draws(level);
  for (std::int64_t done = 0; done < size; done += kDrawChunk) {
    const std::int64_t count = std::min(kDrawChunk, size - done);
    const std::uint32_t* from = items + done;
    for_each_part<Draw>(draws.read(position + done, count),
                        count,
                        level.bits,
                        [from, next, out](std::int64_t i, int, std::uint64_t part) {
                          // Relaxed, which costs nothing: where a part outgrows its slots, it meets
                          // another thread's, and all of it is then done again with counts.
                          const std::uint32_t item = from[i];
                          __atomic_store_n(&out[next[part]++], item, __ATOMIC_RELAXED);
                        });
  }
}

void scatter_lanes(const FewParts& parts, const std::uint32_t* items, std::uint32_t** out) {
  kernels().scatter_few(parts.lanes(), FewParts::words(), parts.parts(), items, out);
}

void scatter_few_parts(const Level& level,
                       std::int64_t position,
                       const std::uint32_t* items,
                       std::int64_t size,
                       std::uint32_t* next,
                       std::uint32_t* out) {
  std::uint32_t* slots[std::size_t{1} << kFewBits];
  for (std::size_t part = 0; part < level.parts(); ++part) slots[part] = out + next[part];
  for_each_group(level, position, size, [&](const FewParts& parts, std::int64_t first) {
    scatter_lanes(parts, items + (first - position), slots);
  });
  for (std::size_t part = 0; part < level.parts(); ++part) {
    next[part] = static_cast<std::uint32_t>(slots[part] - out);
  }
}

}  // namespace

void count_parts(const Level& level,
                 std::int64_t position,
                 std::int64_t size,
                 std::vector<std::uint32_t>& counts) {
  if (level.bits <= kFewBits) return count_few_parts(level, position, size, counts);
  if (level.bits <= 8) return count_parts_of<std::uint8_t>(level, position, size, counts);
  count_parts_of<std::uint16_t>(level, position, size, counts);
}

void scatter(const Level& level,
             std::int64_t position,
             const std::uint32_t* items,
             std::int64_t size,
             std::uint32_t* next,
             std::uint32_t* out) {
  if (level.bits <= kFewBits) {
    return scatter_few_parts(level, position, items, size, next, out);
  }
  if (level.bits <= 8) {
    return scatter_of<std::uint8_t>(level, position, items, size, next, out);
  }
  scatter_of<std::uint16_t>(level, position, items, size, next, out);
}

}  // namespace detail
}  // namespace infobatch
