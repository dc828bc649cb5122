#pragma once

#include <infobatch/detail/backend.hpp>

namespace infobatch::testing {

/// Sessions work with this backend as long as it lives.
class WithBackend {
 public:
  explicit WithBackend(const detail::Backend& backend) : before_(detail::use_backend(&backend)) {}
  ~WithBackend() { detail::use_backend(before_); }
  WithBackend(const WithBackend&) = delete;
  WithBackend& operator=(const WithBackend&) = delete;

 private:
  const detail::Backend* before_;
};

}  // namespace infobatch::testing
