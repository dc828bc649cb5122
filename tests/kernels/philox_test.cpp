#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/random_words.hpp>
#include <tests/kernels/simd_levels.hpp>
#include <tests/support/catch2_shim.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace infobatch {
namespace {

using Words = std::array<std::uint32_t, 4>;

Words philox(const Words& counter, std::uint32_t key0, std::uint32_t key1) {
  const PhiloxWords out =
      philox4x32_10({{counter[0], counter[1], counter[2], counter[3]}}, key0, key1);
  return {out.word[0], out.word[1], out.word[2], out.word[3]};
}

}  // namespace

TEST_CASE("rule 4: Philox4x32-10 gives the known answers of Random123", "[kernels][philox]") {
  REQUIRE(philox({0, 0, 0, 0}, 0, 0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr std::uint32_t kOnes = 0xffffffff;
  REQUIRE(philox({kOnes, kOnes, kOnes, kOnes}, kOnes, kOnes) ==
          Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  REQUIRE(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0) ==
          Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("random_word takes word (i / 16) % 4 of Philox call 16 (i / 64) + i % 16",
          "[kernels][philox]") {
  const std::uint64_t seed = 0x0123456789abcdef;
  for (const std::uint64_t index : {std::uint64_t{0},
                                    std::uint64_t{15},
                                    std::uint64_t{16},
                                    std::uint64_t{63},
                                    std::uint64_t{64},
                                    std::uint64_t{1} << 40,
                                    (std::uint64_t{1} << 40) + 37}) {
    const std::uint64_t call = index / 64 * 16 + index % 16;
    const Words expected =
        philox({static_cast<std::uint32_t>(call), static_cast<std::uint32_t>(call >> 32), 7, 3},
               0x89abcdef,
               0x01234567);
    REQUIRE(random_word(seed, 7, 3, index) == expected[index / 16 % 4]);
  }
}

TEST_CASE("fill_random_words equals random_word for every instruction set", "[kernels][philox]") {
  for (const detail::SimdLevel level : testing::simd_levels()) {
    const testing::WithLevel use(level);
    CAPTURE(static_cast<int>(level));
    for (const std::uint64_t first : {std::uint64_t{0},
                                      std::uint64_t{5},
                                      (std::uint64_t{1} << 28) - 2,
                                      std::uint64_t{1} << 34}) {
      for (const std::int64_t blocks : {0, 1, 3, 4, 5, 9}) {
        std::vector<std::uint32_t> words(static_cast<std::size_t>(64 * blocks + 1), 42);
        fill_random_words(99, 5, 2, first, blocks, words.data());
        bool equal = true;
        for (std::size_t i = 0; i + 1 < words.size(); ++i) {
          equal = equal && words[i] == random_word(99, 5, 2, 64 * first + i);
        }
        REQUIRE(equal);
        REQUIRE(words.back() == 42);
      }
    }
  }
}

TEST_CASE("bytes, halfwords and 64-bit draws are the words read as little-endian memory",
          "[kernels][philox]") {
  std::vector<std::uint32_t> words(64);
  fill_random_words(1, 2, 3, 0, 1, words.data());
  const auto* bytes = reinterpret_cast<const unsigned char*>(words.data());
  for (std::uint64_t i = 0; i < 32; ++i) {
    std::uint16_t half;
    std::uint64_t draw;
    std::memcpy(&half, bytes + 2 * i, sizeof(half));
    std::memcpy(&draw, bytes + 8 * i, sizeof(draw));
    REQUIRE(random_byte(1, 2, 3, i) == bytes[i]);
    REQUIRE(random_half(1, 2, 3, i) == half);
    REQUIRE(random_draw64(1, 2, 3, i) == draw);
  }
}

TEST_CASE("a sliced draw takes bit 31 - b from plane b", "[kernels][philox]") {
  for (const std::uint64_t index : {std::uint64_t{0},
                                    std::uint64_t{31},
                                    std::uint64_t{32},
                                    std::uint64_t{2047},
                                    std::uint64_t{2048},
                                    (std::uint64_t{1} << 40) + 4133}) {
    std::vector<std::uint32_t> planes(64 * 32);
    fill_random_words(9, 8, 7, index / 2048 * 32, 32, planes.data());
    std::uint32_t expected = 0;
    for (std::size_t b = 0; b < 32; ++b) {
      const std::uint32_t word = planes[64 * b + index / 32 % 64];
      expected |= (word >> index % 32 & 1u) << (31 - b);
    }
    REQUIRE(sliced_draw(9, 8, 7, index) == expected);
  }
}

// H0: the bits of neighbouring seeds, epochs, streams and positions agree like coin tosses.
TEST_CASE("rule 4: draws of other seeds, epochs, streams and samples are independent",
          "[kernels][philox][statistical]") {
  constexpr std::int64_t kBlocks = 1024;
  constexpr double kBits = 64.0 * 32.0 * kBlocks;
  const auto draw =
      [](std::uint64_t seed, std::uint32_t epoch, std::uint32_t stream, std::uint64_t first) {
        std::vector<std::uint32_t> words(64 * kBlocks);
        fill_random_words(seed, epoch, stream, first, kBlocks, words.data());
        return words;
      };
  const std::vector<std::uint32_t> base = draw(11, 4, 1, 0);
  const std::vector<std::vector<std::uint32_t>> others = {
      draw(12, 4, 1, 0),
      draw(11 + (std::uint64_t{1} << 32), 4, 1, 0),
      draw(11, 5, 1, 0),
      draw(11, 4, 2, 0),
      draw(11, 4, 1, 1),
      draw(11, 4, 1, kBlocks)};
  for (const std::vector<std::uint32_t>& other : others) {
    std::int64_t agreeing = 0;
    for (std::size_t i = 0; i < base.size(); ++i) {
      for (std::uint32_t same = ~(base[i] ^ other[i]); same != 0; same &= same - 1) ++agreeing;
    }
    const double z = (static_cast<double>(agreeing) - kBits / 2) / std::sqrt(kBits / 4);
    REQUIRE(std::abs(z) < testing::kLargestZ);
  }
}

}  // namespace infobatch
