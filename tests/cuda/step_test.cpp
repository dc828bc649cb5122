#include <cuda_kernels/half.hpp>
#include <cuda_kernels/step.hpp>
#include <infobatch/detail/philox.hpp>
#include <infobatch/score.hpp>
#include <tests/cuda/device_array.hpp>
#include <tests/cuda/schedules.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

// The kernels of a step under emulation, against what the rules say, computed here in the plainest
// way.

using namespace infobatch;
using namespace infobatch::testing;
using cuda::Bfloat16;
using cuda::Half;
using cuda::LossType;
using cuda::StepReduction;

namespace {

std::uint32_t word(std::uint32_t kind, std::int64_t i) {
  return random_word(7, kind, 70, static_cast<std::uint64_t>(i));
}

template <typename T>
struct TypeOf;
template <>
struct TypeOf<Half> {
  static constexpr LossType kType = LossType::kHalf;
  static Half of(double value) { return cuda::to_half(static_cast<float>(value)); }
  static double wide(Half value) { return static_cast<double>(cuda::to_float(value)); }
};
template <>
struct TypeOf<Bfloat16> {
  static constexpr LossType kType = LossType::kBfloat16;
  static Bfloat16 of(double value) { return cuda::to_bfloat16(static_cast<float>(value)); }
  static double wide(Bfloat16 value) { return static_cast<double>(cuda::to_float(value)); }
};
template <>
struct TypeOf<float> {
  static constexpr LossType kType = LossType::kFloat;
  static float of(double value) { return static_cast<float>(value); }
  static double wide(float value) { return static_cast<double>(value); }
};
template <>
struct TypeOf<double> {
  static constexpr LossType kType = LossType::kDouble;
  static double of(double value) { return value; }
  static double wide(double value) { return value; }
};
template <typename T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <typename T>
std::vector<T> losses_of_shape(std::int64_t rows, std::int64_t width) {
  std::vector<T> losses;
  for (std::int64_t i = 0; i < rows * width; ++i) {
    losses.push_back(TypeOf<T>::of(static_cast<double>(simulated_loss(i, 0)) - 0.1));
  }
  return losses;
}

std::vector<float> weights_of_rows(std::int64_t rows) {
  std::vector<float> weights;
  for (std::int64_t i = 0; i < rows; ++i) {
    weights.push_back(word(1, i) % 2 == 0 ? 1.0f : 1.0f / 0.3f);
  }
  return weights;
}

/// The exact mean of a row, rounded once.
template <typename T>
double row_mean(const std::vector<T>& losses, std::int64_t row, std::int64_t width) {
  double sum = 0.0;
  for (std::int64_t j = 0; j < width; ++j) {
    sum += TypeOf<T>::wide(losses[static_cast<std::size_t>(row * width + j)]);
  }
  return sum / static_cast<double>(width);
}

struct Shape {
  std::int64_t rows;
  std::int64_t width;
};
// One launch and two; rows by threads, by warps, by blocks; edges of each.
const Shape kShapes[] = {{1, 1},
                         {31, 1},
                         {32, 1},
                         {33, 1},
                         {255, 1},
                         {256, 1},
                         {257, 1},
                         {4096, 1},
                         {4097, 1},
                         {1, 2},
                         {7, 3},
                         {8, 33},
                         {9, 31},
                         {65, 7},
                         {3, 1023},
                         {2, 1024},
                         {5, 1025},
                         {1, 3000}};

template <typename T>
void check_in_order(const Shape& shape, StepReduction::Kind kind) {
  const std::int64_t begin = 5;
  const std::int64_t size = begin + shape.rows + 3;
  const std::vector<T> losses = losses_of_shape<T>(shape.rows, shape.width);
  const std::vector<float> weights = weights_of_rows(size);
  const DeviceArray<T> device_losses(losses);
  const DeviceArray<float> device_weights(weights);
  const DeviceArray<float> staged(std::vector<float>(static_cast<std::size_t>(size), -7.0f));
  const bool none = kind == StepReduction::kNone;
  const std::int64_t results = none ? shape.rows * shape.width : 1;
  const DeviceArray<Wide<T>> result(results);
  const DeviceArray<double> scale(1);
  cuda::StepRows rows{device_losses.data(), TypeOf<T>::kType, shape.rows, shape.width};
  const DeviceArray<char> scratch(static_cast<std::int64_t>(cuda::step_scratch(rows)));
  StepReduction reduction{kind, 1.0};
  if (kind == StepReduction::kDivided) {
    reduction.divisor = static_cast<double>(shape.rows * shape.width);
  } else {
    reduction.divisor = static_cast<double>(shape.width);
  }
  const bool one = shape.width == 1 && shape.rows <= 4096;
  const Watch watch;
  cuda::step_in_order(rows,
                      {device_weights.data(), staged.data(), size, begin, nullptr},
                      reduction,
                      {result.data(), scale.data(), scratch.data()},
                      nullptr);
  watch.require(one ? 1u : none ? 3u : 2u);

  const std::vector<float> written = staged.values();
  double sum = 0.0;
  double weight_sum = 0.0;
  for (std::int64_t p = 0; p < size; ++p) {
    const std::int64_t row = p - begin;
    CAPTURE(p);
    if (row < 0 || row >= shape.rows) {
      REQUIRE(written[static_cast<std::size_t>(p)] == -7.0f);
      continue;
    }
    const double mean = row_mean(losses, row, shape.width);
    // Another order of adding in float64 moves a score by one unit in its last place at the most.
    REQUIRE(std::abs(static_cast<double>(written[static_cast<std::size_t>(p)]) - mean) <=
            1.2e-7 * std::abs(mean) + 1e-12);
    const auto weight = static_cast<double>(weights[static_cast<std::size_t>(p)]);
    sum += weight * mean * static_cast<double>(shape.width);
    weight_sum += weight;
  }
  const std::vector<Wide<T>> values = result.values();
  if (none) {
    for (std::int64_t i = 0; i < results; ++i) {
      const float weight = weights[static_cast<std::size_t>(begin + i / shape.width)];
      const auto loss = static_cast<Wide<T>>(TypeOf<T>::wide(losses[static_cast<std::size_t>(i)]));
      REQUIRE(values[static_cast<std::size_t>(i)] == static_cast<Wide<T>>(weight) * loss);
    }
    return;
  }
  const double divisor =
      kind == StepReduction::kWeighted ? weight_sum * reduction.divisor : reduction.divisor;
  const double expected = sum / divisor;
  const double tolerance = std::is_same_v<T, double> ? 1e-12 : 1e-6;
  REQUIRE(std::abs(static_cast<double>(values[0]) - expected) <= tolerance * std::abs(expected));
  REQUIRE(scale.values()[0] == Catch::Approx(1.0 / divisor).epsilon(1e-14));
}

}  // namespace

