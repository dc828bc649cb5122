#include <tests/failures/injection.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <new>

#if defined(INFOBATCH_FAILURES_OF_THE_SYSTEM)
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace infobatch::testing {
namespace {

std::atomic<int> chosen{-1};          // a Resource
std::atomic<std::int64_t> before{0};  // requests that are granted before one fails
std::atomic<bool> all_behind{false};
std::atomic<std::int64_t> failures{0};
std::atomic<std::int64_t> asked[kResources];
std::atomic<std::int64_t> blocks{0};
std::atomic<std::int64_t> mapped{0};

bool granted(Resource resource) noexcept {
  ++asked[static_cast<int>(resource)];
  const int armed = chosen.load();
  if (armed != static_cast<int>(resource) && armed != static_cast<int>(Resource::kAny)) return true;
  const std::int64_t left = before.fetch_sub(1);
  const bool fails = all_behind ? left <= 0 : left == 0;
  if (fails) ++failures;
  return !fails;
}

void* take(std::size_t size, std::size_t alignment) noexcept {
  if (!granted(Resource::kNew)) return nullptr;
  void* data = nullptr;
  size = std::max<std::size_t>(size, 1);
  if (alignment <= alignof(std::max_align_t)) {
    data = std::malloc(size);
  } else if (::posix_memalign(&data, alignment, size) != 0) {
    data = nullptr;
  }
  if (data != nullptr) ++blocks;
  return data;
}

void* take_or_throw(std::size_t size, std::size_t alignment) {
  void* const data = take(size, alignment);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

void give_back(void* data) noexcept {
  if (data == nullptr) return;
  --blocks;
  std::free(data);
}

}  // namespace

Failure::Failure(Resource resource, std::int64_t k, bool onwards) noexcept {
  before = k - 1;
  all_behind = onwards;
  failures = 0;
  chosen = static_cast<int>(resource);
}

Failure::~Failure() { end(); }

void Failure::end() noexcept { chosen = -1; }

std::int64_t Failure::failed() const noexcept { return failures; }

Live live() noexcept { return {blocks, mapped}; }

std::int64_t requests(Resource resource) noexcept { return asked[static_cast<int>(resource)]; }

}  // namespace infobatch::testing

namespace testing = infobatch::testing;

// --- operator new in all its forms

constexpr std::size_t kUsual = alignof(std::max_align_t);

void* operator new(std::size_t size) { return testing::take_or_throw(size, kUsual); }
void* operator new[](std::size_t size) { return testing::take_or_throw(size, kUsual); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return testing::take(size, kUsual);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return testing::take(size, kUsual);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return testing::take_or_throw(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return testing::take_or_throw(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* data) noexcept { testing::give_back(data); }
void operator delete[](void* data) noexcept { testing::give_back(data); }
void operator delete(void* data, std::size_t) noexcept { testing::give_back(data); }
void operator delete[](void* data, std::size_t) noexcept { testing::give_back(data); }
void operator delete(void* data, const std::nothrow_t&) noexcept { testing::give_back(data); }
void operator delete[](void* data, const std::nothrow_t&) noexcept { testing::give_back(data); }
void operator delete(void* data, std::align_val_t) noexcept { testing::give_back(data); }
void operator delete[](void* data, std::align_val_t) noexcept { testing::give_back(data); }
void operator delete(void* data, std::size_t, std::align_val_t) noexcept {
  testing::give_back(data);
}
void operator delete[](void* data, std::size_t, std::align_val_t) noexcept {
  testing::give_back(data);
}

// --- calls of the system

#if defined(INFOBATCH_FAILURES_OF_THE_SYSTEM)

namespace {

template <typename Function>
Function* next_of(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

#define INFOBATCH_IN_FRONT extern "C" __attribute__((visibility("default")))

INFOBATCH_IN_FRONT int pthread_create(pthread_t* thread,
                                      const pthread_attr_t* options,
                                      void* (*run)(void*),
                                      void* argument) {
  using Create = int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static auto* const next = next_of<Create>("pthread_create");
  if (!testing::granted(testing::Resource::kThread)) return EAGAIN;
  return next(thread, options, run, argument);
}

INFOBATCH_IN_FRONT void* mmap(
    void* address, std::size_t length, int access, int flags, int file, off_t offset) noexcept {
  using Map = void*(void*, std::size_t, int, int, int, off_t);
  static auto* const next = next_of<Map>("mmap");
  if (!testing::granted(testing::Resource::kMap)) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  void* const data = next(address, length, access, flags, file, offset);
  if (data != MAP_FAILED) testing::mapped += static_cast<std::int64_t>(length);
  return data;
}

INFOBATCH_IN_FRONT int munmap(void* address, std::size_t length) noexcept {
  using Unmap = int(void*, std::size_t);
  static auto* const next = next_of<Unmap>("munmap");
  const int result = next(address, length);
  if (result == 0) testing::mapped -= static_cast<std::int64_t>(length);
  return result;
}

INFOBATCH_IN_FRONT void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  void* data = nullptr;
  if (!testing::granted(testing::Resource::kAligned) ||
      ::posix_memalign(&data, alignment, size) != 0) {
    errno = ENOMEM;
    return nullptr;
  }
  return data;
}

#endif
