#include <cuda_kernels/backend.hpp>
#include <cuda_kernels/exact_mean.hpp>
#include <cuda_kernels/fold.hpp>
#include <cuda_kernels/keep.hpp>
#include <cuda_kernels/plan_builder.hpp>
#include <cuda_kernels/select.hpp>
#include <cuda_kernels/step.hpp>
#include <infobatch/detail/backend_status.hpp>
#include <infobatch/detail/float_environment.hpp>
#include <infobatch/error.hpp>
#include <infobatch/version.hpp>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <vector>

// The type of the devices, as torch names it. Emulated, the memory is another device's.
#if !defined(INFOBATCH_CUDA_DEVICE_TYPE)
#define INFOBATCH_CUDA_DEVICE_TYPE "cuda"
#endif

namespace infobatch::cuda {
namespace {

using detail::BackendError;
using detail::BackendStatus;

constexpr int kOldestMajor = 8;  // compute capability: that of the oldest kernels that are built

thread_local cudaStream_t thread_stream = nullptr;  // nullptr: behind all of the device's work
std::atomic<const Allocator*> scratch_allocator{nullptr};

const Allocator& allocator() {
  const Allocator* const given = scratch_allocator.load();
  return given != nullptr ? *given : default_allocator();
}

/// What the calls for one epoch share: a stream, and the columns that had to be copied.
class Epoch {
 public:
  /// @throws CudaError
  Epoch() : work_(thread_stream, allocator()) {
    // Losses may have been written on any stream.
    if (thread_stream == nullptr) require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }

  Work& work() { return work_; }

  /// [count] values that kernels can read: the array itself or a copy, made once.
  template <typename T>
  const T* column(const T* given, std::int64_t count) {
    if (given == nullptr || count == 0 || reachable(given)) return given;
    for (const Copy& copy : copies_) {
      if (copy.given == given && copy.count >= count) return static_cast<const T*>(copy.data);
    }
    T* const data = work_.make<T>(count);
    work_.copy(data, given, static_cast<std::size_t>(count) * sizeof(T), cudaMemcpyHostToDevice);
    copies_.push_back({given, count, data});
    return data;
  }
  Key key(Key key, std::int64_t size) {
    for (int t = 0; t < key.count; ++t) key.terms[t].column = column(key.terms[t].column, size);
    return key;
  }
  Classifier classifier(Classifier classifier, std::int64_t size) {
    classifier.key = key(classifier.key, size);
    classifier.table = column(classifier.table, size);
    return classifier;
  }
  /// The columns are about to change.
  void forget_columns() {
    for (const Copy& copy : copies_) work_.give_back(copy.data);
    copies_.clear();
  }

 private:
  struct Copy {
    const void* given;
    std::int64_t count;
    void* data;
  };

