#pragma once

#include <infobatch/export.h>

#include <string>
#include <string_view>
#include <vector>

namespace infobatch {

namespace detail {
struct StepFunctions;
}  // namespace detail

/// Loads the library of a device, so that sessions can be made for it (the last argument of
/// `Session`), and steps on its tensors are single kernels. It stays loaded.
///
/// @param library  "libinfobatch_cuda.so", which the system's loader looks for, or a path.
/// @return the name of its backend, "cuda"; also where it was loaded before.
/// @throws InvalidArgument  with the reason: no such file, another release of it, no driver, no
///                          device that it can use.
INFOBATCH_API std::string load_backend(const std::string& library);

/// Names of the backends there are; the first is "cpu".
INFOBATCH_API std::vector<std::string> backend_names();

/// The name of the backend whose device torch calls so ("cuda"); "" where none was loaded. For
/// bindings; takes no lock.
INFOBATCH_API const char* backend_on(std::string_view device_type) noexcept;

/// The kernels of a step on devices of this type, as torch names it ("cuda"); nullptr where no
/// backend has any. For bindings; takes no lock.
INFOBATCH_API const detail::StepFunctions* steps_on(std::string_view device_type) noexcept;

}  // namespace infobatch
