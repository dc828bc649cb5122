#pragma once

#include <cfenv>

#if defined(__SSE__)
#include <immintrin.h>
#endif

namespace infobatch::detail {

/// The default floating-point environment of this thread as long as the object lives: rounding to
/// nearest, denormal numbers as they are, no traps. Then the caller's is back, exception flags
/// included, whatever was computed meanwhile.
///
/// A program may run with another one, say with denormal numbers flushed to zero, for the speed of
/// its own arithmetic; plans and states must not depend on it. So every entry that computes with
/// floating-point numbers begins with one of these. New threads inherit the environment.
///
/// @note Some tens of nanoseconds; they nest.
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() noexcept {
    std::fegetenv(&callers_);
    std::fesetenv(FE_DFL_ENV);
#if defined(__SSE__)
    _mm_setcsr(kDefaultControl);  // not every C library clears the flush bits
#endif
  }
  ~DefaultFloatEnvironment() {
    std::fesetenv(&callers_);
#if defined(__SSE__)
    _mm_setcsr(callers_control_);
#endif
  }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

 private:
#if defined(__SSE__)
  static constexpr unsigned kDefaultControl = 0x1f80;  // nearest, all exceptions masked
  unsigned callers_control_ = _mm_getcsr();
#endif
  std::fenv_t callers_;
};

}  // namespace infobatch::detail
