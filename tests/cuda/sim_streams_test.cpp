// The twin of the CUDA runtime: streams, events, captures.
#include <tests/cuda/sim_kernels.hpp>
#include <tests/support/catch2_shim.hpp>

#include <cuda_sim.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace {

using sim_test::Array;

__global__ void append(int* list, int* size, int value) { list[atomicAdd(size, 1)] = value; }

/// Two streams, and a list in which kernels write down who ran.
struct World {
  struct Begin {
    Begin() { sim::reset(); }
  } begin;  // before memory is allocated
  cudaStream_t a = nullptr, b = nullptr;
  Array<int> list{std::vector<int>(16)}, size{std::vector<int>{0}};

  World(sim::Streams streams, unsigned flags) {
    sim::device().streams = streams;
    REQUIRE(cudaStreamCreateWithFlags(&a, flags) == cudaSuccess);
    REQUIRE(cudaStreamCreateWithFlags(&b, flags) == cudaSuccess);
  }
  ~World() {
    (void)cudaDeviceSynchronize();
    (void)cudaStreamDestroy(a);
    (void)cudaStreamDestroy(b);
  }
  void run(cudaStream_t stream, int value) {
    INFOBATCH_LAUNCH(append, 1, 1, 0, stream, list.get(), size.get(), value);
  }
  /// Who has run, without waiting for anybody: hence out of ThreadSanitizer's sight.
#if defined(__GNUC__)
  __attribute__((no_sanitize("thread")))
#endif
  std::vector<int>
  ran() const {
    std::vector<int> all;
    for (int i = 0; i < *size.get(); ++i) all.push_back(int{list.get()[i]});
    return all;
  }
};
using Numbers = std::vector<int>;

}  // namespace

TEST_CASE("cuda sim: deferred streams run what is waited for, and nothing else",
          "[cuda][sim][streams]") {
  World w(sim::Streams::kDeferred, cudaStreamNonBlocking);
  w.run(w.a, 1);
  w.run(w.b, 2);
  w.run(w.a, 3);
  CHECK(w.ran().empty());
  CHECK(sim::pending_operations() == 3);
  CHECK(cudaStreamSynchronize(w.b) == cudaSuccess);
  CHECK(w.ran() == Numbers{2});
  CHECK(cudaStreamQuery(w.b) == cudaSuccess);
  CHECK(cudaStreamQuery(w.a) == cudaErrorNotReady);  // and one operation runs, so that polling ends
  CHECK(w.ran() == Numbers{2, 1});
  CHECK(cudaStreamQuery(w.a) == cudaErrorNotReady);
  CHECK(cudaStreamQuery(w.a) == cudaSuccess);
  CHECK(w.ran() == Numbers{2, 1, 3});
  CHECK(cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(&w)) ==
        cudaErrorInvalidResourceHandle);
}

TEST_CASE("cuda sim: events order streams and hosts", "[cuda][sim][streams]") {
  World w(sim::Streams::kDeferred, cudaStreamNonBlocking);
  cudaEvent_t event = nullptr;
  REQUIRE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
  CHECK(cudaEventQuery(event) == cudaSuccess);  // never recorded
  w.run(w.a, 1);
  CHECK(cudaEventRecord(event, w.a) == cudaSuccess);
  w.run(w.a, 2);
  w.run(w.b, 3);
  CHECK(cudaStreamWaitEvent(w.b, event) == cudaSuccess);
  w.run(w.b, 4);
  CHECK(cudaStreamSynchronize(w.b) == cudaSuccess);
  CHECK(w.ran() == Numbers{3, 1, 4});
  CHECK(cudaEventSynchronize(event) == cudaSuccess);
  CHECK(w.ran() == Numbers{3, 1, 4});
  CHECK(cudaEventRecord(event, w.a) == cudaSuccess);
  CHECK(cudaEventDestroy(event) == cudaSuccess);
  CHECK(cudaEventDestroy(event) == cudaErrorInvalidResourceHandle);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(w.ran() == Numbers{3, 1, 4, 2});
}

