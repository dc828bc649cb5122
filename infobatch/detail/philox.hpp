#pragma once

#include <infobatch/host_device.hpp>

#include <cstdint>

namespace infobatch {

/// Four 32-bit words: a counter or an output of Philox4x32.
struct PhiloxWords {
  std::uint32_t word[4];
};

/// Philox4x32 with 10 rounds: the bijection of `counter` under the key (key0, key1).
///
/// @source Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
INFOBATCH_HD inline PhiloxWords philox4x32_10(PhiloxWords counter,
                                              std::uint32_t key0,
                                              std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * counter.word[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0,
                static_cast<std::uint32_t>(product1),
                static_cast<std::uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1,
                static_cast<std::uint32_t>(product0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

/// The four words of one Philox call of a random stream: words `16 * w + lane` (w = 0..3) of the
/// 64-word block `call / 16`, where `lane = call % 16`.
INFOBATCH_HD inline PhiloxWords stream_call(std::uint64_t seed,
                                            std::uint32_t epoch,
                                            std::uint32_t stream,
                                            std::uint64_t call) {
  return philox4x32_10(
      {{static_cast<std::uint32_t>(call), static_cast<std::uint32_t>(call >> 32), epoch, stream}},
      static_cast<std::uint32_t>(seed),
      static_cast<std::uint32_t>(seed >> 32));
}

/// Word `index` of the random stream (seed, epoch, stream): a pure function, uniform on 32 bits.
///
/// Every 64 consecutive words come from 16 Philox calls, laid out so that 16 vector lanes make
/// them without a transpose.
INFOBATCH_HD inline std::uint32_t random_word(std::uint64_t seed,
                                              std::uint32_t epoch,
                                              std::uint32_t stream,
                                              std::uint64_t index) {
  const std::uint64_t call = (index >> 6) * 16 + (index & 15);
  return stream_call(seed, epoch, stream, call).word[(index >> 4) & 3];
}

/// The 64-bit draw `index` of the stream: words 2 index (low half) and 2 index + 1 (high half).
INFOBATCH_HD inline std::uint64_t random_draw64(std::uint64_t seed,
                                                std::uint32_t epoch,
                                                std::uint32_t stream,
                                                std::uint64_t index) {
  const std::uint64_t low = random_word(seed, epoch, stream, 2 * index);
  return low | std::uint64_t{random_word(seed, epoch, stream, 2 * index + 1)} << 32;
}

/// Planes of a sliced draw, and the draws whose bits lie in one block of each plane.
constexpr int kDrawPlanes = 32;
constexpr std::int64_t kDrawGroup = 2048;

/// The 32-bit draw `index` of a stream that is sliced into planes, one for each bit: bit 31 - b is
/// bit index % 32 of word (index / 32) % 64 of block 32 (index / 2048) + b.
///
/// A comparison or a split that the leading bits decide so takes the leading planes alone: a keep
/// ratio of 1/2 costs one random bit a sample. The engine reads whole planes; this function, which
/// makes all 32, says what they mean.
INFOBATCH_HD inline std::uint32_t sliced_draw(std::uint64_t seed,
                                              std::uint32_t epoch,
                                              std::uint32_t stream,
                                              std::uint64_t index) {
  const std::uint64_t first_block = index / kDrawGroup * kDrawPlanes;
  const std::uint64_t word = index / 32 % 64;
  std::uint32_t draw = 0;
  for (int plane = 0; plane < kDrawPlanes; ++plane) {
    const std::uint64_t block = first_block + static_cast<std::uint64_t>(plane);
    const std::uint32_t bits = random_word(seed, epoch, stream, 64 * block + word);
    draw = draw << 1 | (bits >> index % 32 & 1u);
  }
  return draw;
}

/// Halfword `index` of the stream, its words read as little-endian memory.
INFOBATCH_HD inline std::uint32_t random_half(std::uint64_t seed,
                                              std::uint32_t epoch,
                                              std::uint32_t stream,
                                              std::uint64_t index) {
  return random_word(seed, epoch, stream, index >> 1) >> 16 * (index & 1) & 0xFFFFu;
}

/// Byte `index` of the stream, its words read as little-endian memory.
INFOBATCH_HD inline std::uint32_t random_byte(std::uint64_t seed,
                                              std::uint32_t epoch,
                                              std::uint32_t stream,
                                              std::uint64_t index) {
  return random_word(seed, epoch, stream, index >> 2) >> 8 * (index & 3) & 0xFFu;
}

}  // namespace infobatch
