#include <cuda_kernels/backend.hpp>
#include <infobatch/c_api.h>
#include <infobatch/score.hpp>
#include <tests/cuda/device_array.hpp>
#include <tests/cuda/schedules.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

// The C interface on a device: a loop of pointers and a stream, with a session whose arrays the
// device writes itself. It is the processor's run to the bit, saved at any place too, where losses
// are still on their way.

using namespace infobatch;
using namespace infobatch::testing;

namespace {

constexpr std::int64_t kSize = 600;
constexpr std::int64_t kBatch = 100;
constexpr char kConfig[] = "{\"epochs\": 8, \"prune_ratio\": 0.4, \"seed\": 11}";

void ok(ib_status status) {
  INFO(ib_last_error());
  REQUIRE(status == IB_OK);
}

const char* device() {
  detail::add_backend(cuda::cuda_backend());
  std::int32_t index = 0;
  while (std::string(ib_backend_name(index)) != "cuda") ++index;
  return ib_backend_device(index);
}

/// A stream that waits for no other one.
class OwnStream {
 public:
  OwnStream() {
    REQUIRE(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking) == cudaSuccess);
  }
  ~OwnStream() { (void)cudaStreamDestroy(stream_); }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

struct Destroy {
  void operator()(ib_session* session) const { ib_session_destroy(session); }
};
using Run = std::unique_ptr<ib_session, Destroy>;

Run run_on(const char* backend) {
  ib_session* session = nullptr;
  ok(ib_session_create_on(kSize, kConfig, 1, backend, &session));
  return Run(session);
}

std::string state_of(const Run& run) {
  const char* data = nullptr;
  size_t bytes = 0;
  ok(ib_session_serialize(run.get(), &data, &bytes));
  return std::string(data, bytes);
}

std::vector<float> losses_of_ids(const std::int64_t* ids, std::int64_t count, std::int64_t epoch) {
  std::vector<float> losses;
  for (std::int64_t i = 0; i < count; ++i) losses.push_back(simulated_loss(ids[i], epoch));
  return losses;
}

ib_device_step step_of(const DeviceArray<float>& losses, std::int64_t rows) {
  ib_device_step step{};
  step.struct_size = sizeof step;
  step.device = device();
  step.losses = losses.data();
  step.rows = rows;
  step.width = 1;
  step.type = IB_FLOAT32;
  step.reduction = IB_MEAN;
  return step;
}

size_t scratch_of(const ib_device_step& step) {
  size_t bytes = 0;
  ok(ib_device_step_scratch(&step, &bytes));
  return bytes;
}

/// Memory that a queued step uses; to free it would wait for the device.
using InUse = std::vector<std::unique_ptr<DeviceArray<float>>>;

/// One epoch whose steps a stream works through, by no more than the C interface. Calls `after`
/// behind each step, and looks at its loss if that says so; nothing else waits for the stream.
template <typename After>
InUse train_on_device(const Run& run, std::int64_t epoch, cudaStream_t stream, const After& after) {
  InUse in_use;
  ok(ib_session_begin(run.get()));
  for (;;) {
    ib_slice batch;
    ok(ib_session_next(run.get(), kBatch, &batch));
    if (batch.count == 0) return in_use;
    ib_epoch_arrays arrays{};
    arrays.struct_size = sizeof arrays;
    ok(ib_session_epoch_arrays(run.get(), &arrays));
    const std::vector<float> losses = losses_of_ids(batch.ids, batch.count, epoch);
    in_use.push_back(std::make_unique<DeviceArray<float>>(losses));
    ib_device_step step = step_of(*in_use.back(), batch.count);
    step.stream = stream;
    step.weights = arrays.weights;
    step.size = arrays.size;
    step.begin = batch.begin;
    step.staged = arrays.losses;
    REQUIRE(scratch_of(step) == 0);
    const auto* const loss = in_use.emplace_back(std::make_unique<DeviceArray<float>>(1)).get();
    step.loss = loss->data();
    ok(ib_device_step_forward(&step));
    ok(ib_session_advance(run.get(), batch.count, nullptr));
    if (!after()) continue;
    double expected = 0.0;
    for (std::int64_t i = 0; i < batch.count; ++i) {
      expected += static_cast<double>(losses[static_cast<std::size_t>(i)]) *
                  static_cast<double>(batch.weights[i]);
    }
    REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
    REQUIRE(loss->values()[0] == static_cast<float>(expected / static_cast<double>(batch.count)));
  }
}

void train_on_processor(const Run& run, std::int64_t epoch, std::vector<std::string>& states) {
  ok(ib_session_begin(run.get()));
  for (;;) {
    ib_slice batch;
    ok(ib_session_next(run.get(), kBatch, &batch));
    if (batch.count == 0) return;
    ib_epoch_arrays arrays{};
    arrays.struct_size = sizeof arrays;
    ok(ib_session_epoch_arrays(run.get(), &arrays));
    const std::vector<float> losses = losses_of_ids(batch.ids, batch.count, epoch);
    std::copy(losses.begin(), losses.end(), arrays.losses + batch.begin);
    ok(ib_session_advance(run.get(), batch.count, nullptr));
    states.push_back(state_of(run));
  }
}

}  // namespace