TEST_CASE("cuda sim: the default stream and blocking streams wait for each other",
          "[cuda][sim][streams]") {
  World w(sim::Streams::kDeferred, cudaStreamDefault);
  w.run(w.a, 1);
  w.run(nullptr, 2);
  w.run(w.b, 3);
  CHECK(cudaStreamSynchronize(w.b) == cudaSuccess);
  CHECK(w.ran() == Numbers{1, 2, 3});
  w.run(w.a, 4);
  int size = 0;  // a copy that waits is the default stream's
  CHECK(cudaMemcpy(&size, w.size.get(), sizeof size, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(size == 4);
}

TEST_CASE("cuda sim: non-blocking streams do not wait for the default stream",
          "[cuda][sim][streams]") {
  World w(sim::Streams::kDeferred, cudaStreamNonBlocking);
  w.run(nullptr, 1);
  w.run(w.a, 2);
  CHECK(cudaStreamSynchronize(w.a) == cudaSuccess);
  CHECK(w.ran() == Numbers{2});
  CHECK(cudaStreamSynchronize(nullptr) == cudaSuccess);
  CHECK(w.ran() == Numbers{2, 1});
}

TEST_CASE("cuda sim: streams at random keep their order, and differ by seed",
          "[cuda][sim][streams]") {
  std::vector<Numbers> seen;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    World w(sim::Streams::kRandom, cudaStreamNonBlocking);
    sim::device().seed = seed;
    for (int k = 0; k < 3; ++k) {
      w.run(w.a, k);
      w.run(w.b, 10 + k);
    }
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
    Numbers a, b;
    for (const int value : w.ran()) (value < 10 ? a : b).push_back(value);
    CHECK(a == Numbers{0, 1, 2});
    CHECK(b == Numbers{10, 11, 12});
    seen.push_back(w.ran());
  }
  std::sort(seen.begin(), seen.end());
  CHECK(std::unique(seen.begin(), seen.end()) - seen.begin() > 3);
}

TEST_CASE("cuda sim: memory given back in a stream lives until then", "[cuda][sim][streams]") {
  World w(sim::Streams::kDeferred, cudaStreamNonBlocking);
  const std::size_t before = sim::live_allocations().size();
  int* memory = nullptr;
  REQUIRE(cudaMallocAsync(&memory, 4, w.a) == cudaSuccess);
  CHECK(cudaFreeAsync(memory, w.a) == cudaSuccess);
  CHECK(sim::live_allocations().size() == before + 1);
  CHECK(cudaStreamSynchronize(w.a) == cudaSuccess);
  CHECK(sim::live_allocations().size() == before);
  CHECK(cudaFreeAsync(memory, w.a) == cudaErrorInvalidValue);
}

TEST_CASE("cuda sim: work of the host's own takes its turn in a stream", "[cuda][sim][streams]") {
  World w(sim::Streams::kDeferred, cudaStreamNonBlocking);
  bool done = false;
  w.run(w.a, 1);
  sim::enqueue("sort", w.a, [&] { done = w.ran() == Numbers{1}; });
  CHECK_FALSE(done);
  CHECK(cudaStreamSynchronize(w.a) == cudaSuccess);
  CHECK(done);
  CHECK(sim::statistics().launches_of["sort"] == 1);
}

TEST_CASE("cuda sim: a destroyed stream finishes its work", "[cuda][sim][streams]") {
  World w(sim::Streams::kDeferred, cudaStreamNonBlocking);
  cudaStream_t gone = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&gone, cudaStreamNonBlocking) == cudaSuccess);
  w.run(gone, 1);
  CHECK(cudaStreamDestroy(gone) == cudaSuccess);
  CHECK(cudaStreamSynchronize(gone) == cudaErrorInvalidResourceHandle);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(w.ran() == Numbers{1});
}

