#include <tests/cuda/sim/control.hpp>
#include <tests/cuda/sim/runtime_state.hpp>

#include <exception>
#include <map>
#include <utility>

namespace {
thread_local cudaError_t last_error = cudaSuccess;

struct Text {
  cudaError_t error;
  const char *name, *text;
};
constexpr Text kTexts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration,
     "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection,
     "cudaErrorInvalidMemcpyDirection",
     "invalid copy direction for memcpy"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress,
     "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources,
     "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported,
     "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated,
     "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge,
     "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched,
     "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined,
     "cudaErrorStreamCaptureUnjoined",
     "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation,
     "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit,
     "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent,
     "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

struct Injected {
  sim::Injection injection;
  std::uint64_t seen = 0;
};
std::vector<Injected> injections;
std::map<sim::Call, std::uint64_t> call_counts;
}  // namespace

namespace sim {
namespace detail {

cudaError_t note_error(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t injected(Call call, bool* while_running) {
  ++call_counts[call];
  ++call_counts[Call::kAny];
  cudaError_t error = cudaSuccess;
  for (Injected& each : injections) {
    const Injection& injection = each.injection;
    if (injection.call != Call::kAny && injection.call != call) continue;
    ++each.seen;
    if (each.seen != injection.at && !(injection.from_there_on && each.seen > injection.at))
      continue;
    if (injection.while_running) {
      // Of calls that queue something; the others have nothing that runs.
      if (while_running == nullptr) continue;
      *while_running = true;
    }
    if (error == cudaSuccess) error = injection.error;
  }
  return error;
}

void notice(const std::string& fault) {
  Runtime& R = runtime();
  if (R.fault.empty()) R.fault = fault;
  if (R.device.faults == Faults::kReport) {
    R.lost = cudaErrorLaunchFailure;
  } else if (R.must_not_throw == 0 && std::uncaught_exceptions() == 0) {
    throw Fault(fault);
  } else if (R.fault_to_throw.empty()) {
    R.fault_to_throw = fault;
  }
}
void throw_what_waits() {
  Runtime& R = runtime();
  if (R.fault_to_throw.empty() || std::uncaught_exceptions() > 0) return;
  throw Fault(std::exchange(R.fault_to_throw, {}));
}

void called_from_a_kernel() { throw Fault("a kernel calls the runtime"); }

}  // namespace detail

void inject(Injection injection) { injections.push_back({injection}); }
void clear_injections() { injections.clear(); }
std::uint64_t calls(Call call) { return call_counts[call]; }
std::string last_fault() { return detail::runtime().fault; }

void reset() {
  detail::Runtime& R = detail::runtime();
  const std::lock_guard<std::recursive_mutex> lock(R.mutex);
  R.device = Device{};
  detail::clear_graphs();
  ++R.must_not_throw;
  detail::clear_streams();
  --R.must_not_throw;
  std::string wrong = detail::clear_memory();
  if (!R.fault_to_throw.empty()) wrong = std::exchange(R.fault_to_throw, {});
  R.statistics = Statistics{};
  R.lost = cudaSuccess;
  R.fault.clear();
  R.most_dynamic = 0;
  injections.clear();
  call_counts.clear();
  last_error = cudaSuccess;
  schedule() = Schedule{};
  if (!wrong.empty()) throw Fault(wrong);
}

}  // namespace sim

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() {
  const cudaError_t lost = sim::detail::runtime().lost;
  return lost != cudaSuccess ? lost : last_error;
}
const char* cudaGetErrorName(cudaError_t error) {
  for (const Text& text : kTexts) {
    if (text.error == error) return text.name;
  }
  return "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) {
  for (const Text& text : kTexts) {
    if (text.error == error) return text.text;
  }
  return "unrecognized error code";
}