TEST_CASE("cuda C interface: a loop on the device is the processor's run, saved behind any step",
          "[cuda][backend][c_api]") {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  CAPTURE(schedule.name);
  const WithSchedule with(schedule);
  (void)device();
  {
    const OwnStream stream;
    const Run plain = run_on(nullptr);
    const Run run = run_on("cuda");
    for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
      std::vector<std::string> expected;
      std::vector<std::string> states;
      train_on_processor(plain, epoch, expected);
      train_on_device(run, epoch, stream.get(), [&] {
        states.push_back(state_of(run));
        return true;
      });
      REQUIRE((states == expected));
    }
  }
  require_nothing_left();
}

TEST_CASE("cuda C interface: losses that ranks share are in, whatever stream brings them",
          "[cuda][backend][c_api]") {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  CAPTURE(schedule.name);
  const WithSchedule with(schedule);
  (void)device();
  {
    const OwnStream stream;
    const Run run = run_on("cuda");
    ib_ranks ranks{};
    ranks.struct_size = sizeof ranks;
    ranks.rank = 1;
    ranks.size = 2;
    ok(ib_session_set_ranks(run.get(), &ranks));
    const InUse in_use = train_on_device(run, 0, stream.get(), [] { return false; });
    const std::int32_t* bits = nullptr;
    std::int64_t count = 0;
    ok(ib_session_losses_to_share(run.get(), &bits, &count));
    ib_epoch_arrays arrays{};
    arrays.struct_size = sizeof arrays;
    ok(ib_session_epoch_arrays(run.get(), &arrays));
    REQUIRE(count == kSize / 2);
    for (std::int64_t row = 0; row < count; ++row) {
      const float loss = simulated_loss(arrays.ids[row], 0);
      REQUIRE(std::memcmp(&bits[row], &loss, sizeof loss) == 0);
    }
  }
}

