// What delivering samples costs: `Session::next`, the libtorch sampler, and torch's DataLoader
// around it, beside the same loader with torch's own RandomSampler.
//
// Counters: ns_per_index; bytes_per_sample read and written; times_memcpy the time against a copy
// of as many bytes in the same process. For the loader: ns a batch, and extra_ns above
// RandomSampler (both measured in turn, median over the epochs): of the batches alone, and with
// begin().

#include <samplers/infobatch.hpp>

#include <torch/torch.h>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kSize = 1 << 20;
constexpr std::int64_t kBatch = 1024;

double nanoseconds(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double, std::nano>(end - begin).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Nanoseconds a byte of copies of the size of a batch that walk through an epoch's ids.
double copy_time_per_byte() {
  const std::vector<std::int64_t> from(kSize, 1);
  std::vector<std::int64_t> to(kBatch);
  std::vector<double> times;
  for (int repeat = 0; repeat < 15; ++repeat) {
    const auto begin = Clock::now();
    for (std::int64_t i = 0; i + kBatch <= kSize; i += kBatch) {
      std::memcpy(to.data(), from.data() + i, kBatch * sizeof(std::int64_t));
      benchmark::DoNotOptimize(to.data());
      benchmark::ClobberMemory();
    }
    times.push_back(nanoseconds(begin, Clock::now()) / (2.0 * kSize * sizeof(std::int64_t)));
  }
  return median(std::move(times));
}

infobatch::Options options() { return infobatch::Options(1'000'000).threads(1).seed(1); }

/// Epochs are delivered without updates on purpose here.
void silence(infobatch::Session& session) {
  session.set_warning_handler([](const std::string&) {});
}

/// One observed epoch, so that the next one is pruned as in a training.
void observe_epoch(infobatch::Session& session) {
  session.begin();
  const std::int64_t delivered = session.next(kSize).count;
  const torch::Tensor losses = torch::rand({delivered}).log().neg();
  session.observe(losses.const_data_ptr<float>(), delivered);
}

/// deliver() delivers a batch and returns its size, 0 at the end of the epoch.
template <typename Begin, typename Deliver>
void measure(benchmark::State& state, double bytes_per_sample, Begin begin_epoch, Deliver deliver) {
  std::vector<double> times;
  begin_epoch();
  for (auto _ : state) {
    begin_epoch();
    std::int64_t total = 0;
    const auto begin = Clock::now();
    while (const std::int64_t count = deliver()) total += count;
    const double time = nanoseconds(begin, Clock::now());
    state.SetIterationTime(time * 1e-9);
    times.push_back(time / static_cast<double>(total));
  }
  const double per_index = median(std::move(times));
  state.counters["ns_per_index"] = per_index;
  state.counters["bytes_per_sample"] = bytes_per_sample;
  if (bytes_per_sample > 0) {
    state.counters["times_memcpy"] = per_index / (bytes_per_sample * copy_time_per_byte());
  }
}

void session_next(benchmark::State& state) {
  infobatch::Session session(kSize, options().config(), 1);
  silence(session);
  observe_epoch(session);
  // A slice points into the plan: nothing is moved.
  measure(
      state,
      0,
      [&] { session.begin(); },
      [&] {
        const infobatch::Slice slice = session.next(kBatch);
        benchmark::DoNotOptimize(slice.ids());
        return slice.count;
      });
}

void sampler_next(benchmark::State& state) {
  infobatch::InfoBatch ib(kSize, options());
  silence(*ib.session());
  observe_epoch(*ib.session());
  infobatch::InfoBatchSampler sampler = ib.sampler();
  measure(
      state,
      16,
      [&] { sampler.reset(); },
      [&] {
        const auto ids = sampler.next(kBatch);
        benchmark::DoNotOptimize(ids);
        return ids ? static_cast<std::int64_t>(ids->size()) : 0;
      });
}

/// A data set that does nothing: the loader's own cost is what is left.
struct Nothing : torch::data::datasets::BatchDataset<Nothing, std::size_t> {
  std::size_t get_batch(c10::ArrayRef<std::size_t> ids) override { return ids.size(); }
  std::optional<std::size_t> size() const override { return kSize; }
};

struct LoaderTime {
  double batches;  // ns a batch, begin() apart
  double all;      // ns a batch, begin() included
};

template <typename Loader>
LoaderTime time_of(Loader& loader) {
  std::int64_t count = 0;
  const auto start = Clock::now();
  auto batch = loader.begin();
  const auto begun = Clock::now();
  for (; batch != loader.end(); ++batch) {
    benchmark::DoNotOptimize(*batch);
    ++count;
  }
  const auto end = Clock::now();
  return {nanoseconds(begun, end) / static_cast<double>(count),
          nanoseconds(start, end) / static_cast<double>(count)};
}

void data_loader(benchmark::State& state) {
  infobatch::InfoBatch ib(kSize, options());
  silence(*ib.session());
  observe_epoch(*ib.session());
  auto ours = torch::data::make_data_loader(Nothing(), ib.sampler(), kBatch);
  auto plain =
      torch::data::make_data_loader(Nothing(), torch::data::samplers::RandomSampler(kSize), kBatch);
  time_of(*ours);
  time_of(*plain);
  std::vector<double> times;
  std::vector<double> bare;
  std::vector<double> extra;
  std::vector<double> extra_all;
  for (auto _ : state) {
    const LoaderTime other = time_of(*plain);
    observe_epoch(*ib.session());
    const LoaderTime own = time_of(*ours);
    times.push_back(own.batches);
    bare.push_back(other.batches);
    extra.push_back(own.batches - other.batches);
    extra_all.push_back(own.all - other.all);
    state.SetIterationTime(own.batches * 1e-9);
  }
  state.counters["ns_per_batch"] = median(std::move(times));
  state.counters["random_sampler_ns"] = median(std::move(bare));
  state.counters["extra_ns"] = median(std::move(extra));
  state.counters["extra_with_begin_ns"] = median(std::move(extra_all));
  state.counters["bytes_per_sample"] = 16;
}

}  // namespace

BENCHMARK(session_next)->Name("delivery/session/1024")->UseManualTime()->Iterations(50);
BENCHMARK(sampler_next)->Name("delivery/sampler/1024")->UseManualTime()->Iterations(50);
BENCHMARK(data_loader)->Name("delivery/data_loader/1024")->UseManualTime()->Iterations(50);

BENCHMARK_MAIN();
