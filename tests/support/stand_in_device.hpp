#pragma once

// A device of torch without hardware: PrivateUse1 over host memory, named "stand_in". It says what
// a GPU would not: how many kernels were launched, how often the host waited, what was copied
// where.

#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <vector>

namespace infobatch::testing {

/// What the device was asked for.
struct DeviceFigures {
  std::int64_t launches = 0;  ///< operations on its memory, copies within it included
  std::int64_t waits = 0;     ///< the host waited: a copy to it, a blocking one from it, item()
  std::int64_t copies_to_host = 0;  ///< of one element or more
  std::int64_t copies_from_host = 0;
  std::vector<std::string> names;  ///< of the operations launched
};

/// The device of this index, 0 or 1. The first call registers the back end, for good.
c10::Device stand_in_device(int index = 0);

/// Whether a backend was loaded for it: environment variable INFOBATCH_TEST_BACKEND. What its
/// kernels launch is not among the figures.
bool has_kernels();

/// Since the last `reset_device_figures`, over all indices.
DeviceFigures device_figures();
void reset_device_figures();

/// While one lives, whatever would make the host wait for the device throws c10::Error, on every
/// thread.
class RefuseWaits {
 public:
  RefuseWaits();
  ~RefuseWaits();
  RefuseWaits(const RefuseWaits&) = delete;
  RefuseWaits& operator=(const RefuseWaits&) = delete;
};

}  // namespace infobatch::testing
