// What a step costs: `Session::update` and `Session::observe` of the engine, and the third line of
// the libtorch loop beside the bare `losses.mean()` that it stands for.
//
// Time is taken over all steps of an epoch, so reading the clock does not show; the epoch boundary
// is left out. Counters: bytes_per_sample that a step has to move, times_memcpy the time against a
// copy of as many bytes in the same process; above_mean_ns what update costs more than
// losses.mean() (both measured in turn, median over the epochs). With ids, batches come in the
// order of the plan (libtorch_ids) or in another (libtorch_ids_reordered); the latter's first step
// of an epoch builds a table, and first steps are timed apart: first_step_ns_per_sample of the data
// set.

#include <samplers/infobatch.hpp>

#include <torch/torch.h>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kSteps = 256;  // of a full epoch

double nanoseconds(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double, std::nano>(end - begin).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Nanoseconds of one copy that reads and writes `bytes` together.
double copy_time(std::int64_t bytes) {
  const auto half = static_cast<std::size_t>(bytes / 2);
  std::vector<char> from(half, 1);
  std::vector<char> to(half, 0);
  std::vector<double> times;
  for (int repeat = 0; repeat < 101; ++repeat) {
    const auto begin = Clock::now();
    for (int i = 0; i < 256; ++i) {
      std::memcpy(to.data(), from.data(), half);
      benchmark::DoNotOptimize(to.data());
      benchmark::ClobberMemory();
    }
    times.push_back(nanoseconds(begin, Clock::now()) / 256);
  }
  return median(std::move(times));
}

/// Delivers a whole epoch. @return its number of full batches.
std::int64_t begin_epoch(infobatch::Session& session, std::int64_t batch) {
  session.begin();
  while (session.next(batch).count > 0) {
  }
  return session.length() / batch;
}

void report(benchmark::State& state, std::vector<double> times, std::int64_t bytes_per_sample) {
  const std::int64_t batch = state.range(0);
  const double step = median(std::move(times));
  state.counters["median_ns"] = step;
  state.counters["ns_per_sample"] = step / static_cast<double>(batch);
  state.counters["bytes_per_sample"] = static_cast<double>(bytes_per_sample);
  state.counters["times_memcpy"] = step / copy_time(bytes_per_sample * batch);
}

infobatch::Options options() { return infobatch::Options(1'000'000).threads(1).seed(1); }

/// step(session, losses, batch) for every batch of an epoch.
template <typename Step>
void measure_engine(benchmark::State& state, std::int64_t bytes_per_sample, Step step) {
  const std::int64_t batch = state.range(0);
  infobatch::Session session(kSteps * batch, options().config(), 1);
  const torch::Tensor losses = torch::rand({batch});
  std::vector<double> times;
  std::int64_t steps = begin_epoch(session, batch);
  while (state.KeepRunningBatch(steps)) {
    const auto begin = Clock::now();
    for (std::int64_t i = 0; i < steps; ++i) step(session, losses.const_data_ptr<float>(), batch);
    const double time = nanoseconds(begin, Clock::now());
    state.SetIterationTime(time * 1e-9);
    times.push_back(time / static_cast<double>(steps));
    steps = begin_epoch(session, batch);
  }
  report(state, std::move(times), bytes_per_sample);
}

void engine_update(benchmark::State& state) {
  // Losses and weights are read, the staged losses are written.
  measure_engine(state, 12, [](infobatch::Session& session, const float* losses, std::int64_t n) {
    float loss = 0.0F;
    session.update(losses, n, infobatch::Reduction::kMean, &loss);
    benchmark::DoNotOptimize(loss);
  });
}

void engine_observe(benchmark::State& state) {
  measure_engine(state, 8, [](infobatch::Session& session, const float* losses, std::int64_t n) {
    benchmark::DoNotOptimize(session.observe(losses, n).begin);
  });
}

enum class Ids { kNone, kInOrder, kReordered };

/// update(losses) or update(losses, ids), in turn with losses.mean().
void measure_libtorch(benchmark::State& state, Ids kind) {
  const bool by_ids = kind != Ids::kNone;
  const torch::NoGradGuard setup;
  const std::int64_t batch = state.range(0);
  infobatch::InfoBatch ib(kSteps * batch, options());
  const torch::Tensor losses = torch::rand({batch}).requires_grad_();
  std::vector<double> times;
  std::vector<double> bare;
  std::vector<double> above;
  std::vector<double> first_step;
  std::int64_t steps = begin_epoch(*ib.session(), batch);
  while (state.KeepRunningBatch(steps)) {
    std::vector<torch::Tensor> ids;
    const auto plan = ib.plan();
    for (std::int64_t i = 0; by_ids && i < steps; ++i) {
      ids.push_back(torch::empty({batch}, torch::kInt64));
      const std::int64_t from = kind == Ids::kReordered ? steps - 1 - i : i;
      std::copy_n(plan->ids() + from * batch, batch, ids.back().data_ptr<std::int64_t>());
    }
    double with = 0.0;
    double without = 0.0;
    const torch::AutoGradMode training(true);
    if (by_ids) {
      const auto start = Clock::now();
      benchmark::DoNotOptimize(ib.update(losses, ids.front()));
      first_step.push_back(nanoseconds(start, Clock::now()));
    }
    constexpr std::int64_t kTurn = 16;
    for (std::int64_t first = by_ids ? 1 : 0; first < steps; first += kTurn) {
      const std::int64_t last = std::min(first + kTurn, steps);
      const auto start = Clock::now();
      for (std::int64_t i = first; i < last; ++i) benchmark::DoNotOptimize(losses.mean());
      const auto middle = Clock::now();
      for (std::int64_t i = first; i < last; ++i) {
        benchmark::DoNotOptimize(by_ids ? ib.update(losses, ids[static_cast<std::size_t>(i)])
                                        : ib.update(losses));
      }
      without += nanoseconds(start, middle);
      with += nanoseconds(middle, Clock::now());
    }
    const auto timed = static_cast<double>(by_ids ? steps - 1 : steps);
    times.push_back(with / timed);
    bare.push_back(without / timed);
    above.push_back(times.back() - bare.back());
    state.SetIterationTime(times.back() * static_cast<double>(steps) * 1e-9);
    steps = begin_epoch(*ib.session(), batch);
  }
  state.counters["mean_ns"] = median(std::move(bare));
  state.counters["above_mean_ns"] = median(std::move(above));
  if (by_ids) {
    state.counters["first_step_ns_per_sample"] =
        median(std::move(first_step)) / static_cast<double>(kSteps * batch);
    state.counters["table_bytes_per_sample"] = kind == Ids::kReordered ? 4 : 0;
  }
  // The copy of the weights adds a read and a write; ids and the table's positions 8 + 4 bytes.
  report(state, std::move(times), by_ids ? 32 : 20);
}

void libtorch_update(benchmark::State& state) { measure_libtorch(state, Ids::kNone); }
void libtorch_ids(benchmark::State& state) { measure_libtorch(state, Ids::kInOrder); }
void libtorch_reordered(benchmark::State& state) { measure_libtorch(state, Ids::kReordered); }

}  // namespace

BENCHMARK(engine_update)->Name("update/engine")->Arg(128)->Arg(1024)->UseManualTime();
BENCHMARK(engine_observe)->Name("observe/engine")->Arg(128)->Arg(1024)->UseManualTime();
BENCHMARK(libtorch_update)->Name("update/libtorch")->Arg(128)->Arg(1024)->UseManualTime();
BENCHMARK(libtorch_ids)->Name("update/libtorch_ids")->Arg(128)->Arg(1024)->UseManualTime();
BENCHMARK(libtorch_reordered)
    ->Name("update/libtorch_ids_reordered")
    ->Arg(128)
    ->Arg(1024)
    ->UseManualTime();

BENCHMARK_MAIN();