TEST_CASE("cuda: half precision by bits is IEEE's", "[cuda][half]") {
  // Every float16 and back; between two neighbours the nearer one, and of both the even one.
  double before = -std::numeric_limits<double>::infinity();
  for (std::uint32_t k = 0; k < 0x10000u; ++k) {
    // In ascending order: from -infinity over the zeros to +infinity.
    const std::uint32_t magnitude = k < 0x7C01u ? 0x7C00u - k : k - 0x7C01u;
    if (magnitude > 0x7C00u) break;
    const auto bits = static_cast<std::uint16_t>(k < 0x7C01u ? magnitude | 0x8000u : magnitude);
    const float value = cuda::to_float(Half{bits});
    REQUIRE(cuda::to_half(value).bits == bits);
    const int exponent = static_cast<int>(magnitude >> 10);
    const double expected = exponent == 0
                                ? std::ldexp(static_cast<double>(magnitude), -24)
                                : std::ldexp(1024.0 + (magnitude & 0x3FFu), exponent - 25);
    if (exponent < 31) {
      REQUIRE(std::abs(static_cast<double>(value)) == expected);
      if (std::isfinite(before) && static_cast<double>(value) > before) {
        const double middle = (before + static_cast<double>(value)) / 2.0;
        const auto middle_float = static_cast<float>(middle);
        REQUIRE(static_cast<double>(middle_float) == middle);
        const std::uint16_t tie = cuda::to_half(middle_float).bits;
        REQUIRE((tie & 1u) == 0u);
        const float above = std::nextafter(middle_float, std::numeric_limits<float>::infinity());
        REQUIRE(cuda::to_half(above).bits == bits);
      }
    }
    before = static_cast<double>(value);
  }
  REQUIRE(cuda::to_half(65519.99f).bits == 0x7BFFu);
  REQUIRE(cuda::to_half(65520.0f).bits == 0x7C00u);
  REQUIRE((cuda::to_half(never_observed()).bits & 0x7FFFu) > 0x7C00u);
  REQUIRE(std::isnan(cuda::to_float(Half{0x7E01u})));
  for (std::uint32_t k = 0; k < 0x10000u; ++k) {
    const float value = cuda::to_float(Bfloat16{static_cast<std::uint16_t>(k)});
    REQUIRE(float_bits(value) == k << 16);
    if (value == value) REQUIRE(cuda::to_bfloat16(value).bits == k);
  }
  REQUIRE(cuda::to_bfloat16(bits_float(0x3F808000u)).bits == 0x3F80u);  // ties to even
  REQUIRE(cuda::to_bfloat16(bits_float(0x3F818000u)).bits == 0x3F82u);
  REQUIRE(cuda::to_bfloat16(bits_float(0x3F808001u)).bits == 0x3F81u);
  REQUIRE(cuda::to_bfloat16(std::numeric_limits<float>::max()).bits == 0x7F80u);
  REQUIRE((cuda::to_bfloat16(never_observed()).bits & 0x7FFFu) > 0x7F80u);
}

