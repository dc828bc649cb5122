// What the boundary of an epoch costs: exact mean, keep decision, weights and shuffle of N samples
// with the rule of InfoBatch (prune ratio 0.5, losses like those of a model in training, about 68 %
// kept), from the score table to the finished plan. Entries: boundary/<N>/threads:<T> with the best
// instruction set that this processor runs, boundary/<N>/threads:1/<set> with each.
//
// Counters: ns_per_sample on average, best_ns_per_sample of the fastest boundary; bytes_per_sample
// of plan and scratch beside the score table, at the most at one time; kept, the share of the
// samples; times_read, the average against reading the score table with as many threads in this
// process.

#include <infobatch/detail/backend.hpp>
#include <infobatch/detail/buffer.hpp>
#include <infobatch/detail/kernels.hpp>
#include <infobatch/detail/random_words.hpp>
#include <infobatch/detail/streams.hpp>
#include <infobatch/detail/threads.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using infobatch::detail::SimdLevel;

constexpr std::uint64_t kSeed = 20240507;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// A figure of /proc in bytes ("MemAvailable" of meminfo, "VmRSS" and "VmHWM" of self/status), or
/// -1 where the system does not give it.
std::int64_t proc_bytes(const std::string& file, const std::string& name) {
  std::ifstream lines("/proc/" + file);
  for (std::string word; lines >> word;) {
    std::int64_t kibibytes = 0;
    if (word == name + ":" && lines >> kibibytes) return kibibytes * 1024;
  }
  return -1;
}

/// Starts VmHWM anew; false where the system does not allow it.
bool reset_peak() {
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5" << std::flush;
  return static_cast<bool>(clear);
}

/// The losses of samples: exponential, with mean 1. One table, the largest so far, serves all.
infobatch::Buffer<float>& table() {
  static infobatch::Buffer<float> losses;
  return losses;
}

const float* losses(std::int64_t n) {
  static std::int64_t filled = 0;
  if (n > table().size()) {
    table() = {};
    table() = infobatch::Buffer<float>(n);
    filled = 0;
  }
  if (filled < n) {
    float* const scores = table().data();
    infobatch::Team team(infobatch::resolve_threads(0));
    const std::int64_t blocks = (n - filled) / infobatch::kWordsPerBlock + 1;
    const std::int64_t start = filled;
    team.run([&](int thread) {
      std::vector<std::uint32_t> words(infobatch::kWordsPerBlock);
      const std::int64_t last = blocks * (thread + 1) / team.size();
      for (std::int64_t block = blocks * thread / team.size(); block < last; ++block) {
        infobatch::fill_random_words(
            1, 0, infobatch::kStreamPolicy, static_cast<std::uint64_t>(block), 1, words.data());
        const std::int64_t begin = start + block * infobatch::kWordsPerBlock;
        const std::int64_t end = std::min(begin + infobatch::kWordsPerBlock, n);
        for (std::int64_t i = begin; i < end; ++i) {
          const std::uint32_t word = words[static_cast<std::size_t>(i - begin)];
          scores[i] = -std::log((static_cast<float>(word >> 8) + 0.5f) * 0x1p-24f);
        }
      }
    });
    filled = n;
  }
  return table().data();
}

/// Seconds of reading n floats with the team, the best of some runs.
double read_seconds(const float* scores, std::int64_t n, infobatch::Team& team) {
  double best = 1e9;
  for (int run = 0; run < 5; ++run) {
    std::vector<std::uint64_t> sums(static_cast<std::size_t>(team.size()));
    const auto begin = Clock::now();
    team.run([&](int thread) {
      // 64 sums side by side: the loads are the only thing to wait for.
      std::uint32_t lanes[64] = {};
      const std::int64_t last = n * (thread + 1) / team.size();
      const auto* bits = reinterpret_cast<const unsigned char*>(scores);
      for (std::int64_t i = n * thread / team.size(); i + 64 <= last; i += 64) {
        std::uint32_t line[64];
        __builtin_memcpy(line, bits + 4 * i, sizeof(line));
        for (int lane = 0; lane < 64; ++lane) lanes[lane] += line[lane];
      }
      for (const std::uint32_t lane : lanes) sums[static_cast<std::size_t>(thread)] += lane;
    });
    benchmark::DoNotOptimize(sums.data());
    best = std::min(best, seconds_since(begin));
  }
  return best;
}