TEST_CASE("cuda C interface: reductions, their divisors and gradients are as they are said to be",
          "[cuda][c_api]") {
  const NamedSchedule schedule = GENERATE(from_range(schedules()));
  const WithSchedule with(schedule);
  const bool by_ids = GENERATE(false, true);
  const ib_reduction reduction = GENERATE(IB_MEAN, IB_SUM, IB_NONE, IB_WEIGHTED_MEAN);
  const double divisor = GENERATE(0.0, 7.0);
  CAPTURE(by_ids, static_cast<int>(reduction), divisor);
  // Numbers whose sums and quotients are exact.
  const std::vector<float> losses = {1, 2, 3, 4, 5, 6, 7, 8};  // [4, 2]
  const std::vector<float> of_rows = {1, 2, 4, 1};             // their sum is 8
  const std::vector<std::int64_t> ids = {3, 0, 2, 9};          // 9 is none
  const DeviceArray<float> device_losses(losses);
  const DeviceArray<std::int64_t> device_ids(ids);
  const DeviceArray<float> in_order(std::vector<float>{9, 1, 2, 4, 1});
  const DeviceArray<float> table_weights(
      std::vector<float>{0, 2, 9, 4, 1, 0});  // of samples 0 to 3
  const DeviceArray<float> staged(std::vector<float>(5, -1.0f));
  constexpr std::int64_t kLowest = std::numeric_limits<std::int64_t>::min();
  const DeviceArray<std::int64_t> table(std::vector<std::int64_t>(6, kLowest));
  const DeviceArray<std::int64_t> row(std::vector<std::int64_t>{std::int64_t{1} << 32});
  const bool none = reduction == IB_NONE;
  const DeviceArray<float> loss(none ? 8 : 1);
  const DeviceArray<double> scale(1);
  ib_device_step step = step_of(device_losses, 4);
  step.width = 2;
  step.reduction = reduction;
  step.divisor = divisor;
  step.loss = loss.data();
  step.scale = scale.data();
  if (by_ids) {
    step.ids = device_ids.data();
    step.weights = table_weights.data();
    step.size = 4;
    step.table = table.data();
    step.row = row.data();
  } else {
    step.weights = in_order.data();
    step.size = 5;
    step.begin = 1;
    step.staged = staged.data();
  }
  const DeviceArray<char> scratch(static_cast<std::int64_t>(scratch_of(step)));
  step.scratch = scratch.data();
  ok(ib_device_step_forward(&step));

  std::vector<float> weights = of_rows;
  if (by_ids) weights = {1, 2, 4, 0};  // of samples 3, 0, 2 and none
  double sum = 0.0;
  double total = 0.0;
  for (std::size_t i = 0; i < 4; ++i) {
    sum += static_cast<double>(weights[i] * (losses[2 * i] + losses[2 * i + 1]));
    total += static_cast<double>(weights[i]);
  }
  double expected = 1.0;  // what a gradient is scaled by
  if (reduction == IB_MEAN) expected = 1.0 / (divisor == 0.0 ? 8.0 : divisor);
  if (reduction == IB_WEIGHTED_MEAN) expected = 1.0 / (total * (divisor == 0.0 ? 2.0 : divisor));
  const std::vector<float> found = loss.values();
  if (none) {
    for (std::size_t i = 0; i < 8; ++i) REQUIRE(found[i] == losses[i] * weights[i / 2]);
  } else {
    REQUIRE(found[0] == Catch::Approx(sum * expected).epsilon(1e-6));
  }
  const std::vector<float> scores = {1.5f, 3.5f, 5.5f, 7.5f};
  if (by_ids) {
    const std::vector<std::int64_t> recorded = table.values();
    const std::size_t slots[] = {4, 1, 3};
    for (std::size_t i = 0; i < 3; ++i) {
      const auto bits = static_cast<std::uint32_t>(recorded[slots[i]]);
      REQUIRE(std::memcmp(&bits, &scores[i], sizeof bits) == 0);
    }
    REQUIRE(recorded[2] == kLowest);
    REQUIRE(row.values()[0] == std::int64_t{5} << 32);
  } else {
    const std::vector<float> written = staged.values();
    REQUIRE(written[0] == -1.0f);
    for (std::size_t i = 0; i < 4; ++i) REQUIRE(written[i + 1] == scores[i]);
  }

  DeviceArray<float> row_weights(4);
  const float* of_backward = in_order.data() + 1;
  if (by_ids) {
    ok(ib_device_row_weights(&step, row_weights.data()));
    REQUIRE(row_weights.values() == weights);
    of_backward = row_weights.data();
  }
  const DeviceArray<float> given(std::vector<float>(none ? 8 : 1, 3.0f));
  const DeviceArray<float> gradient(8);
  ok(ib_device_step_backward(&step, given.data(), of_backward, gradient.data()));
  const std::vector<float> gradients = gradient.values();
  for (std::size_t i = 0; i < 8; ++i) {
    const double wanted = 3.0 * expected * static_cast<double>(weights[i / 2]);
    REQUIRE(gradients[i] == Catch::Approx(wanted).epsilon(1e-6));
  }
  ok(ib_device_scale_rows(&step, of_backward, gradient.data()));
  const std::vector<float> scaled = gradient.values();
  for (std::size_t i = 0; i < 8; ++i) REQUIRE(scaled[i] == losses[i] * weights[i / 2]);
}