TEMPLATE_TEST_CASE("cuda: a step in order records, weighs and reduces",
                   "[cuda][rule6]",
                   Half,
                   Bfloat16,
                   float,
                   double) {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  const WithSchedule with(schedule);
  for (const Shape& shape : kShapes) {
    for (const auto kind :
         {StepReduction::kNone, StepReduction::kDivided, StepReduction::kWeighted}) {
      CAPTURE(schedule.name, shape.rows, shape.width, int{kind});
      check_in_order<TestType>(shape, kind);
    }
  }
  require_nothing_left();
}

TEST_CASE("cuda: a step gives the same bits under every schedule", "[cuda][rule6]") {
  std::map<std::int64_t, std::vector<double>> first;
  for (const NamedSchedule& schedule : schedules()) {
    const WithSchedule with(schedule);
    for (const Shape& shape : kShapes) {
      const DeviceArray<double> losses(losses_of_shape<double>(shape.rows, shape.width));
      const DeviceArray<float> weights(weights_of_rows(shape.rows));
      const DeviceArray<double> result(2);
      cuda::StepRows rows{losses.data(), LossType::kDouble, shape.rows, shape.width};
      const DeviceArray<char> scratch(static_cast<std::int64_t>(cuda::step_scratch(rows)));
      cuda::step_in_order(rows,
                          {weights.data(), nullptr, shape.rows, 0, nullptr},
                          {StepReduction::kWeighted, 1.0},
                          {result.data(), result.data() + 1, scratch.data()},
                          nullptr);
      const std::vector<double> values = result.values();
      const auto place = first.emplace(shape.rows * 10000 + shape.width, values);
      CAPTURE(schedule.name, shape.rows, shape.width);
      REQUIRE(values == place.first->second);
    }
  }
}

