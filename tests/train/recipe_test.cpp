#define INFOBATCH_TEST_WITH_TORCH
#include <examples/train/batches.hpp>
#include <examples/train/dataset_builtin.hpp>
#include <examples/train/device.hpp>
#include <examples/train/models.hpp>
#include <examples/train/recipe.hpp>
#include <tests/support/catch2_shim.hpp>

#include <ATen/autocast_mode.h>

#include <cmath>

using namespace infobatch::train;

TEST_CASE("OneCycle: start, peak, end, and no jump between", "[train][recipe]") {
  REQUIRE(one_cycle(0.5, 0.0) == Catch::Approx(0.5 / 25));
  REQUIRE(one_cycle(0.5, 0.3) == Catch::Approx(0.5));
  REQUIRE(one_cycle(0.5, 1.0) == Catch::Approx(0.5 / 25 / 1e4));
  REQUIRE(one_cycle(0.5, 0.15) == Catch::Approx((0.5 + 0.5 / 25) / 2));
  REQUIRE(one_cycle(0.5, 0.65) == Catch::Approx((0.5 + 0.5 / 25e4) / 2));
  for (int i = 0; i < 1000; ++i) {
    const double step = one_cycle(0.5, (i + 1) / 1000.0) - one_cycle(0.5, i / 1000.0);
    REQUIRE(std::abs(step) < 0.005);
    REQUIRE((i < 300 ? step > 0.0 : step < 0.0));
  }
}

TEST_CASE("sample losses: cross entropy with label smoothing, one value a sample",
          "[train][recipe]") {
  const auto dtype = GENERATE(torch::kBFloat16, torch::kFloat32, torch::kFloat64);
  torch::manual_seed(3);
  const auto logits = torch::randn({7, 5}, torch::kFloat64).to(dtype);
  const auto labels = torch::tensor({0, 1, 2, 3, 4, 0, 1}, torch::kInt64);
  const auto losses = sample_losses(logits, labels, 0.1);
  REQUIRE(losses.scalar_type() == (dtype == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32));
  const auto log_p = torch::log_softmax(logits.to(torch::kFloat64), 1);
  const auto right = log_p.gather(1, labels.unsqueeze(1)).squeeze(1);
  const auto expected = -(0.9 * right + 0.1 * log_p.mean(1));
  REQUIRE(torch::allclose(losses.to(torch::kFloat64), expected, 1e-5, 1e-6));
}

TEST_CASE("models: logits of every model in every precision, gradients reach all parameters",
          "[train][recipe]") {
  const std::string name = GENERATE("small-cnn", "resnet18");
  const std::string dtype = GENERATE("fp32", "bf16", "fp64");
  CAPTURE(name, dtype);
  torch::manual_seed(1);
  const Precision precision = precision_of(dtype);
  const auto model = make_model(name, 7);
  model->to(precision.dtype);
  const auto logits = forward(*model, torch::rand({4, 3, 32, 32}, precision.dtype), precision);
  REQUIRE(logits.sizes() == torch::IntArrayRef({4, 7}));
  REQUIRE(logits.scalar_type() == (dtype == "bf16" ? torch::kBFloat16 : precision.dtype));
  REQUIRE_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
  sample_losses(logits, torch::tensor({0, 1, 2, 3}, torch::kInt64), 0.1).mean().backward();
  for (const auto& parameter : model->parameters()) {
    REQUIRE(parameter.scalar_type() == precision.dtype);
    REQUIRE(parameter.grad().abs().sum().item<double>() > 0.0);
  }
}

TEST_CASE("models: the same seed makes the same parameters", "[train][recipe]") {
  const auto first_parameter = [](std::uint64_t seed) {
    torch::manual_seed(seed);
    return make_model("small-cnn", 10)->parameters().front().detach().clone();
  };
  REQUIRE(torch::equal(first_parameter(5), first_parameter(5)));
  REQUIRE_FALSE(torch::equal(first_parameter(5), first_parameter(6)));
}

TEST_CASE("batches: labels and views by id, the epoch reaches copies", "[train][recipe]") {
  const Dataset data = [] {
    Dataset made = make_builtin(1, 50, 1);
    made.mean = {100.0f, 110.0f, 120.0f};
    made.deviation = {50.0f, 60.0f, 70.0f};
    return made;
  }();
  const std::vector<std::size_t> ids = {7, 7, 49, 0};
  ImageBatches plain(data, data.train);
  const Batch batch = plain.get_batch(ids);
  REQUIRE(batch.images.sizes() == torch::IntArrayRef({4, 3, 32, 32}));
  REQUIRE(batch.images.is_contiguous(torch::MemoryFormat::ChannelsLast));
  REQUIRE(torch::equal(batch.images[0], batch.images[1]));
  REQUIRE(batch.labels[2].item<int>() == data.train.labels[49]);
  const float expected =
      (static_cast<float>(data.train.image(49)[1024 + 5 * 32 + 6]) - 110.0f) / 60.0f;
  REQUIRE(batch.images[2][1][5][6].item<float>() == expected);

  ImageBatches original = plain.augmented(3);
  ImageBatches copy = original;
  const auto first = copy.get_batch(ids).images;
  REQUIRE(torch::equal(first, copy.get_batch(ids).images));
  original.set_epoch(1);
  REQUIRE_FALSE(torch::equal(first, copy.get_batch(ids).images));
}

TEST_CASE("batches: tensor operations give the views of the loops to the bit, on any device",
          "[train][recipe]") {
  const auto [height, width] = GENERATE(table<std::int64_t, std::int64_t>({{32, 32}, {9, 12}}));
  Dataset data;
  data.train.height = height;
  data.train.width = width;
  for (int i = 0; i < 40; ++i) data.train.labels.push_back(static_cast<std::uint8_t>(i % 7));
  for (std::int64_t i = 0; i < 40 * data.train.image_bytes(); ++i) {
    data.train.pixels.push_back(static_cast<std::uint8_t>(i * 37 % 251));
  }
  data.mean = {100.5f, 110.25f, 120.1f};
  data.deviation = {50.3f, 60.7f, 70.9f};
  const bool augmented = GENERATE(false, true);
  ImageBatches loops(data, data.train);
  if (augmented) loops = loops.augmented(3);
  ImageBatches tensors = loops.on(torch::kCPU);
  std::vector<std::size_t> ids;
  for (std::size_t i = 0; i < 200; ++i) ids.push_back(i * 11 % 40);
  for (const std::int64_t epoch : {0, 1, 5}) {
    tensors.set_epoch(epoch);  // of both
    const Batch expected = loops.get_batch(ids);
    const Batch found = tensors.get_batch(ids);
    REQUIRE(found.images.sizes() == expected.images.sizes());
    REQUIRE(found.images.is_contiguous(torch::MemoryFormat::ChannelsLast));
    REQUIRE(torch::equal(found.images, expected.images));
    REQUIRE(torch::equal(found.labels, expected.labels));
    REQUIRE(found.labels.scalar_type() == torch::kInt64);
  }
}

TEST_CASE("devices: the CPU is found by its name and computes in every precision",
          "[train][recipe]") {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64}) {
    REQUIRE(find_device("cpu", dtype).is_cpu());
  }
  REQUIRE(widest_float(torch::kCPU) == torch::kFloat64);
  REQUIRE_THROWS_AS(find_device("meta", torch::kFloat32), UsageError);
}