/// One boundary, from the score table to the plan, as a session makes it.
infobatch::PlanArrays boundary(const float* scores,
                               std::int64_t n,
                               std::uint32_t epoch,
                               int threads,
                               infobatch::PlanArrays recycled) {
  const infobatch::detail::Workers workers(n, threads);
  const float threshold = workers.sum(scores, n).threshold();
  infobatch::EpochRule rule;
  rule.classes = {{1.0, true}, {0.5, true}};
  rule.classifier = infobatch::Classifier::below(infobatch::Key::of(scores), threshold);
  return workers.plan({n, kSeed, epoch, rule}, std::move(recycled));
}

void BM_Boundary(benchmark::State& state, std::int64_t n, int threads, SimdLevel level) {
  infobatch::detail::set_simd_level(level);
  // What the plan reserves without touching it is left aside.
  const std::int64_t new_table = table().size() < n ? 4 * n : 0;
  const std::int64_t needed = 10 * n + new_table + (std::int64_t{256} << 20);
  const std::int64_t available = proc_bytes("meminfo", "MemAvailable");
  if (available >= 0 && available < needed) {
    const std::string reason = "needs " + std::to_string(needed >> 20) + " MiB of memory, " +
                               std::to_string(available >> 20) + " MiB are available";
    state.SkipWithError(reason.c_str());
    return;
  }
  const float* const scores = losses(n);
  infobatch::PlanArrays plan;
  std::uint32_t epoch = 0;
  const bool peak_known = reset_peak();
  const std::int64_t before = proc_bytes("self/status", "VmRSS");
  plan = boundary(scores, n, ++epoch, threads, std::move(plan));  // touches the memory
  const std::int64_t peak = proc_bytes("self/status", "VmHWM");

  double total = 0;
  double best = 1e9;
  for (auto _ : state) {
    const auto begin = Clock::now();
    plan = boundary(scores, n, ++epoch, threads, std::move(plan));
    const double seconds = seconds_since(begin);
    total += seconds;
    best = std::min(best, seconds);
    benchmark::DoNotOptimize(plan.ids.data());
  }
  const double seconds = total / static_cast<double>(state.iterations());
  const auto size = static_cast<double>(n);
  infobatch::Team team(infobatch::threads_for(n, threads));
  state.counters["ns_per_sample"] = seconds * 1e9 / size;
  state.counters["best_ns_per_sample"] = best * 1e9 / size;
  state.counters["times_read"] = seconds / read_seconds(scores, n, team);
  state.counters["kept"] = static_cast<double>(plan.size) / size;
  if (peak_known && before >= 0 && peak >= 0) {
    state.counters["bytes_per_sample"] = static_cast<double>(peak - before) / size;
  }
}

/// No options but the unit: the library would append them to the name. Its real_time is the figure;
/// cpu_time is that of the calling thread alone.
void add_entry(const std::string& name, std::int64_t samples, int threads, SimdLevel level) {
  benchmark::RegisterBenchmark(name.c_str(), BM_Boundary, samples, threads, level)
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  const SimdLevel best = infobatch::detail::best_simd_level();
  // The sizes of CIFAR, ImageNet-1k, ImageNet-22k and of the web.
  const std::vector<std::int64_t> sizes = {50000, 1281167, 14000000, 100000000, 1000000000};
  for (const std::int64_t samples : sizes) {
    for (const int threads : {1, 2}) {
      const std::string name =
          "boundary/" + std::to_string(samples) + "/threads:" + std::to_string(threads);
      add_entry(name, samples, threads, best);
    }
  }
  const std::vector<std::pair<std::string, SimdLevel>> levels = {{"portable", SimdLevel::kPortable},
                                                                 {"avx2", SimdLevel::kAvx2},
                                                                 {"avx512", SimdLevel::kAvx512}};
  for (const std::int64_t samples : {50000, 1281167, 14000000}) {
    for (const auto& [name, level] : levels) {
      if (level > best) continue;
      add_entry("boundary/" + std::to_string(samples) + "/threads:1/" + name, samples, 1, level);
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