TEST_CASE("cuda: losses that are not finite become never observed", "[cuda][rule10]") {
  const WithSchedule with(schedules()[0]);
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> losses = {1.0f, infinity, bits_float(0x7fc12345u), -infinity, unseen()};
  const DeviceArray<float> device_losses(losses);
  const DeviceArray<float> scores(5);
  for (const std::int64_t width : {1, 5}) {
    cuda::row_scores(
        {device_losses.data(), LossType::kFloat, 5 / width, width}, scores.data(), nullptr);
    const std::vector<float> values = scores.values();
    if (width == 1) REQUIRE(values[0] == 1.0f);
    for (std::size_t i = width == 1 ? 1 : 0; i < (width == 1 ? 5u : 1u); ++i) {
      REQUIRE(float_bits(values[i]) == kNeverObservedBits);
    }
  }
  // Of doubles, what float32 cannot hold.
  const DeviceArray<double> wide(std::vector<double>{1e39, 3.4e38});
  cuda::row_scores({wide.data(), LossType::kDouble, 2, 1}, scores.data(), nullptr);
  REQUIRE(float_bits(scores.values()[0]) == kNeverObservedBits);
  REQUIRE(scores.values()[1] == 3.4e38f);
}

TEST_CASE("cuda: a cursor on the device moves by itself, up to the plan's end", "[cuda][rule11]") {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  const WithSchedule with(schedule);
  const std::int64_t width = GENERATE(1, 40);
  CAPTURE(schedule.name, width);
  constexpr std::int64_t kSize = 50;
  constexpr std::int64_t kBatch = 20;
  const std::vector<float> weights = weights_of_rows(kSize);
  const DeviceArray<float> device_weights(weights);
  const DeviceArray<float> staged(std::vector<float>(kSize, -1.0f));
  const DeviceArray<unsigned long long> cursor(std::vector<unsigned long long>{0, 0});
  const DeviceArray<float> result(1);
  const DeviceArray<float> losses(std::vector<float>(kBatch * 40, 2.0f));
  cuda::StepRows rows{losses.data(), LossType::kFloat, kBatch, width};
  const DeviceArray<char> scratch(static_cast<std::int64_t>(cuda::step_scratch(rows)));
  for (std::int64_t step = 0; step < 4; ++step) {
    cuda::step_in_order(rows,
                        {device_weights.data(), staged.data(), kSize, 0, cursor.data()},
                        {StepReduction::kDivided, static_cast<double>(width)},
                        {result.data(), nullptr, scratch.data()},
                        nullptr);
    double sum = 0.0;
    for (std::int64_t p = step * kBatch; p < std::min(kSize, (step + 1) * kBatch); ++p) {
      sum += 2.0 * static_cast<double>(weights[static_cast<std::size_t>(p)]);
    }
    REQUIRE(static_cast<double>(result.values()[0]) == Catch::Approx(sum).epsilon(1e-6));
  }
  REQUIRE(cursor.values() == std::vector<unsigned long long>{50, 30});
  REQUIRE(staged.values() == std::vector<float>(kSize, 2.0f));
}

