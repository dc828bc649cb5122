#include <infobatch/detail/buffer.hpp>

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace infobatch {
namespace detail {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kAlignment = 64;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

}  // namespace

std::int64_t physical_memory() noexcept {
#if defined(_SC_PHYS_PAGES)
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0) return std::int64_t{pages} * page;
#endif
  return INT64_MAX;
}

#if defined(__linux__)

void* allocate_pages(std::size_t bytes) {
  if (bytes < kHugePage) {
    void* data = std::aligned_alloc(kAlignment, round_up(bytes + 1, kAlignment));
    if (data == nullptr) throw std::bad_alloc();
    return data;
  }
  // One huge page more than needed, so that the start can be aligned; the rest is unmapped.
  const std::size_t length = round_up(bytes, kHugePage);
  void* mapped = mmap(nullptr,
                      length + kHugePage,
                      PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                      -1,
                      0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  const auto address = reinterpret_cast<std::uintptr_t>(mapped);
  const std::size_t before = round_up(address, kHugePage) - address;
  char* data = static_cast<char*>(mapped) + before;
  if (before > 0) munmap(mapped, before);
  munmap(data + length, kHugePage - before);
  madvise(data, length, MADV_HUGEPAGE);  // advice: where it is refused, small pages serve
  return data;
}

void free_pages(void* data, std::size_t bytes) noexcept {
  if (bytes < kHugePage) {
    std::free(data);
  } else {
    munmap(data, round_up(bytes, kHugePage));
  }
}

void release_tail(void* data, std::size_t bytes, std::size_t used) noexcept {
  if (bytes < kHugePage) return;
  const std::size_t first = round_up(used, kHugePage);
  const std::size_t length = round_up(bytes, kHugePage);
  if (first < length) madvise(static_cast<char*>(data) + first, length - first, MADV_DONTNEED);
}

#else

void* allocate_pages(std::size_t bytes) {
  return ::operator new (bytes + 1, std::align_val_t{kAlignment});
}

void free_pages(void* data, std::size_t) noexcept {
  ::operator delete (data, std::align_val_t{kAlignment});
}

void release_tail(void*, std::size_t, std::size_t) noexcept {}

#endif

}  // namespace detail
}  // namespace infobatch
