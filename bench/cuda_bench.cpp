// What the kernels of cuda_kernels/ take: the steps of a boundary, and the step of a loop. Prints
// JSON.
//
//   cuda_bench [--samples N,N,...] [--repeats R]
//
// Each figure is the median over R rounds of the wall clock of calls between two waits. Compiled
// for the emulation it only shows that it runs: its figures are then those of an emulation.
#include <cuda_kernels/backend.hpp>
#include <cuda_kernels/exact_mean.hpp>
#include <cuda_kernels/fold.hpp>
#include <cuda_kernels/plan_builder.hpp>
#include <cuda_kernels/step.hpp>
#include <infobatch/detail/philox.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace infobatch;

template <typename T>
class OnDevice {
 public:
  explicit OnDevice(std::int64_t size) {
    cuda::require(cudaMalloc(&data_, static_cast<std::size_t>(size) * sizeof(T)), "cudaMalloc");
  }
  explicit OnDevice(const std::vector<T>& values)
      : OnDevice(static_cast<std::int64_t>(values.size())) {
    cuda::require(
        cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
        "cudaMemcpy");
  }
  ~OnDevice() { (void)cudaFree(data_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  T* data() const { return data_; }

 private:
  T* data_ = nullptr;
};

int repeats = 11;
bool first_line = true;

/// Prints the median, in microseconds a call.
void measure(const std::string& name,
             std::int64_t size,
             int calls,
             const std::function<void()>& call) {
  std::vector<double> rounds;
  for (int round = -1; round < repeats; ++round) {
    cuda::require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    const auto begin = std::chrono::steady_clock::now();
    for (int k = 0; k < calls; ++k) call();
    cuda::require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    if (round >= 0) rounds.push_back(took.count() / calls);  // the first one warms up
  }
  std::sort(rounds.begin(), rounds.end());
  std::printf("%s  {\"name\": \"%s\", \"size\": %lld, \"microseconds\": %.3f}",
              first_line ? "" : ",\n",
              name.c_str(),
              static_cast<long long>(size),
              rounds[rounds.size() / 2]);
  std::fflush(stdout);
  first_line = false;
}

void boundary(std::int64_t n) {
  std::vector<float> losses(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t word = random_word(1, 0, 70, static_cast<std::uint64_t>(i));
    losses[static_cast<std::size_t>(i)] =
        -std::log((static_cast<float>(word >> 8) + 0.5f) * 0x1p-24f);
  }
  const OnDevice<float> scores(losses);
  const OnDevice<std::int64_t> ids(n);
  const OnDevice<float> weights(n);
  const OnDevice<float> staged(losses);
  float threshold = 0.0f;
  {
    cuda::Work work(nullptr);
    threshold = cuda::sum_scores(work, scores.data(), n).threshold();
  }
  measure("sum", n, 5, [&] {
    cuda::Work work(nullptr);
    cuda::sum_scores(work, scores.data(), n);
  });
  detail::PlanTask task;
  task.size = n;
  task.seed = 17;
  task.rule.classes = {{1.0, true}, {0.5, true}};
  task.rule.classifier = Classifier::below(Key::of(scores.data()), threshold);
  std::int64_t kept = 0;
  const auto plan = [&] {
    cuda::Work work(nullptr);
    ++task.epoch;
    kept = cuda::fill_plan(work, task, {}, {ids.data(), weights.data()}).kept;
    work.wait();
  };
  measure("plan, bernoulli", n, 3, plan);
  task.rule.mode = KeepMode::kExact;
  measure("plan, exact", n, 3, plan);
  task.rule.mode = KeepMode::kBernoulli;
  plan();
  measure("fold", n, 3, [&] {
    cuda::Work work(nullptr);
    detail::FoldArrays arrays{scores.data(), ids.data(), staged.data(), nullptr, kept, n};
    cuda::fold(work, {}, arrays, {{{0, kept}, {}}});
  });
  measure("boundary: fold, sum, plan", n, 3, [&] {
    cuda::Work work(nullptr);
    detail::FoldArrays arrays{scores.data(), ids.data(), staged.data(), nullptr, kept, n};
    cuda::fold(work, {}, arrays, {{{0, kept}, {}}});
    task.rule.classifier.threshold = cuda::sum_scores(work, scores.data(), n).threshold();
    ++task.epoch;
    kept = cuda::fill_plan(work, task, {}, {ids.data(), weights.data()}).kept;
    work.wait();
  });
}

void step(std::int64_t rows, std::int64_t width, cuda::LossType type, const char* type_name) {
  const OnDevice<double> losses(std::vector<double>(static_cast<std::size_t>(rows * width), 0.5));
  const OnDevice<double> gradient(rows * width);
  const OnDevice<float> weights(std::vector<float>(static_cast<std::size_t>(rows), 1.0f));
  const OnDevice<float> staged(rows);
  const OnDevice<double> result(2);
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(rows));
  for (std::int64_t i = 0; i < rows; ++i) numbers[static_cast<std::size_t>(i)] = i;
  const OnDevice<std::int64_t> ids(numbers);
  const OnDevice<float> by_slot(std::vector<float>(static_cast<std::size_t>(rows) + 2, 1.0f));
  const OnDevice<long long> table(std::vector<long long>(static_cast<std::size_t>(rows) + 2, 0));
  const OnDevice<long long> row(std::vector<long long>{1LL << 32});
  const cuda::StepRows batch{losses.data(), type, rows, width};
  const OnDevice<char> scratch(static_cast<std::int64_t>(cuda::step_scratch(batch)) + 1);
  const cuda::StepReduction mean{cuda::StepReduction::kDivided, static_cast<double>(rows * width)};
  const cuda::StepResult out{result.data(), result.data() + 1, scratch.data()};
  const std::string name =
      std::string(type_name) + " [" + std::to_string(rows) + ", " + std::to_string(width) + "]";
  measure("update in order, " + name, rows, 200, [&] {
    cuda::step_in_order(
        batch, {weights.data(), staged.data(), rows, 0, nullptr}, mean, out, nullptr);
  });
  measure("update by ids, " + name, rows, 200, [&] {
    cuda::step_by_ids(
        batch, {ids.data(), rows, by_slot.data(), table.data(), row.data()}, mean, out, nullptr);
  });
  measure("backward, " + name, rows, 200, [&] {
    cuda::step_backward(
        batch, result.data(), result.data() + 1, weights.data(), gradient.data(), nullptr);
  });
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::int64_t> sizes = {50'000, 1'280'000, 14'000'000, 100'000'000};
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--repeats") == 0) repeats = std::max(std::atoi(argv[i + 1]), 1);
    if (std::strcmp(argv[i], "--samples") != 0) continue;
    sizes.clear();
    std::istringstream list(argv[i + 1]);
    for (std::string size; std::getline(list, size, ',');) sizes.push_back(std::stoll(size));
  }
  if (const char* const why = cuda::why_no_device()) {
    std::fprintf(stderr, "cuda_bench: %s\n", why);
    return 77;
  }
  std::puts("[");
  try {
    for (const std::int64_t n : sizes) boundary(n);
    for (const std::int64_t rows : {128, 1024, 16384}) {
      step(rows, 1, cuda::LossType::kFloat, "float32");
    }
    step(8, 4096, cuda::LossType::kBfloat16, "bfloat16");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_bench: %s\n", error.what());
    return 1;
  }
  std::puts("\n]");
  return 0;
}