TEST_CASE("cuda C interface: what is wrong is refused, with name, rule and value",
          "[cuda][c_api][rule13]") {
  const WithSchedule with(schedules()[0]);
  const DeviceArray<float> losses(std::vector<float>{1, 2});
  const DeviceArray<float> weights(std::vector<float>{1, 1});
  const DeviceArray<float> loss(1);
  ib_device_step right = step_of(losses, 2);
  right.weights = weights.data();
  right.size = 2;
  right.loss = loss.data();
  const DeviceArray<char> scratch(static_cast<std::int64_t>(scratch_of(right)));
  right.scratch = scratch.data();
  ok(ib_device_step_forward(&right));

  const auto refused = [&](const auto& change, const std::string& reason) {
    ib_device_step wrong = right;
    change(wrong);
    const Watch watch;
    REQUIRE(ib_device_step_forward(&wrong) == IB_INVALID_ARGUMENT);
    REQUIRE(std::string(ib_last_error()) == "ib_device_step_forward: " + reason);
    watch.require(0);
  };
  using Step = ib_device_step;
  refused([](Step& step) { step.device = nullptr; }, "device must not be NULL");
  refused(
      [](Step& step) { step.device = "tpu"; },
      "device must be one of a backend that was loaded and has kernels for a step, got \"tpu\"");
  refused(
      [](Step& step) { step.device = "cpu"; },
      "device must be one of a backend that was loaded and has kernels for a step, got \"cpu\"");
  refused([](Step& step) { step.rows = -1; },
          "losses must have 0 rows or more of width 1 or more, got -1 x 1");
  refused([](Step& step) { step.width = 0; },
          "losses must have 0 rows or more of width 1 or more, got 2 x 0");
  refused([](Step& step) { step.rows = step.width = std::int64_t{1} << 31; },
          "losses must have 0 rows or more of width 1 or more, got 2147483648 x 2147483648");
  refused([](Step& step) { step.type = IB_INT32; },
          "type must be IB_FLOAT16, IB_BFLOAT16, IB_FLOAT32 or IB_FLOAT64, got 6");
  refused([](Step& step) { step.reduction = 4; }, "reduction must be an ib_reduction, got 4");
  refused([](Step& step) { step.begin = 1; },
          "rows must be positions of the plan, got [1, 1 + 2) of 2");
  refused([](Step& step) { step.begin = -1; },
          "rows must be positions of the plan, got [-1, -1 + 2) of 2");
  refused([](Step& step) { step.losses = nullptr; }, "losses must not be NULL");
  refused([](Step& step) { step.weights = nullptr; }, "weights must not be NULL");
  refused([](Step& step) { step.loss = nullptr; }, "loss must not be NULL");
  refused([](Step& step) { step.rows = 1, step.width = 2, step.scratch = nullptr; },
          "scratch must not be NULL");
  refused([](Step& step) { step.struct_size = 8; },
          "struct_size of step must be its sizeof, set by the caller, got 8");
  const std::int64_t id = 0;
  const auto by_ids = [&](Step& step) {
    step.ids = &id;
    step.table = reinterpret_cast<std::int64_t*>(loss.data());
  };
  refused(by_ids, "row must not be NULL");
  float of_row = 0;
  REQUIRE(ib_device_step_backward(&right, losses.data(), &of_row, loss.data()) ==
          IB_INVALID_ARGUMENT);
  REQUIRE(std::string(ib_last_error()) == "ib_device_step_backward: scale must not be NULL");
  REQUIRE(ib_device_row_weights(&right, &of_row) == IB_INVALID_ARGUMENT);
  REQUIRE(std::string(ib_last_error()) == "ib_device_row_weights: ids must not be NULL");
  REQUIRE(ib_use_stream("cpu", nullptr) == IB_INVALID_ARGUMENT);
  REQUIRE(std::string(ib_last_error()) ==
          "ib_use_stream: backend must be one with streams that was loaded, got \"cpu\"");
  ok(ib_use_stream("cuda", nullptr));
  REQUIRE(ib_backend_device(0) == nullptr);
  REQUIRE(ib_backend_device(-1) == nullptr);
  REQUIRE(ib_backend_name(99) == nullptr);
}