  Work work_;
  std::vector<Copy> copies_;
};

/// Where it cannot be, every call tries for itself, and says why it cannot.
void* open(std::int64_t, std::int32_t) {
  try {
    return new Epoch;
  } catch (const std::exception&) {
    return nullptr;
  }
}

void close(void* shared) { delete static_cast<Epoch*>(shared); }

/// Works with what the epoch shares, or alone, and lets no exception out.
template <typename Call>
BackendStatus guarded(void* shared, BackendError* error, const Call& call) noexcept {
  const detail::DefaultFloatEnvironment float_environment;
  return detail::status_of(error, [&] {
    if (shared != nullptr) return call(*static_cast<Epoch*>(shared));
    Epoch alone;
    call(alone);
  });
}

BackendStatus sum(
    void* shared, const float* values, std::int64_t size, ScoreSum* sum, BackendError* error) {
  return guarded(shared, error, [&](Epoch& epoch) {
    *sum = sum_scores(epoch.work(), epoch.column(values, size), size);
  });
}

BackendStatus count(void* shared,
                    const Classifier* classifier,
                    std::int64_t size,
                    std::int64_t* members,
                    BackendError* error) {
  return guarded(shared, error, [&](Epoch& epoch) {
    std::int64_t found[EpochRule::kMaxClasses];
    count_members(
        epoch.work(), epoch.classifier(*classifier, size), size, EpochRule::kMaxClasses, found);
    std::copy(found, found + EpochRule::kMaxClasses, members);
  });
}

BackendStatus cut_draws(void* shared,
                        const detail::DrawTask* task,
                        DrawCut* cut,
                        BackendError* error) {
  return guarded(shared, error, [&](Epoch& epoch) {
    *cut = select_smallest_draws(epoch.work(),
                                 epoch.classifier(task->classifier, task->size),
                                 static_cast<std::uint8_t>(task->class_id),
                                 task->size,
                                 task->members,
                                 task->wanted,
                                 task->seed,
                                 task->epoch,
                                 task->stream);
  });
}

BackendStatus cut_rank(void* shared,
                       const detail::RankTask* task,
                       RankCut* cut,
                       BackendError* error) {
  return guarded(shared, error, [&](Epoch& epoch) {
    *cut = select_rank(epoch.work(),
                       epoch.key(task->key, task->size),
                       task->pooled ? &task->pool : nullptr,
                       task->size,
                       task->rank,
                       task->seed,
                       task->epoch);
  });
}

/// Ids on their way to the host while the first steps run, those of the first batches first. A
/// hint, whose failure changes nothing: pages come when they are touched, too.
void send_home(const std::int64_t* ids, std::int64_t kept) {
  cudaStream_t stream = nullptr;
  cudaError_t error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  if (error == cudaSuccess) {
    constexpr std::int64_t kFirst = std::int64_t{1} << 16;  // 512 KiB
    std::int64_t begin = 0;
    for (std::int64_t count = kFirst; begin < kept && error == cudaSuccess; count *= 2) {
      count = std::min(count, kept - begin);
      error = prefetch_to_host(
          ids + begin, static_cast<std::size_t>(count) * sizeof(std::int64_t), stream);
      begin += count;
    }
    const cudaError_t destroyed = cudaStreamDestroy(stream);  // when what is on it is done
    if (error == cudaSuccess) error = destroyed;
  }
  if (error != cudaSuccess) (void)cudaGetLastError();
}

BackendStatus plan(void* shared,
                   const detail::PlanTask* task,
                   const detail::PlanMemory* memory,
                   detail::PlanOutcome* outcome,
                   BackendError* error) {
  return guarded(shared, error, [&](Epoch& epoch) {
    Work work(epoch.work().stream(), allocator());
    detail::PlanTask on_device = *task;
    on_device.rule.classifier = epoch.classifier(task->rule.classifier, task->size);
    OnDevice<std::int64_t> ids(work, memory->ids, task->size, OnDevice<std::int64_t>::kWrite);
    OnDevice<float> weights(work, memory->weights, task->size, OnDevice<float>::kWrite);
    const detail::PlanOutcome made =
        fill_plan(work, on_device, {}, detail::PlanMemory{ids.data(), weights.data()});
    ids.bring_back(made.kept);
    weights.bring_back(made.kept);
    work.wait();
    *outcome = made;
    if (managed(memory->ids)) send_home(memory->ids, made.kept);
  });
}

/// Whether all that a fold touches is where kernels can reach it.
bool all_reachable(const detail::FoldRule& rule, const detail::FoldArrays& arrays) {
  bool all = reachable(arrays.scores) && reachable(arrays.ids) && reachable(arrays.losses);
  if (rule.needs_memory()) all = all && reachable(arrays.overwritten);
  for (int c = 0; c < rule.n_columns; ++c) all = all && reachable(rule.columns[c].values);
  return all;
}

/// Losses that lie on the host are folded there: copying every column twice would take longer.
BackendStatus fold_epoch(void* shared,
                         const detail::FoldRule* rule,
                         const detail::FoldArrays* arrays,
                         const detail::FoldRanges* ranges,
                         std::int64_t* non_finite,
                         BackendError* error) {
  bool on_host = false;
  const BackendStatus status = guarded(shared, error, [&](Epoch& epoch) {
    epoch.forget_columns();
    on_host = !all_reachable(*rule, *arrays);
    if (on_host) return;
    Work work(epoch.work().stream(), allocator());
    *non_finite = cuda::fold(work, *rule, *arrays, *ranges);
  });
  if (status != BackendStatus::kDone || !on_host) return status;
  return detail::cpu_backend().fold(nullptr, rule, arrays, ranges, non_finite, error);
}

void unfold_epoch(void* shared,
                  const detail::FoldRule* rule,
                  const detail::FoldArrays* arrays,
                  const detail::FoldRanges* ranges) {
  int done = 0;
  BackendError error;
  (void)guarded(shared, &error, [&](Epoch& epoch) {
    epoch.forget_columns();
    if (!all_reachable(*rule, *arrays)) return;
    Work work(epoch.work().stream(), allocator());
    done = cuda::unfold(work, *rule, *arrays, *ranges);
  });
  // What the device did not do the host does, which has the same memory.
  detail::FoldRanges rest = *ranges;
  for (int part = 0; part < done; ++part) rest.part[part] = {};
  detail::cpu_backend().unfold(nullptr, rule, arrays, &rest);
}

/// Memory that host and device share. It lies on the device until the host asks for a page.
void* allocate_shared(std::size_t bytes) {
  void* data = nullptr;
  if (cudaMallocManaged(&data, std::max<std::size_t>(bytes, 1)) != cudaSuccess) {
    (void)cudaGetLastError();
    return nullptr;
  }
  return data;
}

void release_shared(void* data, std::size_t) {
  if (cudaFree(data) != cudaSuccess) (void)cudaGetLastError();
}

void use_stream_of_others(void* stream) { use_stream(static_cast<cudaStream_t>(stream)); }

BackendStatus wait_for_device(BackendError* error) {
  return detail::status_of(error,
                           [] { require(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); });
}

}  // namespace

const detail::Backend& cuda_backend() {
  static const detail::Backend backend = {sizeof(detail::Backend),
                                          "cuda",
                                          open,
                                          close,
                                          sum,
                                          count,
                                          cut_draws,
                                          cut_rank,
                                          plan,
                                          fold_epoch,
                                          unfold_epoch,
                                          {allocate_shared, release_shared},
                                          use_stream_of_others,
                                          wait_for_device,
                                          &step_functions(),
                                          INFOBATCH_CUDA_DEVICE_TYPE};
  return backend;
}

const char* why_no_device() {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    return cudaGetErrorString(error);
  }
  if (devices == 0) return "no CUDA device";
  int device = 0;
  int major = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess) {
    (void)cudaGetLastError();
    return "the CUDA device does not answer";
  }
  int shares = 0;
  if (cudaDeviceGetAttribute(&shares, cudaDevAttrConcurrentManagedAccess, device) != cudaSuccess ||
      shares == 0) {
    (void)cudaGetLastError();
    return "the CUDA device cannot share memory with the host while it works (concurrent managed "
           "access)";
  }
  return major < kOldestMajor ? "the CUDA device is older than compute capability 8.0" : nullptr;
}

void use_stream(cudaStream_t stream) { thread_stream = stream; }

void use_allocator(const Allocator& allocator) { scratch_allocator.store(&allocator); }

}  // namespace infobatch::cuda

/// What detail::load_backend() looks for.
extern "C" __attribute__((visibility("default"))) const infobatch::detail::Backend*
infobatch_backend(const char* release, infobatch::detail::BackendError* reason) {
  if (std::strcmp(release, INFOBATCH_VERSION) != 0) {
    infobatch::detail::set_text(
        reason,
        infobatch::detail::message("of release ", INFOBATCH_VERSION, ", the engine is of ", release)
            .c_str());
    return nullptr;
  }
  if (const char* const why = infobatch::cuda::why_no_device()) {
    infobatch::detail::set_text(reason, why);
    return nullptr;
  }
  return &infobatch::cuda::cuda_backend();
}
