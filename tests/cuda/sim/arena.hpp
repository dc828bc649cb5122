#pragma once

// The shared memory of one block: pieces with gaps between them, and behind them the addresses by
// which ThreadSanitizer knows the block's barriers.
#include <cstddef>
#include <string>
#include <vector>

namespace sim::detail {

constexpr std::size_t kMostStaticShared = std::size_t{48} << 10;
constexpr std::size_t kMostShared = std::size_t{227} << 10;
constexpr unsigned kMarksOfWarp = 256;

class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// A block begins. With ThreadSanitizer in pages of its own, so that it is never taken for
  /// another block; those of finished blocks stay until forget().
  void begin(std::size_t dynamic_bytes, unsigned char poison);
  /// A block has ended. @return what was wrong: a gap was written to; empty when nothing was.
  [[nodiscard]] std::string end();
  /// A grid has ended.
  void forget();

  void* dynamic() { return memory_; }
  /// @throws Fault  more than a block can have.
  void* piece(
      const void* key, std::size_t bytes, std::size_t alignment, const char* file, int line);
  void* block_mark(unsigned parity) { return memory_ + kShared + parity * 8; }
  void* warp_mark(unsigned warp, unsigned number) {
    return memory_ + kShared + 64 + std::size_t{warp} * kMarksOfWarp + number % kMarksOfWarp;
  }

 private:
  static constexpr std::size_t kShared = std::size_t{240} << 10;
  static constexpr std::size_t kBytes = std::size_t{256} << 10;
  struct Piece {
    const void* key;
    std::size_t offset, bytes, end;  // end: of the gap behind it
    const char* file;
    int line;
  };
  void add(const void* key, std::size_t offset, std::size_t bytes, const char* file, int line);

  unsigned char* memory_ = nullptr;
  unsigned char poison_ = 0;
  std::size_t used_ = 0, static_bytes_ = 0, dynamic_bytes_ = 0;
  std::vector<Piece> pieces_;
  std::vector<unsigned char*> finished_;
};

}  // namespace sim::detail
