// Streams: queues of operations, and what makes them run. Events are points in them.
#include <tests/cuda/sim/memory.hpp>
#include <tests/cuda/sim/runtime_state.hpp>

#include <algorithm>

namespace sim::detail {
namespace {

void forget_streams_without_work() {
  auto& streams = runtime().streams;
  streams.erase(std::remove_if(streams.begin(),
                               streams.end(),
                               [](const std::shared_ptr<Stream>& s) {
                                 return s->destroyed && s->queue.empty();
                               }),
                streams.end());
}

/// While an operation runs, ThreadSanitizer sees the stream at work, ordered behind the call that
/// has queued the operation and behind what the operation waits for; nothing else orders it.
class StreamFiber {
 public:
  StreamFiber(Stream& stream, Operation& operation) : operation_(operation) {
    if (!with_thread_sanitizer() || runtime().in_stream_fiber) return;
    before_ = __tsan_get_current_fiber();
    if (stream.tsan == nullptr) {
      stream.tsan = __tsan_create_fiber(0);
      __tsan_set_fiber_name(stream.tsan, "stream");
    }
    __tsan_switch_to_fiber(stream.tsan, 1);
    runtime().in_stream_fiber = true;
    acquire(operation.queued.get());
    for (const Point& point : operation.after) {
      if (point.done != nullptr) acquire(point.done.get());
    }
    look_away(true);
  }
  ~StreamFiber() {
    if (before_ == nullptr) return;
    // Here, out of sight: the host does not wait before it forgets the operation.
    operation_.run = operation_.prepare = operation_.drop = nullptr;
    look_away(false);
    release(operation_.done.get());
    runtime().in_stream_fiber = false;
    __tsan_switch_to_fiber(before_, 1);
  }
  StreamFiber(const StreamFiber&) = delete;
  StreamFiber& operator=(const StreamFiber&) = delete;

