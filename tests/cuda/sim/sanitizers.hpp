#pragma once

// What AddressSanitizer and ThreadSanitizer are told by hand: fibers, the order that barriers make,
// and memory that nobody may touch. The functions are weak: a program without a sanitizer has none.
#include <cstddef>
#include <cstring>
#include <memory>

extern "C" {
__attribute__((weak)) void* __tsan_get_current_fiber();
__attribute__((weak)) void* __tsan_create_fiber(unsigned flags);
__attribute__((weak)) void __tsan_destroy_fiber(void* fiber);
__attribute__((weak)) void __tsan_switch_to_fiber(void* fiber, unsigned flags);
__attribute__((weak)) void __tsan_set_fiber_name(void* fiber, const char* name);
__attribute__((weak)) void __tsan_acquire(void* address);
__attribute__((weak)) void __tsan_release(void* address);
__attribute__((weak)) void AnnotateIgnoreReadsBegin(const char* file, int line);
__attribute__((weak)) void AnnotateIgnoreReadsEnd(const char* file, int line);
__attribute__((weak)) void AnnotateIgnoreWritesBegin(const char* file, int line);
__attribute__((weak)) void AnnotateIgnoreWritesEnd(const char* file, int line);
__attribute__((weak)) void __sanitizer_start_switch_fiber(void** fake_stack_save,
                                                          const void* bottom,
                                                          std::size_t size);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void* fake_stack_save,
                                                           const void** bottom_old,
                                                           std::size_t* size_old);
__attribute__((weak)) void __asan_poison_memory_region(const volatile void* address,
                                                       std::size_t size);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void* address,
                                                         std::size_t size);
__attribute__((weak)) void* __asan_region_is_poisoned(void* address, std::size_t size);
__attribute__((weak)) void __asan_get_shadow_mapping(std::size_t* scale, std::size_t* offset);
}

namespace sim::detail {

inline bool with_thread_sanitizer() { return __tsan_switch_to_fiber != nullptr; }
inline bool with_address_sanitizer() { return __asan_poison_memory_region != nullptr; }

/// All that happened before a release of `mark` is before all that happens after an acquire.
inline void release(void* mark) {
  if (__tsan_release != nullptr) __tsan_release(mark);
}
inline void acquire(void* mark) {
  if (__tsan_acquire != nullptr) __tsan_acquire(mark);
}
inline void forbid(const void* address, std::size_t bytes) {
  if (__asan_poison_memory_region != nullptr) __asan_poison_memory_region(address, bytes);
}
inline void allow(const void* address, std::size_t bytes) {
  if (__asan_unpoison_memory_region != nullptr) __asan_unpoison_memory_region(address, bytes);
}

/// What ThreadSanitizer takes for the beginning and the end of an order; the memory must not be
/// reused.
using Mark = std::shared_ptr<char>;
inline Mark make_mark() { return with_thread_sanitizer() ? std::make_shared<char>() : nullptr; }

/// ThreadSanitizer looks away, or for a moment looks again.
inline void look_away(bool away) {
  if (!with_thread_sanitizer()) return;
  if (away) {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  } else {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
}

/// memset that ThreadSanitizer does not see: it would take the emulation's own work for the
/// thread's.
inline void fill_unseen(void* address, unsigned char byte, std::size_t bytes) {
  if (!with_thread_sanitizer()) {
    std::memset(address, byte, bytes);
    return;
  }
  volatile unsigned char* const to = static_cast<volatile unsigned char*>(address);
  for (std::size_t i = 0; i < bytes; ++i) to[i] = byte;
}

}  // namespace sim::detail