TEST_CASE("cuda sim: a capture is launched as often as one likes", "[cuda][sim][streams]") {
  for (const sim::Streams streams : {sim::Streams::kImmediate, sim::Streams::kDeferred}) {
    World w(streams, cudaStreamNonBlocking);
    cudaEvent_t fork = nullptr, join = nullptr;
    REQUIRE(cudaEventCreate(&fork) == cudaSuccess);
    REQUIRE(cudaEventCreate(&join) == cudaSuccess);
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    REQUIRE(cudaStreamBeginCapture(w.a, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    w.run(w.a, 1);
    CHECK(cudaEventRecord(fork, w.a) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(w.b, fork) == cudaSuccess);
    w.run(w.b, 2);  // the second stream takes part
    CHECK(cudaEventRecord(join, w.b) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(w.a, join) == cudaSuccess);
    CHECK(cudaStreamIsCapturing(w.b, &status) == cudaSuccess);
    CHECK(status == cudaStreamCaptureStatusActive);
    CHECK(cudaEventSynchronize(join) == cudaErrorCapturedEvent);
    REQUIRE(cudaStreamEndCapture(w.a, &graph) == cudaErrorStreamCaptureInvalidated);

    REQUIRE(cudaStreamBeginCapture(w.a, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    w.run(w.a, 1);
    w.run(w.a, 2);
    REQUIRE(cudaStreamEndCapture(w.a, &graph) == cudaSuccess);
    CHECK(w.ran().empty());
    CHECK(sim::statistics().launches == 0);
    REQUIRE(cudaGraphInstantiate(&exec, graph) == cudaSuccess);
    CHECK(cudaGraphDestroy(graph) == cudaSuccess);
    for (int k = 0; k < 2; ++k) CHECK(cudaGraphLaunch(exec, w.a) == cudaSuccess);
    CHECK(cudaStreamSynchronize(w.a) == cudaSuccess);
    CHECK(w.ran() == Numbers{1, 2, 1, 2});
    CHECK(sim::statistics().launches == 4);
    CHECK(cudaGraphExecDestroy(exec) == cudaSuccess);
    CHECK(cudaGraphExecDestroy(exec) == cudaErrorInvalidValue);
    (void)cudaEventDestroy(fork);
    (void)cudaEventDestroy(join);
  }
}

TEST_CASE("cuda sim: what a capture forbids makes it invalid", "[cuda][sim][streams]") {
  World w(sim::Streams::kImmediate, cudaStreamDefault);
  cudaGraph_t graph = nullptr;
  const auto invalid = [&] {
    return cudaStreamEndCapture(w.a, &graph) == cudaErrorStreamCaptureInvalidated;
  };
  const auto begin = [&] {
    REQUIRE(cudaStreamBeginCapture(w.a, cudaStreamCaptureModeGlobal) == cudaSuccess);
  };
  int* memory = nullptr;
  begin();
  CHECK(cudaMalloc(&memory, 4) == cudaErrorStreamCaptureUnsupported);
  CHECK(invalid());
  begin();
  CHECK(cudaStreamSynchronize(w.a) == cudaErrorStreamCaptureUnsupported);
  CHECK(invalid());
  begin();
  CHECK(cudaDeviceSynchronize() == cudaErrorStreamCaptureUnsupported);
  CHECK(invalid());
  begin();
  CHECK(cudaStreamQuery(w.a) == cudaErrorStreamCaptureUnsupported);
  CHECK(invalid());
  begin();
  w.run(nullptr, 1);
  CHECK(cudaGetLastError() == cudaErrorStreamCaptureImplicit);
  CHECK(invalid());
  begin();
  int host = 0;
  CHECK(cudaMemcpy(&host, w.size.get(), 4, cudaMemcpyDeviceToHost) ==
        cudaErrorStreamCaptureImplicit);
  CHECK(invalid());
  begin();
  CHECK(cudaStreamEndCapture(w.b, &graph) == cudaErrorInvalidValue);
  REQUIRE(cudaStreamEndCapture(w.a, &graph) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal) ==
        cudaErrorStreamCaptureUnsupported);
  REQUIRE(cudaStreamBeginCapture(w.a, cudaStreamCaptureModeRelaxed) == cudaSuccess);
  CHECK(cudaMalloc(&memory, 4) == cudaSuccess);  // relaxed
  REQUIRE(cudaStreamEndCapture(w.a, &graph) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(cudaFree(memory) == cudaSuccess);
}

TEST_CASE("cuda sim: streams that join a capture have to be joined again", "[cuda][sim][streams]") {
  World w(sim::Streams::kImmediate, cudaStreamNonBlocking);
  cudaEvent_t fork = nullptr;
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaEventCreate(&fork) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(w.a, cudaStreamCaptureModeGlobal) == cudaSuccess);
  CHECK(cudaEventRecord(fork, w.a) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(w.b, fork) == cudaSuccess);
  w.run(w.b, 1);
  CHECK(cudaStreamEndCapture(w.b, &graph) == cudaErrorStreamCaptureUnmatched);
  CHECK(cudaStreamEndCapture(w.a, &graph) == cudaErrorStreamCaptureUnjoined);
  w.run(w.b, 2);  // out of it again
  CHECK(w.ran() == Numbers{2});
  CHECK(cudaEventDestroy(fork) == cudaSuccess);
}
