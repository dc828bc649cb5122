#pragma once

// What the twin of the runtime knows: streams and their queues, memory, errors.
#include <tests/cuda/sim/control.hpp>
#include <tests/cuda/sim/random.hpp>
#include <tests/cuda/sim/runtime.hpp>
#include <tests/cuda/sim/sanitizers.hpp>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace sim::detail {

using Stream = CUstream_st;
using Graph = CUgraph_st;

/// An operation of a stream: all up to it have run when `number` of them are done.
struct Point {
  std::shared_ptr<Stream> stream;
  std::uint64_t number = 0;
  Mark done;
};
struct Operation {
  Call call = Call::kAny;
  std::string kernel;             ///< of a launch
  std::function<void()> run;      ///< may be empty
  std::function<void()> prepare;  ///< when it is queued, if it does not run at once; may be empty
  std::function<void()> drop;     ///< when it will never run; may be empty
  std::vector<Point> after;
  Mark queued, done;
};
/// Thrown by an operation that fails while it runs.
struct Lost {
  cudaError_t error;
};

struct Runtime {
  std::recursive_mutex mutex;
  Device device;
  Statistics statistics;
  cudaError_t lost = cudaSuccess;  ///< every call returns it from then on
  std::string fault;
  std::string fault_to_throw;  ///< at the next call that may
  int must_not_throw = 0;
  Random random;
  bool running = false;          ///< an operation runs
  bool in_stream_fiber = false;  ///< as ThreadSanitizer sees it

  std::shared_ptr<Stream> legacy;  ///< the default stream
  std::vector<std::shared_ptr<Stream>>
      streams;  ///< of cudaStreamCreate, and destroyed ones with work
  std::vector<CUevent_st*> events;
  std::vector<CUgraph_st*> graphs;
  std::vector<CUgraphExec_st*> graph_execs;
  int most_dynamic = 0;  ///< by cudaFuncSetAttribute
};
Runtime& runtime();

/// The failure injected into this call of `call`, if there is one. Counts the call.
cudaError_t injected(Call call, bool* while_running);
cudaError_t note_error(cudaError_t error);
/// Throws or loses the device, as the settings say.
void notice(const std::string& fault);
void throw_what_waits();
/// Runs something, when streams are in random mode.
void run_by_chance();
[[noreturn]] void called_from_a_kernel();
bool in_a_kernel();  ///< this thread of the host

/// Every function of the runtime: counts, injects, refuses, and notes the error.
template <typename Body>
cudaError_t call(Call kind, Body body) {
  if (in_a_kernel()) called_from_a_kernel();
  const std::lock_guard<std::recursive_mutex> lock(runtime().mutex);
  throw_what_waits();
  const cudaError_t error = injected(kind, nullptr);
  if (error != cudaSuccess) return note_error(error);
  if (runtime().device.devices == 0) return note_error(cudaErrorNoDevice);
  if (runtime().lost != cudaSuccess) return note_error(runtime().lost);
  run_by_chance();
  const cudaError_t result = body();
  return note_error(runtime().lost != cudaSuccess ? runtime().lost : result);
}
/// Functions that free: they do so even where they report an error, which is then one of work
/// before.
template <typename Body>
cudaError_t call_that_frees(Call kind, Body body) {
  if (in_a_kernel()) called_from_a_kernel();
  const std::lock_guard<std::recursive_mutex> lock(runtime().mutex);
  const cudaError_t error = injected(kind, nullptr);
  ++runtime().must_not_throw;
  if (runtime().lost == cudaSuccess) run_by_chance();
  const cudaError_t result = body();
  --runtime().must_not_throw;
  if (error != cudaSuccess) return note_error(error);
  return note_error(runtime().lost != cudaSuccess ? runtime().lost : result);
}

/// The stream of a handle; null: no such stream.
std::shared_ptr<Stream> stream_of(cudaStream_t handle);
/// Into the queue of the stream (where it may run at once), or into the graph that it captures.
cudaError_t queue(const std::shared_ptr<Stream>& stream, Operation operation, Call call);
cudaError_t queue(cudaStream_t handle, Operation operation, Call call);
void run_until(Stream& stream, std::uint64_t number);
/// The host waits: run_until, and what has been done is before what the host does next.
void wait_until(const Point& point);
/// Where the stream stands after all that has been queued.
Point end_of(const std::shared_ptr<Stream>& stream);
/// What an operation does to memory, for ThreadSanitizer to see: the bookkeeping around it is
/// hidden.
template <typename Body>
void visibly(Body body) {
  const bool hidden = runtime().in_stream_fiber;
  if (hidden) look_away(false);
  body();
  if (hidden) look_away(true);
}
void run_all();
void count(const Operation& operation);
/// While `stream`, or with the default stream any, captures: the host must not wait.
cudaError_t refuse_while_capturing(Stream* stream);
/// Calls that may wait for the device, and allocate, are unsafe while a capture is on.
cudaError_t refuse_unsafe();

void clear_streams();
void clear_graphs();
/// @return what was wrong with the memory; empty when nothing was.
std::string clear_memory();
/// The host may, or may not, touch the device's memory.
void guard_device_memory(bool forbidden);
/// @throws Fault  with only_device_pointers: a pointer that leads to no live memory.
void check_pointers(const std::string& kernel, const std::vector<const void*>& pointers);

}  // namespace sim::detail

struct CUstream_st {
  CUstream_st() = default;
  CUstream_st(const CUstream_st&) = delete;
  CUstream_st& operator=(const CUstream_st&) = delete;
  ~CUstream_st() {
    if (tsan != nullptr) __tsan_destroy_fiber(tsan);
  }

  bool blocking = true;  ///< it and the default stream wait for each other
  bool destroyed = false;
  std::uint64_t queued = 0, done = 0;
  std::deque<sim::detail::Operation> queue;
  sim::detail::Mark last_done;                 ///< of the last operation queued
  void* tsan = nullptr;                        ///< each stream is a flow of control of its own
  std::vector<sim::detail::Point> next_after;  ///< what the next operation waits for
  CUgraph_st* capture = nullptr;
  bool capture_origin = false, capture_unjoined = false;
};
struct CUevent_st {
  sim::detail::Point point;
  CUgraph_st* capture = nullptr;  ///< recorded in a stream that captured
  CUstream_st* captured_stream = nullptr;
};
struct CUgraph_st {
  std::vector<sim::detail::Operation> operations;
  bool invalid = false, unsafe_forbidden = false, capturing = true;
  std::vector<std::shared_ptr<CUstream_st>> streams;  ///< that take part while it captures
};
struct CUgraphExec_st {
  std::shared_ptr<std::vector<sim::detail::Operation>> operations;
};