 private:
  Operation& operation_;
  void* before_ = nullptr;
};

void run(Stream& stream, Operation& operation) {
  Runtime& R = runtime();
  if (R.lost != cudaSuccess) {
    if (operation.drop) operation.drop();
    return;
  }
  const StreamFiber fiber(stream, operation);
  struct Access {
    bool guarded = runtime().device.guard_device_memory;
    Access() {
      runtime().running = true;
      if (guarded) guard_device_memory(false);
    }
    ~Access() {
      runtime().running = false;
      if (guarded) guard_device_memory(true);
    }
  } const access;
  try {
    if (operation.run) operation.run();
  } catch (const Fault& fault) {
    notice(fault.what());
  } catch (const Lost& lost) {
    R.lost = lost.error;
  }
}

/// The first of the queue, and what it waits for.
void run_one(Stream& stream) {
  Operation operation = std::move(stream.queue.front());
  stream.queue.pop_front();
  struct Done {
    Stream& stream;
    ~Done() { ++stream.done; }
  } const done{stream};
  for (const Point& point : operation.after) run_until(*point.stream, point.number);
  run(stream, operation);
}

std::vector<std::shared_ptr<Stream>> all_streams() {
  Runtime& R = runtime();
  std::vector<std::shared_ptr<Stream>> all = R.streams;
  if (R.legacy != nullptr) all.push_back(R.legacy);
  return all;
}

}  // namespace

void run_until(Stream& stream, std::uint64_t number) {
  // An operation that is being run has been taken off the queue: whoever waits for it runs inside
  // it.
  while (stream.done < number && !stream.queue.empty()) run_one(stream);
}

void wait_until(const Point& point) {
  if (point.stream == nullptr) return;
  run_until(*point.stream, point.number);
  if (point.done != nullptr) acquire(point.done.get());
}
Point end_of(const std::shared_ptr<Stream>& stream) {
  return {stream, stream->queued, stream->last_done};
}

void run_all() {
  for (const auto& stream : all_streams()) wait_until(end_of(stream));
  forget_streams_without_work();
}

void run_by_chance() {
  Runtime& R = runtime();
  if (R.device.streams != Streams::kRandom || R.running) return;
  while (R.random() % 4 == 0) {
    std::vector<std::shared_ptr<Stream>> busy;
    for (const auto& stream : all_streams()) {
      if (!stream->queue.empty()) busy.push_back(stream);
    }
    if (busy.empty()) return;
    run_one(*busy[R.random() % busy.size()]);
  }
}

std::shared_ptr<Stream> stream_of(cudaStream_t handle) {
  Runtime& R = runtime();
  if (handle == nullptr || handle == cudaStreamLegacy) {
    if (R.legacy == nullptr) R.legacy = std::make_shared<Stream>();
    return R.legacy;
  }
  for (const auto& stream : R.streams) {
    if (stream.get() == handle && !stream->destroyed) return stream;
  }
  return nullptr;
}

void count(const Operation& operation) {
  if (operation.kernel.empty()) return;
  ++runtime().statistics.launches;
  ++runtime().statistics.launches_of[operation.kernel];
}

cudaError_t queue(const std::shared_ptr<Stream>& stream, Operation operation, Call call) {
  Runtime& R = runtime();
  operation.call = call;
  if (stream->capture != nullptr) {
    if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
    operation.after.clear();
    stream->capture->operations.push_back(std::move(operation));
    stream->capture_unjoined = !stream->capture_origin;
    return cudaSuccess;
  }
  const bool is_legacy = stream == R.legacy;
  if (is_legacy) {
    for (const auto& other : R.streams) {
      if (!other->blocking) continue;
      if (other->capture != nullptr) {
        other->capture->invalid = true;
        return cudaErrorStreamCaptureImplicit;
      }
      operation.after.push_back(end_of(other));
    }
  } else if (stream->blocking && R.legacy != nullptr) {
    operation.after.push_back(end_of(R.legacy));
  }
  for (Point& point : stream->next_after) operation.after.push_back(std::move(point));
  stream->next_after.clear();
  count(operation);
  if (R.device.streams != Streams::kImmediate && operation.prepare) operation.prepare();
  if (with_thread_sanitizer()) {
    operation.queued = make_mark();
    operation.done = stream->last_done = make_mark();
    release(operation.queued.get());
  }
  stream->queue.push_back(std::move(operation));
  ++stream->queued;
  if (R.device.streams == Streams::kImmediate) run_until(*stream, stream->queued);
  return cudaSuccess;
}
cudaError_t queue(cudaStream_t handle, Operation operation, Call call) {
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  return queue(stream, std::move(operation), call);
}

cudaError_t refuse_while_capturing(Stream* stream) {
  if (stream != nullptr && stream->capture != nullptr) {
    stream->capture->invalid = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  if (stream != nullptr && stream != runtime().legacy.get()) return cudaSuccess;
  // The default stream, and the whole device, would wait for the streams that capture.
  for (const auto& other : runtime().streams) {
    if (other->capture == nullptr || (stream != nullptr && !other->blocking)) continue;
    other->capture->invalid = true;
    return stream != nullptr ? cudaErrorStreamCaptureImplicit : cudaErrorStreamCaptureUnsupported;
  }
  return cudaSuccess;
}

void clear_streams() {
  Runtime& R = runtime();
  for (const auto& stream : all_streams()) {
    if (stream->last_done != nullptr) acquire(stream->last_done.get());
    while (!stream->queue.empty()) {
      const Operation operation = std::move(stream->queue.front());
      stream->queue.pop_front();
      if (operation.drop) operation.drop();
    }
  }
  R.legacy = nullptr;
  R.streams.clear();
  for (CUevent_st* const event : R.events) delete event;
  R.events.clear();
}

}  // namespace sim::detail

namespace sim {

std::size_t pending_operations() {
  const std::lock_guard<std::recursive_mutex> lock(detail::runtime().mutex);
  std::size_t pending = 0;
  for (const auto& stream : detail::all_streams()) pending += stream->queue.size();
  return pending;
}

}  // namespace sim

using sim::Call;
using sim::detail::call;
using sim::detail::call_that_frees;
using sim::detail::Operation;
using sim::detail::refuse_while_capturing;
using sim::detail::runtime;
using sim::detail::stream_of;

namespace {

bool known(cudaEvent_t event) {
  const auto& events = runtime().events;
  return std::find(events.begin(), events.end(), event) != events.end();
}
/// Whether all up to `number` has run. Asking makes the device go on, so that a loop of questions
/// ends.
cudaError_t query(const sim::detail::Point& point) {
  if (point.stream->done >= point.number) {
    sim::detail::wait_until(point);
    return cudaSuccess;
  }
  sim::detail::run_one(*point.stream);
  return cudaErrorNotReady;
}

}  // namespace

cudaError_t cudaDeviceSynchronize() {
  return call(Call::kDeviceSynchronize, [] {
    const cudaError_t refused = refuse_while_capturing(nullptr);
    if (refused != cudaSuccess) return refused;
    ++runtime().statistics.synchronisations;
    sim::detail::run_all();
    return cudaSuccess;
  });
}
cudaError_t cudaStreamCreate(cudaStream_t* pStream) {
  return cudaStreamCreateWithFlags(pStream, cudaStreamDefault);
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* pStream, unsigned flags) {
  return call(Call::kStreamCreate, [&] {
    if (pStream == nullptr || flags > cudaStreamNonBlocking) return cudaErrorInvalidValue;
    auto stream = std::make_shared<sim::detail::Stream>();
    stream->blocking = flags == cudaStreamDefault;
    *pStream = stream.get();
    runtime().streams.push_back(std::move(stream));
    return cudaSuccess;
  });
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return call_that_frees(Call::kStreamDestroy, [&] {
    const auto found = stream_of(stream);
    if (found == nullptr || found == runtime().legacy) return cudaErrorInvalidResourceHandle;
    if (found->capture != nullptr) return cudaErrorStreamCaptureUnsupported;
    found->destroyed = true;  // its work is done nevertheless
    sim::detail::forget_streams_without_work();
    return cudaSuccess;
  });
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return call(Call::kStreamSynchronize, [&] {
    const auto found = stream_of(stream);
    if (found == nullptr) return cudaErrorInvalidResourceHandle;
    const cudaError_t refused = refuse_while_capturing(found.get());
    if (refused != cudaSuccess) return refused;
    ++runtime().statistics.synchronisations;
    if (found == runtime().legacy) {
      for (const auto& other : sim::detail::all_streams()) {
        if (other->blocking) sim::detail::wait_until(sim::detail::end_of(other));
      }
    }
    sim::detail::wait_until(sim::detail::end_of(found));
    return cudaSuccess;
  });
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return call(Call::kStreamQuery, [&] {
    const auto found = stream_of(stream);
    if (found == nullptr) return cudaErrorInvalidResourceHandle;
    const cudaError_t refused = refuse_while_capturing(found.get());
    return refused != cudaSuccess ? refused : query(sim::detail::end_of(found));
  });
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  return call(Call::kStreamWaitEvent, [&] {
    const auto found = stream_of(stream);
    if (found == nullptr || !known(event)) return cudaErrorInvalidResourceHandle;
    if (flags != cudaEventWaitDefault) return cudaErrorInvalidValue;
    if (event->capture != nullptr) {
      // The stream takes part in the capture, or hears of a stream that does.
      if (found->capture == nullptr) {
        if (found == runtime().legacy) return cudaErrorStreamCaptureImplicit;
        found->capture = event->capture;
        event->capture->streams.push_back(found);
      } else if (found->capture != event->capture) {
        return cudaErrorStreamCaptureMerge;
      }
      if (event->captured_stream != found.get()) event->captured_stream->capture_unjoined = false;
      if (!found->capture_origin) found->capture_unjoined = true;
      return cudaSuccess;
    }
    if (found->capture != nullptr) {
      if (event->point.stream == nullptr) return cudaSuccess;
      found->capture->invalid = true;
      return cudaErrorStreamCaptureIsolation;
    }
    if (event->point.stream != nullptr) found->next_after.push_back(event->point);
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return call(Call::kEventCreate, [&] {
    if (event == nullptr || flags > (cudaEventBlockingSync | cudaEventDisableTiming)) {
      return cudaErrorInvalidValue;
    }
    *event = new CUevent_st;
    runtime().events.push_back(*event);
    return cudaSuccess;
  });
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return call(Call::kEventRecord, [&] {
    const auto found = stream_of(stream);
    if (found == nullptr || !known(event)) return cudaErrorInvalidResourceHandle;
    event->capture = found->capture;
    event->captured_stream = found.get();
    event->point = {};
    if (found->capture != nullptr) {
      return found->capture->invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    }
    // An operation of its own: it also waits for what the stream has been told to wait for.
    const cudaError_t error = sim::detail::queue(found, Operation{}, Call::kEventRecord);
    event->point = sim::detail::end_of(found);
    return error;
  });
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return call(Call::kEventQuery, [&] {
    if (!known(event)) return cudaErrorInvalidResourceHandle;
    if (event->capture != nullptr) return cudaErrorCapturedEvent;
    if (event->point.stream == nullptr) return cudaSuccess;
    return query(event->point);
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return call(Call::kEventSynchronize, [&] {
    if (!known(event)) return cudaErrorInvalidResourceHandle;
    if (event->capture != nullptr) {
      event->capture->invalid = true;
      return cudaErrorCapturedEvent;
    }
    ++runtime().statistics.synchronisations;
    sim::detail::wait_until(event->point);
    return cudaSuccess;
  });
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return call_that_frees(Call::kEventDestroy, [&] {
    if (!known(event)) return cudaErrorInvalidResourceHandle;
    auto& events = runtime().events;
    events.erase(std::find(events.begin(), events.end(), event));
    delete event;
    return cudaSuccess;
  });
}
