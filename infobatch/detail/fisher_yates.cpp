#include <infobatch/detail/fisher_yates.hpp>
#include <infobatch/detail/kernels.hpp>
#include <infobatch/detail/random_words.hpp>
#include <infobatch/detail/shuffle.hpp>

#include <algorithm>
#include <cstring>
#include <utility>

namespace infobatch {
namespace detail {
namespace {

constexpr std::int64_t kSwapChunk = 1024;  // swaps at a time

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

// For i = last down to first: swaps items[i] with items[index[i - first]]. Two final items go out
// in one store.
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
}  // namespace

void shuffle_bucket(std::uint32_t* items,
                    std::int64_t size,
                    std::int64_t base,
                    std::uint64_t seed,
                    std::uint32_t epoch) {
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

}  // namespace detail
}  // namespace infobatch
