// Linked into the program that tests a real device: where there is none, it says so and ends with
// the status that CTest takes for "skipped".
#include <cuda_kernels/backend.hpp>

#include <cstdio>
#include <cstdlib>

namespace {

[[maybe_unused]] const bool device_is_there = [] {
  const char* const why = infobatch::cuda::why_no_device();
  if (why == nullptr) return true;
  std::printf("skipped: %s\n", why);
  std::fflush(stdout);
  std::_Exit(77);
}();

}  // namespace
