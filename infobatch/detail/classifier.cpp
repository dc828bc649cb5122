#include <infobatch/detail/classifier.hpp>
#include <infobatch/detail/random_words.hpp>
#include <infobatch/detail/sample_class.hpp>
#include <infobatch/detail/select.hpp>
#include <infobatch/detail/streams.hpp>

#include <algorithm>
#include <cstring>
#include <limits>

namespace infobatch {
namespace {

constexpr std::int64_t kPart = 2048;  // samples at a time: keys, classes and draws stay in L1
constexpr std::int64_t kDrawsPerBlock = kWordsPerBlock / 2;

/// The draws of the stream `pool` for at most kPart samples.
class PoolDraws {
 public:
  PoolDraws(const Pool& pool, std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin / kDrawsPerBlock;
    const std::int64_t last = (end + kDrawsPerBlock - 1) / kDrawsPerBlock;
    fill_random_words(pool.seed,
                      pool.epoch,
                      kStreamPool,
                      static_cast<std::uint64_t>(first),
                      last - first,
                      words_);
    skipped_ = begin - first * kDrawsPerBlock;
  }
  std::uint64_t operator[](std::int64_t i) const {
    const std::uint32_t* const word = words_ + 2 * (skipped_ + i);
    return word[0] | std::uint64_t{word[1]} << 32;
  }

 private:
  alignas(64) std::uint32_t words_[2 * kPart + 2 * kWordsPerBlock];
  std::int64_t skipped_;
};

/// Calls visit(begin, end) for parts of at most kPart samples.
template <typename Visit>
void each_chunk(std::int64_t begin, std::int64_t end, const Visit& visit) {
  for (; begin < end; begin += kPart) visit(begin, std::min(begin + kPart, end));
}

/// The keys of a chunk, borrowed where they lie in memory already.
const float* keys_of(const Key& key, std::int64_t begin, std::int64_t end, float* scratch) {
  if (const float* const column = key.column()) return column + begin;
  fill_keys(key, begin, end, scratch);
  return scratch;
}

void classify_keys(const Classifier& classifier,
                   std::int64_t begin,
                   std::int64_t end,
                   std::uint8_t* classes) {
  alignas(64) float scratch[kPart];
  const float* const keys = keys_of(classifier.key, begin, end, scratch);
  if (classifier.kind == Classifier::Kind::kBelow) {
    classify_below(keys, end - begin, classifier.threshold, classes);
  } else {
    classify_by_ranks(keys, begin, end, classifier.cuts, classifier.n_cuts, classes);
  }
}

}  // namespace

void fill_keys(const Key& key, std::int64_t begin, std::int64_t end, float* out) {
  for (std::int64_t i = begin; i < end; ++i) out[i - begin] = key_of(key, i);
}

void leave_pool(const Pool& pool, std::int64_t begin, std::int64_t end, float* key) {
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  each_chunk(begin, end, [&](std::int64_t from, std::int64_t to) {
    const PoolDraws draws(pool, from, to);
    for (std::int64_t i = from; i < to; ++i) {
      if (!pool.cut.covers(draws[i - from], i)) key[i - begin] = kNone;
    }
  });
}

void classify(const Classifier& classifier,
              std::int64_t begin,
              std::int64_t end,
              std::uint8_t* classes) {
  const auto count = static_cast<std::size_t>(end - begin);
  switch (classifier.kind) {
    case Classifier::Kind::kEverybody:
      if (count > 0) std::memset(classes, 0, count);
      break;
    case Classifier::Kind::kTable:
      if (count > 0) std::memcpy(classes, classifier.table + begin, count);
      break;
    case Classifier::Kind::kBelow:
    case Classifier::Kind::kRanks:
      each_chunk(begin, end, [&](std::int64_t from, std::int64_t to) {
        classify_keys(classifier, from, to, classes + (from - begin));
      });
      break;
  }
  if (!classifier.pooled) return;
  each_chunk(begin, end, [&](std::int64_t from, std::int64_t to) {
    const PoolDraws draws(classifier.pool, from, to);
    for (std::int64_t i = from; i < to; ++i) {
      if (!classifier.pool.cut.covers(draws[i - from], i)) {
        classes[i - begin] = classifier.pool.outside;
      }
    }
  });
}

}  // namespace infobatch
