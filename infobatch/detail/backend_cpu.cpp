#include <infobatch/detail/backend.hpp>
#include <infobatch/detail/backend_status.hpp>
#include <infobatch/detail/float_environment.hpp>
#include <infobatch/detail/keep.hpp>
#include <infobatch/detail/select.hpp>
#include <infobatch/detail/shuffle.hpp>
#include <infobatch/detail/threads.hpp>
#include <infobatch/error.hpp>

#include <algorithm>
#include <cstring>
#include <new>

namespace infobatch {
namespace detail {
namespace {

void* open(std::int64_t size, std::int32_t threads) {
  return new (std::nothrow) Team(threads_for(size, threads));
}

void close(void* shared) { delete static_cast<Team*>(shared); }

// Works with the team, or alone where there was no memory for one, and lets no exception out.
template <typename Work>
BackendStatus guarded(void* shared, BackendError* error, const Work& work) noexcept {
  const DefaultFloatEnvironment float_environment;
  return status_of(error, [&] {
    if (shared != nullptr) return work(*static_cast<Team*>(shared));
    Team alone(1);
    work(alone);
  });
}

BackendStatus sum(
    void* shared, const float* values, std::int64_t size, ScoreSum* sum, BackendError* error) {
  return guarded(shared, error, [&](Team& team) { *sum = sum_scores(values, size, team); });
}

BackendStatus count(void* shared,
                    const Classifier* classifier,
                    std::int64_t size,
                    std::int64_t* members,
                    BackendError* error) {
  return guarded(shared, error, [&](Team& team) {
    count_members(*classifier, size, EpochRule::kMaxClasses, team, members);
  });
}

BackendStatus cut_draws(void* shared, const DrawTask* task, DrawCut* cut, BackendError* error) {
  return guarded(shared, error, [&](Team& team) {
    *cut = select_smallest_draws(task->classifier,
                                 static_cast<std::uint8_t>(task->class_id),
                                 task->size,
                                 task->members,
                                 task->wanted,
                                 task->seed,
                                 task->epoch,
                                 task->stream,
                                 team);
  });
}

BackendStatus cut_rank(void* shared, const RankTask* task, RankCut* cut, BackendError* error) {
  return guarded(shared, error, [&](Team& team) {
    const Pool* pool = task->pooled ? &task->pool : nullptr;
    *cut = select_rank(task->key, pool, task->size, task->rank, task->seed, task->epoch, team);
  });
}

BackendStatus plan(void* shared,
                   const PlanTask* task,
                   const PlanMemory* memory,
                   PlanOutcome* outcome,
                   BackendError* error) {
  return guarded(
      shared, error, [&](Team& team) { *outcome = fill_plan(*task, {}, team, *memory); });
}

BackendStatus fold(void* shared,
                   const FoldRule* rule,
                   const FoldArrays* arrays,
                   const FoldRanges* ranges,
                   std::int64_t* non_finite,
                   BackendError* error) {
  return guarded(shared, error, [&](Team& team) {
    *non_finite = 0;
    for (const FoldRange& part : ranges->part) {
      *non_finite += detail::fold(*rule, *arrays, part, team);
    }
  });
}

void unfold(void*, const FoldRule* rule, const FoldArrays* arrays, const FoldRanges* ranges) {
  for (const FoldRange& part : ranges->part) detail::unfold(*rule, *arrays, part);
}

}  // namespace

const Backend& cpu_backend() {
  static const Backend backend = {sizeof(Backend),
                                  "cpu",
                                  open,
                                  close,
                                  sum,
                                  count,
                                  cut_draws,
                                  cut_rank,
                                  plan,
                                  fold,
                                  unfold,
                                  MemorySource{},
                                  /*use_stream=*/nullptr,
                                  /*wait=*/nullptr,
                                  /*steps=*/nullptr,
                                  /*device_type=*/nullptr};
  return backend;
}

}  // namespace detail
}  // namespace infobatch