TEST_CASE("cuda: a step by ids: the last row of an id wins, strangers weigh nothing",
          "[cuda][rule11]") {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  const WithSchedule with(schedule);
  const std::int64_t rows_count = GENERATE(1, 33, 300, 5000);
  if (is_brief() && rows_count > 1000) return;
  const std::int64_t width = GENERATE(1, 3);
  CAPTURE(schedule.name, rows_count, width);
  constexpr std::int64_t kSamples = 100;
  std::vector<float> weights(kSamples + 2, 0.0f);
  for (std::int64_t id = 0; id < kSamples; id += 2) {  // odd ids are not in the plan
    weights[static_cast<std::size_t>(id + 1)] = 1.0f + static_cast<float>(id);
  }
  const DeviceArray<float> device_weights(weights);
  const DeviceArray<long long> table(std::vector<long long>(kSamples + 2, 0));
  const DeviceArray<long long> row(std::vector<long long>{1LL << 32});
  std::map<std::int64_t, float> expected;
  std::int64_t first = 1;
  for (int step = 0; step < 3; ++step) {
    std::vector<std::int64_t> ids;
    std::vector<float> losses;
    std::vector<float> weight_of_row;
    double sum = 0.0;
    for (std::int64_t i = 0; i < rows_count; ++i) {
      std::int64_t id = static_cast<std::int64_t>(word(3, first + i) % 104) - 2;
      if (word(4, first + i) % 50 == 0) id = i % 2 == 0 ? INT64_MAX : INT64_MIN;
      const std::int64_t slot = id < 0 ? 0 : id >= kSamples ? kSamples + 1 : id + 1;
      float loss = simulated_loss(first + i, 1) - 0.3f;  // of both signs
      if (word(5, first + i) % 20 == 0) loss = std::numeric_limits<float>::quiet_NaN();
      ids.push_back(id);
      for (std::int64_t j = 0; j < width; ++j) losses.push_back(loss);
      expected[slot] = score_of_loss(loss);
      weight_of_row.push_back(weights[static_cast<std::size_t>(slot)]);
      sum += static_cast<double>(weight_of_row.back()) * static_cast<double>(loss);
    }
    const DeviceArray<std::int64_t> device_ids(ids);
    const DeviceArray<float> device_losses(losses);
    const DeviceArray<float> result(1);
    const cuda::StepByIds place{
        device_ids.data(), kSamples, device_weights.data(), table.data(), row.data()};
    cuda::StepRows rows{device_losses.data(), LossType::kFloat, rows_count, width};
    const DeviceArray<char> scratch(static_cast<std::int64_t>(cuda::step_scratch(rows)));
    cuda::step_by_ids(rows,
                      place,
                      {StepReduction::kDivided, static_cast<double>(width)},
                      {result.data(), nullptr, scratch.data()},
                      nullptr);
    const auto found = static_cast<double>(result.values()[0]);
    if (std::isnan(sum)) {
      REQUIRE(std::isnan(found));
    } else {
      REQUIRE(std::abs(found - sum) <= 1e-4 * std::abs(sum) + 1e-6);
    }
    const DeviceArray<float> gathered(rows_count);
    cuda::weights_of_ids(place, rows_count, gathered.data(), nullptr);
    REQUIRE(gathered.values() == weight_of_row);
    first += rows_count;
    REQUIRE(row.values()[0] == first << 32);
  }
  const std::vector<long long> losses = table.values();
  for (std::int64_t slot = 0; slot < kSamples + 2; ++slot) {
    CAPTURE(slot);
    const long long value = losses[static_cast<std::size_t>(slot)];
    const auto at = expected.find(slot);
    if (at == expected.end()) {
      REQUIRE(value == 0);
    } else {
      REQUIRE(static_cast<std::uint32_t>(value) == float_bits(at->second));
    }
  }
}

