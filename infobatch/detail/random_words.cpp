#include <infobatch/detail/kernels.hpp>
#include <infobatch/detail/random_words.hpp>

namespace infobatch {

#if defined(__BYTE_ORDER__)
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "streams of bytes and halfwords are read as little-endian memory");
#endif

void fill_random_words(std::uint64_t seed,
                       std::uint32_t epoch,
                       std::uint32_t stream,
                       std::uint64_t first_block,
                       std::int64_t n_blocks,
                       std::uint32_t* out) {
  detail::kernels().fill_words(seed, epoch, stream, first_block, n_blocks, out);
}

}  // namespace infobatch
