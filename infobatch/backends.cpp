#include <infobatch/backends.hpp>
#include <infobatch/detail/backend.hpp>
#include <infobatch/error.hpp>
#include <infobatch/version.hpp>

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#define INFOBATCH_HAS_DLOPEN 1
#endif

namespace infobatch {
namespace {

using detail::message;

/// What a library of a device exports: its table, or nullptr and the reason in `reason`.
using BackendOf = const detail::Backend* (*)(const char* release, detail::BackendError* reason);
constexpr char kBackendOf[] = "infobatch_backend";

[[noreturn]] void refuse(const std::string& library, const char* reason) {
  throw InvalidArgument(message("load_backend: ", library, ": ", reason));
}

}  // namespace

std::string load_backend(const std::string& library) {
#if defined(INFOBATCH_HAS_DLOPEN)
  void* const handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* const error = dlerror();  // NOLINT(concurrency-mt-unsafe): one text a thread
    refuse(library, error != nullptr ? error : "it cannot be loaded");
  }
  const auto backend_of = reinterpret_cast<BackendOf>(dlsym(handle, kBackendOf));
  if (backend_of == nullptr) {
    dlclose(handle);
    refuse(library, "no library of a device for InfoBatch");
  }
  detail::BackendError reason{};
  const detail::Backend* const backend = backend_of(INFOBATCH_VERSION, &reason);
  if (backend == nullptr) {
    dlclose(handle);
    refuse(library, reason.text);
  }
  detail::add_backend(*backend);
  return backend->name;
#else
  refuse(library, "libraries of devices are loaded on Unix systems alone");
#endif
}

std::vector<std::string> backend_names() {
  std::vector<std::string> names;
  for (const detail::Backend* const backend : detail::backends()) names.emplace_back(backend->name);
  return names;
}

const char* backend_on(std::string_view device_type) noexcept {
  const detail::Backend* const backend = detail::find_device(device_type);
  return backend != nullptr ? backend->name : "";
}

const detail::StepFunctions* steps_on(std::string_view device_type) noexcept {
  const detail::Backend* const backend = detail::find_device(device_type);
  return backend != nullptr ? backend->steps : nullptr;
}

}  // namespace infobatch