TEMPLATE_TEST_CASE(
    "cuda: gradients of a step and of rows", "[cuda][rule6]", Half, Bfloat16, float, double) {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  const WithSchedule with(schedule);
  using T = TestType;
  for (const Shape& shape : {Shape{1, 1}, Shape{257, 1}, Shape{9, 31}, Shape{16, 64}}) {
    CAPTURE(schedule.name, shape.rows, shape.width);
    const std::vector<float> weights = weights_of_rows(shape.rows);
    const DeviceArray<float> device_weights(weights);
    const DeviceArray<Wide<T>> given(std::vector<Wide<T>>{static_cast<Wide<T>>(0.75)});
    const DeviceArray<double> scale(std::vector<double>{1.0 / 48.0});
    const DeviceArray<T> gradient(shape.rows * shape.width);
    const cuda::StepRows rows{nullptr, TypeOf<T>::kType, shape.rows, shape.width};
    cuda::step_backward(
        rows, given.data(), scale.data(), device_weights.data(), gradient.data(), nullptr);
    std::vector<T> values = gradient.values();
    for (std::int64_t i = 0; i < shape.rows * shape.width; ++i) {
      const auto weight = static_cast<double>(weights[static_cast<std::size_t>(i / shape.width)]);
      const T expected = TypeOf<T>::of(0.75 / 48.0 * weight);
      REQUIRE(std::memcmp(&values[static_cast<std::size_t>(i)], &expected, sizeof(T)) == 0);
    }

    // In place, out of place at any alignment, and to float32.
    const std::vector<T> in = losses_of_shape<T>(shape.rows, shape.width);
    for (const std::int64_t shift : {0, 1}) {
      std::vector<T> shifted(static_cast<std::size_t>(shift), T{});
      shifted.insert(shifted.end(), in.begin(), in.end());
      const DeviceArray<T> array(shifted);
      T* const data = array.data() + shift;
      const DeviceArray<float> floats(shape.rows * shape.width);
      const cuda::StepRows given_rows{data, TypeOf<T>::kType, shape.rows, shape.width};
      cuda::scale_rows(given_rows, device_weights.data(), floats.data(), LossType::kFloat, nullptr);
      cuda::scale_rows(given_rows, device_weights.data(), data, TypeOf<T>::kType, nullptr);
      const std::vector<T> scaled = array.values();
      const std::vector<float> scaled_floats = floats.values();
      for (std::int64_t i = 0; i < shape.rows * shape.width; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const float weight = weights[static_cast<std::size_t>(i / shape.width)];
        const auto value =
            static_cast<Wide<T>>(TypeOf<T>::wide(in[at])) * static_cast<Wide<T>>(weight);
        const T expected = TypeOf<T>::of(static_cast<double>(value));
        REQUIRE(std::memcmp(&scaled[at + static_cast<std::size_t>(shift)], &expected, sizeof(T)) ==
                0);
        REQUIRE(scaled_floats[at] == static_cast<float>(value));
      }
    }
  }
}

TEST_CASE("cuda: a captured step goes through the plan, replay by replay", "[cuda][graph]") {
  const WithSchedule with(schedules()[0]);
  constexpr std::int64_t kSize = 640;
  constexpr std::int64_t kBatch = 64;
  const std::vector<float> weights = weights_of_rows(kSize);
  const DeviceArray<float> device_weights(weights);
  const DeviceArray<float> staged(std::vector<float>(kSize, -1.0f));
  const DeviceArray<unsigned long long> cursor(std::vector<unsigned long long>{0, 0});
  const DeviceArray<float> result(1);
  const DeviceArray<double> scale(1);
  const DeviceArray<float> gradient(kBatch);
  const DeviceArray<float> losses(kBatch);
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  cuda::step_in_order({losses.data(), LossType::kFloat, kBatch, 1},
                      {device_weights.data(), staged.data(), kSize, 0, cursor.data()},
                      {StepReduction::kDivided, kBatch},
                      {result.data(), scale.data(), nullptr},
                      stream);
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&replay, graph) == cudaSuccess);
  std::vector<float> expected;
  for (std::int64_t step = 0; step < kSize / kBatch; ++step) {
    std::vector<float> batch;
    for (std::int64_t i = 0; i < kBatch; ++i) batch.push_back(simulated_loss(i, step));
    REQUIRE(
        cudaMemcpy(losses.data(), batch.data(), kBatch * sizeof(float), cudaMemcpyHostToDevice) ==
        cudaSuccess);
    REQUIRE(cudaGraphLaunch(replay, stream) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
    expected.insert(expected.end(), batch.begin(), batch.end());
  }
  REQUIRE(staged.values() == expected);
  REQUIRE(cursor.values() == std::vector<unsigned long long>{kSize, 0});
  REQUIRE(cudaGraphExecDestroy(replay) == cudaSuccess);
  REQUIRE(cudaGraphDestroy(graph) == cudaSuccess);
  REQUIRE(cudaStreamDestroy(stream) == cudaSuccess);
}
