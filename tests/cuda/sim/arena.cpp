#include <tests/cuda/sim/arena.hpp>
#include <tests/cuda/sim/control.hpp>
#include <tests/cuda/sim/sanitizers.hpp>

#include <sys/mman.h>

#include <new>

namespace sim::detail {
namespace {
constexpr std::size_t kGap = 64;
constexpr unsigned char kGapByte = 0xE7;
constexpr std::size_t kMostPieces = 256;
constexpr std::size_t kMostFinished = 2048;  // mappings are limited
}  // namespace

Arena::~Arena() {
  forget();
  if (memory_ != nullptr) munmap(memory_, kBytes);
}

void Arena::begin(std::size_t dynamic_bytes, unsigned char poison) {
  if (memory_ == nullptr) {
    void* const pages =
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<unsigned char*>(pages);
    forbid(memory_, kShared);
  }
  poison_ = poison;
  used_ = static_bytes_ = 0;
  dynamic_bytes_ = dynamic_bytes;
  pieces_.clear();
  pieces_.reserve(
      kMostPieces);  // a thread of the grid must not allocate: ThreadSanitizer would see it
  add(nullptr, 0, dynamic_bytes, "dynamic shared memory", 0);
}

void Arena::add(
    const void* key, std::size_t offset, std::size_t bytes, const char* file, int line) {
  const std::size_t end = (offset + bytes + kGap + 63) / 64 * 64;
  allow(memory_ + offset, end - offset);
  fill_unseen(memory_ + offset, poison_, bytes);
  fill_unseen(memory_ + offset + bytes, kGapByte, end - offset - bytes);
  forbid(memory_ + offset + bytes, end - offset - bytes);
  pieces_.push_back({key, offset, bytes, end, file, line});
  used_ = end;
}

void* Arena::piece(
    const void* key, std::size_t bytes, std::size_t alignment, const char* file, int line) {
  for (const Piece& piece : pieces_) {
    if (piece.key == key) return memory_ + piece.offset;
  }
  static_bytes_ += bytes;
  const char* wrong = nullptr;
  if (static_bytes_ > kMostStaticShared) wrong = "more than 48 KiB of static shared memory";
  if (static_bytes_ + dynamic_bytes_ > kMostShared) wrong = "more than 227 KiB of shared memory";
  const std::size_t offset = (used_ + alignment - 1) / alignment * alignment;
  if (offset + bytes + 2 * kGap > kShared || pieces_.size() == kMostPieces) {
    wrong = "shared memory in too many pieces";
  }
  if (wrong != nullptr) {
    throw Fault(std::string(wrong) + ": " + file + ":" + std::to_string(line));
  }
  add(key, offset, bytes, file, line);
  return memory_ + offset;
}

std::string Arena::end() {
  std::string wrong;
  allow(memory_, used_);
  for (const Piece& piece : pieces_) {
    for (std::size_t i = piece.offset + piece.bytes; i < piece.end && wrong.empty(); ++i) {
      if (memory_[i] == kGapByte) continue;
      wrong = "a write " + std::to_string(i - piece.offset - piece.bytes) +
              " bytes behind the end of shared memory: " + piece.file + ":" +
              std::to_string(piece.line);
    }
  }
  forbid(memory_, used_);
  if (with_thread_sanitizer()) {
    finished_.push_back(memory_);
    memory_ = nullptr;
    if (finished_.size() >= kMostFinished) forget();
  }
  return wrong;
}

void Arena::forget() {
  for (unsigned char* const pages : finished_) munmap(pages, kBytes);
  finished_.clear();
}

}  // namespace sim::detail
