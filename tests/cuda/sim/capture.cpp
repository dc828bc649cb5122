// The capture of streams into graphs. A graph runs what was captured one after the other, in the
// order of the calls.
#include <tests/cuda/sim/runtime_state.hpp>

#include <algorithm>

namespace sim::detail {

cudaError_t refuse_unsafe() {
  Runtime& R = runtime();
  cudaError_t error = cudaSuccess;
  for (CUgraph_st* const graph : R.graphs) {
    if (!graph->capturing || !graph->unsafe_forbidden) continue;
    graph->invalid = true;
    error = cudaErrorStreamCaptureUnsupported;
  }
  return error;
}

void clear_graphs() {
  Runtime& R = runtime();
  for (CUgraph_st* const graph : R.graphs) {
    for (const auto& stream : graph->streams) stream->capture = nullptr;
    delete graph;
  }
  for (CUgraphExec_st* const exec : R.graph_execs) delete exec;
  R.graphs.clear();
  R.graph_execs.clear();
}

namespace {

/// Out of ThreadSanitizer's sight: the host need not have waited for its last run.
template <typename T>
void discard(T* one) {
  look_away(true);
  delete one;
  look_away(false);
}
template <typename T>
bool take(std::vector<T*>& all, T* one) {
  const auto it = std::find(all.begin(), all.end(), one);
  if (it == all.end()) return false;
  all.erase(it);
  return true;
}

/// The streams go back to their own work.
void end_capture(CUgraph_st& graph) {
  for (const auto& stream : graph.streams) {
    stream->capture = nullptr;
    stream->capture_origin = stream->capture_unjoined = false;
  }
  for (CUevent_st* const event : runtime().events) {
    if (event->capture == &graph) event->capture = nullptr;
  }
  graph.streams.clear();
  graph.capturing = false;
}

}  // namespace
}  // namespace sim::detail

using sim::Call;
using sim::detail::call;
using sim::detail::call_that_frees;
using sim::detail::Operation;
using sim::detail::runtime;
using sim::detail::stream_of;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return call(Call::kBeginCapture, [&] {
    const auto found = stream_of(stream);
    if (found == nullptr) return cudaErrorInvalidResourceHandle;
    if (found == runtime().legacy) return cudaErrorStreamCaptureUnsupported;
    if (found->capture != nullptr) return cudaErrorInvalidValue;
    auto* const graph = new CUgraph_st;
    graph->unsafe_forbidden = mode != cudaStreamCaptureModeRelaxed;
    graph->streams.push_back(found);
    runtime().graphs.push_back(graph);
    found->capture = graph;
    found->capture_origin = true;
    found->capture_unjoined = false;
    return cudaSuccess;
  });
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* pGraph) {
  return call(Call::kEndCapture, [&] {
    if (pGraph == nullptr) return cudaErrorInvalidValue;
    *pGraph = nullptr;
    const auto found = stream_of(stream);
    if (found == nullptr) return cudaErrorInvalidResourceHandle;
    if (found->capture == nullptr) return cudaErrorInvalidValue;
    if (!found->capture_origin) return cudaErrorStreamCaptureUnmatched;
    CUgraph_st* const graph = found->capture;
    cudaError_t error = graph->invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    for (const auto& other : graph->streams) {
      if (other->capture_unjoined && error == cudaSuccess) error = cudaErrorStreamCaptureUnjoined;
    }
    sim::detail::end_capture(*graph);
    if (error != cudaSuccess) {
      sim::detail::take(runtime().graphs, graph);
      delete graph;
      return error;
    }
    *pGraph = graph;
    return cudaSuccess;
  });
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* pCaptureStatus) {
  return call(Call::kAny, [&] {
    const auto found = stream_of(stream);
    if (found == nullptr) return cudaErrorInvalidResourceHandle;
    if (pCaptureStatus == nullptr) return cudaErrorInvalidValue;
    *pCaptureStatus = found->capture == nullptr ? cudaStreamCaptureStatusNone
                      : found->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                                : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  });
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* pGraphExec,
                                 cudaGraph_t graph,
                                 unsigned long long flags) {
  return call(Call::kGraphInstantiate, [&] {
    const auto& graphs = runtime().graphs;
    const bool known = std::find(graphs.begin(), graphs.end(), graph) != graphs.end();
    if (pGraphExec == nullptr || !known || flags != 0) return cudaErrorInvalidValue;
    *pGraphExec = new CUgraphExec_st;
    (*pGraphExec)->operations = std::make_shared<std::vector<Operation>>(graph->operations);
    runtime().graph_execs.push_back(*pGraphExec);
    return cudaSuccess;
  });
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graphExec, cudaStream_t stream) {
  return call(Call::kGraphLaunch, [&] {
    const auto& execs = runtime().graph_execs;
    if (std::find(execs.begin(), execs.end(), graphExec) == execs.end()) {
      return cudaErrorInvalidResourceHandle;
    }
    const auto found = stream_of(stream);
    if (found == nullptr) return cudaErrorInvalidResourceHandle;
    if (found->capture != nullptr) return cudaErrorNotSupported;  // CUDA: a graph within the graph
    ++runtime().statistics.graph_launches;
    for (const Operation& operation : *graphExec->operations) sim::detail::count(operation);
    Operation all;
    all.run = [operations = graphExec->operations] {
      for (const Operation& operation : *operations) {
        if (operation.run) operation.run();
      }
    };
    return sim::detail::queue(found, std::move(all), Call::kGraphLaunch);
  });
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graphExec) {
  return call_that_frees(Call::kGraphDestroy, [&] {
    if (!sim::detail::take(runtime().graph_execs, graphExec)) return cudaErrorInvalidValue;
    sim::detail::discard(graphExec);
    return cudaSuccess;
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return call_that_frees(Call::kGraphDestroy, [&] {
    if (!sim::detail::take(runtime().graphs, graph)) return cudaErrorInvalidValue;
    sim::detail::discard(graph);
    return cudaSuccess;
  });
}
