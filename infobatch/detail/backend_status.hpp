#pragma once

#include <infobatch/detail/step_functions.hpp>
#include <infobatch/error.hpp>

#include <cstring>
#include <exception>
#include <new>

namespace infobatch::detail {

/// Cut where it is too long.
inline void set_text(BackendError* error, const char* text) noexcept {
  std::strncpy(error->text, text, sizeof(error->text) - 1);
  error->text[sizeof(error->text) - 1] = '\0';
}

/// What a function of a backend's table answers for `call`, of which it lets no exception out.
template <typename Call>
BackendStatus status_of(BackendError* error, const Call& call) noexcept {
  try {
    call();
    return BackendStatus::kDone;
  } catch (const std::bad_alloc&) {
    return BackendStatus::kNoMemory;
  } catch (const InvalidArgument& invalid) {
    set_text(error, invalid.what());
    return BackendStatus::kInvalid;
  } catch (const std::exception& failure) {
    set_text(error, failure.what());
    return BackendStatus::kFailed;
  }
}

}  // namespace infobatch::detail
