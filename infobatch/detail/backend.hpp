#pragma once

#include <infobatch/detail/buffer.hpp>
#include <infobatch/detail/classifier.hpp>
#include <infobatch/detail/epoch_rule.hpp>
#include <infobatch/detail/exact_mean.hpp>
#include <infobatch/detail/plan_builder.hpp>
#include <infobatch/detail/step_functions.hpp>
#include <infobatch/session/fold.hpp>

#include <cstdint>
#include <string_view>
#include <vector>

// Who works through the per-sample values: plans an epoch and folds its losses. A backend is a
// table of C functions over plain data, because the library of a device and this one may not share
// a C++ library: nothing that crosses owns memory or throws.
//
// Every backend makes the same plan to the bit (rule 2, rule 4, rule 8).

namespace infobatch {
namespace detail {

/// Of the samples of [0, size) that the classifier puts into `class_id`, of which there are
/// `members`, `wanted` have the smallest draws of the stream.
struct DrawTask {
  Classifier classifier;
  std::int32_t class_id = 0;
  std::int64_t size = 0;
  std::int64_t members = 0;
  std::int64_t wanted = 0;
  std::uint64_t seed = 0;
  std::uint32_t epoch = 0;
  std::uint32_t stream = 0;
};

/// `rank` of the samples of [0, size) that have a key, and are in the pool if there is one.
struct RankTask {
  Key key;
  bool pooled = false;
  Pool pool;
  std::int64_t size = 0;
  std::int64_t rank = 0;
  std::uint64_t seed = 0;
  std::uint32_t epoch = 0;
};

/// Functions that work get what `open` gave, and their memory stays the caller's.
struct Backend {
  std::uint32_t struct_size;
  const char* name;

  /// What the calls of one epoch share (threads, a stream, scratch), for `size` samples; nullptr
  /// where there is none, with which all calls work.
  /// @param threads  at most; 0: as many as are worth it.
  void* (*open)(std::int64_t size, std::int32_t threads);
  void (*close)(void* shared);

  /// The exact sum and number of the values that are not NaN (rule 2).
  BackendStatus (*sum)(
      void* shared, const float* values, std::int64_t size, ScoreSum* sum, BackendError* error);
  /// members[c], c = 0 .. 15: how many of [0, size) the classifier puts into each class.
  BackendStatus (*count)(void* shared,
                         const Classifier* classifier,
                         std::int64_t size,
                         std::int64_t* members,
                         BackendError* error);
  BackendStatus (*cut_draws)(void* shared, const DrawTask* task, DrawCut* cut, BackendError* error);
  BackendStatus (*cut_rank)(void* shared, const RankTask* task, RankCut* cut, BackendError* error);
  BackendStatus (*plan)(void* shared,
                        const PlanTask* task,
                        const PlanMemory* memory,
                        PlanOutcome* outcome,
                        BackendError* error);
  /// Folds the losses of the ranges into the columns. @param non_finite  receives how many were
  /// not.
  BackendStatus (*fold)(void* shared,
                        const FoldRule* rule,
                        const FoldArrays* arrays,
                        const FoldRanges* ranges,
                        std::int64_t* non_finite,
                        BackendError* error);
  /// Gives back what `fold` overwrote. Cannot fail.
  void (*unfold)(void* shared,
                 const FoldRule* rule,
                 const FoldArrays* arrays,
                 const FoldRanges* ranges);

  /// Memory that the backend works in and the host can read and write, for the arrays of a session
  /// that is made for it; no functions where any memory is as good.
  MemorySource memory;
  /// From now on the calling thread's calls work on this stream of the device, behind what is
  /// already on it. With a nullptr, as without a call, they wait for all of the device first. No
  /// function: there are no streams.
  void (*use_stream)(void* stream);
  /// Returns when all that was queued on the device is done, by whomever: the host is about to read
  /// memory of `memory` that was lent to the program. nullptr: there is nothing to wait for.
  BackendStatus (*wait)(BackendError* error);
  /// The step on the device, and the type of that device as torch names it ("cuda"); nullptr where
  /// the backend has none.
  const StepFunctions* steps;
  const char* device_type;
};

/// Throws what the status of a call says; nothing where it is done.
void throw_status(BackendStatus status, const BackendError& error);

/// The processor's.
const Backend& cpu_backend();
/// All that there are; the first is the processor's.
std::vector<const Backend*> backends();
/// The index-th of them; nullptr: there is none.
const Backend* backend_at(std::int32_t index) noexcept;
/// The one of this name; nullptr: there is none.
const Backend* find_backend(std::string_view name);
/// The one of devices of this type, "cuda"; nullptr: there is none. No lock: for every step.
const Backend* find_device(std::string_view device_type) noexcept;
/// One more, for ever. Nothing happens where it is there already.
/// @throws InvalidArgument  another of its name is there, or it is of another release.
void add_backend(const Backend& backend);
/// The one that sessions work with which are not made for another.
const Backend& backend();
/// Backend::wait, with exceptions: std::runtime_error where the device fails.
void wait_for(const Backend& backend);
/// Backend::use_stream.
/// @throws InvalidArgument  there is no such backend, or it has no streams.
void use_stream(std::string_view backend, void* stream);
/// Calls a function of a backend, and throws what it says.
/// @throws std::bad_alloc, InvalidArgument, std::runtime_error
template <typename Call>
void call_backend(const Call& call) {
  BackendError error{};
  throw_status(call(&error), error);
}
/// For tests: sessions work with this one from now on. Returns the one before.
const Backend* use_backend(const Backend* next);

/// A backend at work on one epoch: the calls of the table, with exceptions.
///
/// All throw std::bad_alloc, InvalidArgument where the backend refuses, std::runtime_error where it
/// fails.
class Workers {
 public:
  /// @param threads  as Backend::open.
  Workers(std::int64_t size, int threads, const Backend& backend = detail::backend());
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  ScoreSum sum(const float* values, std::int64_t size) const;
  /// How many samples the classifier puts into each class.
  ShortList<std::int64_t, EpochRule::kMaxClasses> count(const Classifier& classifier,
                                                        std::int64_t size) const;
  DrawCut cut_draws(const DrawTask& task) const;
  RankCut cut_rank(const RankTask& task) const;
  /// @param recycled  a plan no longer needed; its memory is used again where it suffices.
  PlanArrays plan(const PlanTask& task, PlanArrays recycled) const;
  std::int64_t fold(const FoldRule& rule, const FoldArrays& arrays, const FoldRanges& ranges) const;
  void unfold(const FoldRule& rule,
              const FoldArrays& arrays,
              const FoldRanges& ranges) const noexcept;

 private:
  const Backend& backend_;
  void* shared_;
};

}  // namespace detail
}  // namespace infobatch
