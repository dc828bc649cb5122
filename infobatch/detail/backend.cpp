#include <infobatch/detail/backend.hpp>
#include <infobatch/error.hpp>

#include <array>
#include <atomic>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace infobatch {
namespace detail {
namespace {

// What crosses the table has the same layout for every compiler of the platform.
template <typename... Types>
constexpr bool kArePlain = (... && (std::is_standard_layout_v<Types> &&
                                    std::is_trivially_copyable_v<Types>));
static_assert(kArePlain<BackendError,
                        ScoreSum,
                        Classifier,
                        DrawTask,
                        DrawCut,
                        RankTask,
                        RankCut,
                        PlanTask,
                        PlanMemory,
                        PlanOutcome,
                        FoldRule,
                        FoldArrays,
                        FoldRanges,
                        MemorySource,
                        StepFunctions,
                        StepRows,
                        StepInOrder,
                        StepByIds,
                        StepReduction,
                        StepResult,
                        Backend>);

std::atomic<const Backend*>& in_use() {
  static std::atomic<const Backend*> backend{&cpu_backend()};
  return backend;
}

// Backends beside the processor's, in the order in which they came.
std::array<std::atomic<const Backend*>, 8>& added() {
  static std::array<std::atomic<const Backend*>, 8> backends{};
  return backends;
}

}  // namespace

void throw_status(BackendStatus status, const BackendError& error) {
  switch (status) {
    case BackendStatus::kDone:
      return;
    case BackendStatus::kNoMemory:
      throw std::bad_alloc();
    case BackendStatus::kInvalid:
      throw InvalidArgument(error.text);
    case BackendStatus::kFailed:
      break;
  }
  throw std::runtime_error(error.text);
}

std::vector<const Backend*> backends() {
  std::vector<const Backend*> all = {&cpu_backend()};
  for (const auto& place : added()) {
    if (const Backend* const backend = place.load(std::memory_order_acquire)) {
      all.push_back(backend);
    }
  }
  return all;
}

const Backend* backend_at(std::int32_t index) noexcept {
  if (index == 0) return &cpu_backend();
  if (index < 0 || static_cast<std::size_t>(index) > added().size()) return nullptr;
  return added()[static_cast<std::size_t>(index) - 1].load(std::memory_order_acquire);
}

const Backend* find_backend(std::string_view name) {
  for (const Backend* const backend : backends()) {
    if (backend->name == name) return backend;
  }
  return nullptr;
}

const Backend* find_device(std::string_view device_type) noexcept {
  for (const auto& place : added()) {
    const Backend* const backend = place.load(std::memory_order_acquire);
    if (backend == nullptr) break;
    if (backend->device_type != nullptr && backend->device_type == device_type) return backend;
  }
  return nullptr;
}

void add_backend(const Backend& backend) {
  if (backend.struct_size != sizeof(Backend)) {
    throw InvalidArgument(message("add_backend: a table must be of this release, with ",
                                  sizeof(Backend),
                                  " bytes, got ",
                                  backend.struct_size));
  }
  if (std::string_view(backend.name) == cpu_backend().name) {
    throw InvalidArgument(message("add_backend: \"", backend.name, "\" is the processor's name"));
  }
  for (auto& place : added()) {
    const Backend* found = nullptr;
    if (place.compare_exchange_strong(found, &backend, std::memory_order_acq_rel)) return;
    if (found == &backend) return;
    if (std::string_view(found->name) == backend.name) {
      throw InvalidArgument(message("add_backend: another \"", backend.name, "\" is there"));
    }
  }
  throw InvalidArgument(message("add_backend: no more than ", added().size(), " can be added"));
}

void wait_for(const Backend& backend) {
  if (backend.wait != nullptr) call_backend(backend.wait);
}

void use_stream(std::string_view name, void* stream) {
  const Backend* const found = find_backend(name);
  if (found == nullptr || found->use_stream == nullptr) {
    throw InvalidArgument(message(
        "use_stream: backend must be one with streams that was loaded, got \"", name, "\""));
  }
  found->use_stream(stream);
}

const Backend& backend() { return *in_use().load(std::memory_order_relaxed); }

const Backend* use_backend(const Backend* next) { return in_use().exchange(next); }

Workers::Workers(std::int64_t size, int threads, const Backend& backend)
    : backend_(backend), shared_(backend.open(size, threads)) {}

Workers::~Workers() { backend_.close(shared_); }

ScoreSum Workers::sum(const float* values, std::int64_t size) const {
  ScoreSum sum;
  call_backend(
      [&](BackendError* error) { return backend_.sum(shared_, values, size, &sum, error); });
  return sum;
}

ShortList<std::int64_t, EpochRule::kMaxClasses> Workers::count(const Classifier& classifier,
                                                               std::int64_t size) const {
  ShortList<std::int64_t, EpochRule::kMaxClasses> members;
  members.assign(EpochRule::kMaxClasses, 0);
  call_backend([&](BackendError* error) {
    return backend_.count(shared_, &classifier, size, members.items, error);
  });
  return members;
}

DrawCut Workers::cut_draws(const DrawTask& task) const {
  DrawCut cut;
  call_backend(
      [&](BackendError* error) { return backend_.cut_draws(shared_, &task, &cut, error); });
  return cut;
}

RankCut Workers::cut_rank(const RankTask& task) const {
  RankCut cut;
  call_backend([&](BackendError* error) { return backend_.cut_rank(shared_, &task, &cut, error); });
  return cut;
}

PlanArrays Workers::plan(const PlanTask& task, PlanArrays recycled) const {
  check_plan(task);
  if (recycled.ids.capacity() == 0) {
    recycled.ids = Buffer<std::int64_t>(backend_.memory);
    recycled.weights = Buffer<float>(backend_.memory);
  }
  PlanArrays plan = reserve_plan(task.size, std::move(recycled));
  const PlanMemory memory{plan.ids.data(), plan.weights.data()};
  PlanOutcome outcome;
  call_backend(
      [&](BackendError* error) { return backend_.plan(shared_, &task, &memory, &outcome, error); });
  return finish_plan(std::move(plan), outcome);
}

std::int64_t Workers::fold(const FoldRule& rule,
                           const FoldArrays& arrays,
                           const FoldRanges& ranges) const {
  std::int64_t non_finite = 0;
  call_backend([&](BackendError* error) {
    return backend_.fold(shared_, &rule, &arrays, &ranges, &non_finite, error);
  });
  return non_finite;
}

void Workers::unfold(const FoldRule& rule,
                     const FoldArrays& arrays,
                     const FoldRanges& ranges) const noexcept {
  backend_.unfold(shared_, &rule, &arrays, &ranges);
}

}  // namespace detail
}  // namespace infobatch
