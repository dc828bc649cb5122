#pragma once

// Failures of the system on demand: this program has an operator new, an aligned_alloc, an mmap and
// a pthread_create of its own in front of the system's.

#include <cstdint>

namespace infobatch::testing {

/// What may fail. With a sanitizer only operator new does: see tests/CMakeLists.txt.
enum class Resource { kNew, kAligned, kMap, kThread, kAny };
constexpr int kResources = 5;

constexpr const char* kResourceNames[] = {"new", "aligned_alloc", "mmap", "pthread_create", "any"};

/// While it lives, the k-th request (1, 2, ...) for a resource fails, or all from the k-th on. For
/// one at a time. Takes no memory.
class Failure {
 public:
  Failure(Resource resource, std::int64_t k, bool onwards) noexcept;
  ~Failure();
  Failure(const Failure&) = delete;
  Failure& operator=(const Failure&) = delete;

  /// No request fails any more.
  void end() noexcept;
  /// Requests that failed.
  std::int64_t failed() const noexcept;
};

/// Memory that was taken and not given back; that of aligned_alloc is not counted.
struct Live {
  std::int64_t blocks = 0;  ///< of operator new
  std::int64_t mapped = 0;  ///< bytes
};
Live live() noexcept;

/// Requests for a resource so far, also outside of a Failure.
std::int64_t requests(Resource resource) noexcept;

}  // namespace infobatch::testing
