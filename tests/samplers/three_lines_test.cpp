// The loop of the three lines: which samples come, in which order, and whether it trains.

#include <tests/samplers/toy.hpp>

#include <algorithm>
#include <numeric>

namespace infobatch::testing {
namespace {

TEST_CASE("the three-line loop trains and skips samples", "[samplers][loop]") {
  const std::int64_t size = 1000;
  ToyData data(size);
  InfoBatch ib(size, Options(/*epochs=*/8).prune_ratio(0.5).seed(3));
  auto loader = torch::data::make_data_loader(data, ib.sampler(), 50);
  torch::nn::Linear model = toy_model();
  torch::optim::SGD optimizer(model->parameters(), 0.2);

  const auto full_loss = [&] {
    std::vector<std::size_t> all(static_cast<std::size_t>(size));
    std::iota(all.begin(), all.end(), std::size_t{0});
    const torch::NoGradGuard no_grad;
    return toy_losses(model, data.get_batch(all)).mean().item<double>();
  };
  const double before = full_loss();
  std::vector<std::int64_t> sizes;
  for (int epoch = 0; epoch < 8; ++epoch) {
    sizes.push_back(0);
    for (ToyBatch& batch : *loader) {
      optimizer.zero_grad();
      torch::Tensor loss = ib.update(toy_losses(model, batch));
      loss.backward();
      optimizer.step();
      sizes.back() += batch.x.size(0);
    }
  }
  CAPTURE(sizes);
  REQUIRE(sizes.front() == size);
  for (int epoch = 1; epoch < 7; ++epoch) {  // floor(.875 * 8) = 7
    REQUIRE(sizes[epoch] < 850);
    REQUIRE(sizes[epoch] > 400);
  }
  REQUIRE(sizes[7] == size);
  REQUIRE(full_loss() < 0.2 * before);  // the noise of the targets is left
  REQUIRE(ib.progress() == 1.0);
  REQUIRE(ib.statistics().samples_planned ==
          std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}));
}

/// The losses of a batch in the dtype and shape asked for; mean over the row is the toy loss.
torch::Tensor shaped(const torch::Tensor& losses, int dims, torch::Dtype dtype) {
  torch::Tensor out = losses;
  if (dims >= 2) out = out.unsqueeze(1) * torch::tensor({0.5F, 1.0F, 1.5F});
  if (dims >= 3) out = out.unsqueeze(2) * torch::tensor({0.75F, 1.25F});
  return out.to(dtype);
}

TEST_CASE("every loader setting, dtype and shape delivers the plan in order and finishes the epoch",
          "[samplers][loop]") {
  const std::size_t workers = GENERATE(0, 4);
  const bool drop_last = GENERATE(false, true);
  const std::int64_t micro = GENERATE(1, 3);  // update calls a batch
  const auto dtype = GENERATE(torch::kHalf, torch::kBFloat16, torch::kFloat, torch::kDouble);
  const int dims = GENERATE(1, 2, 3);
  CAPTURE(workers, drop_last, micro, dtype, dims);
  const std::int64_t size = 107;
  const std::int64_t batch_size = 10;
  InfoBatch ib(size, Options(4).seed(5));
  auto options = torch::data::DataLoaderOptions(batch_size).workers(workers).drop_last(drop_last);
  auto loader = make_data_loader(ToyData(size), ib, options);
  torch::nn::Linear model = toy_model();

  for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
    REQUIRE(ib.epoch() == epoch);
    const auto plan = ib.plan();
    const std::vector<std::int64_t> planned = plan_ids(ib);
    REQUIRE(ib.size() == static_cast<std::int64_t>(planned.size()));
    REQUIRE((epoch == 0 || epoch == 3 ? ib.size() == size : ib.size() < size));
    std::vector<std::int64_t> delivered;
    for (ToyBatch& batch : *loader) {
      const torch::Tensor losses = shaped(toy_losses(model, batch), dims, dtype);
      const float* weights = plan->weights() + delivered.size();
      for (const torch::Tensor& part : losses.chunk(micro)) {
        const torch::Tensor loss = ib.update(part, Reduction::kSum);
        REQUIRE(loss.dim() == 0);
        REQUIRE(loss.scalar_type() == (dtype == torch::kDouble ? torch::kDouble : torch::kFloat));
        REQUIRE(loss.requires_grad());
      }
      const torch::Tensor ones = torch::from_blob(const_cast<float*>(weights), {batch.ids.size(0)});
      REQUIRE(((ones == 1.0F) | (ones == 2.0F)).all().item<bool>());
      for (const std::int64_t id : to_vector(batch.ids)) delivered.push_back(id);
    }
    const std::size_t whole = drop_last ? planned.size() / 10 * 10 : planned.size();
    REQUIRE(delivered == std::vector<std::int64_t>(planned.begin(), planned.begin() + whole));
    // What was stored is the row's mean, rounded once to float32.
    const torch::Tensor ids = torch::tensor(std::vector<std::int64_t>(delivered));
    ib.size();  // the next plan: the losses enter the scores
    const torch::Tensor scores =
        torch::from_blob(const_cast<float*>(ib.session()->scores()), {size});
    std::vector<std::size_t> request(delivered.begin(), delivered.end());
    const torch::Tensor expected =
        shaped(toy_losses(model, ToyData(size).get_batch(request)), dims, dtype)
            .to(torch::kDouble)
            .view({static_cast<std::int64_t>(request.size()), -1})
            .mean(1);
    const double tolerance = dtype == torch::kHalf || dtype == torch::kBFloat16 ? 1e-2 : 1e-6;
    REQUIRE(torch::allclose(scores.index_select(0, ids).to(torch::kDouble), expected, tolerance));
  }
}

TEST_CASE("defect 5: size() is right at the start of every epoch", "[samplers][loop]") {
  InfoBatch ib(500, Options(6).seed(1));
  InfoBatchSampler sampler = ib.sampler();
  auto loader = torch::data::make_data_loader(ToyData(500), sampler, 32);
  torch::nn::Linear model = toy_model();
  for (int epoch = 0; epoch < 6; ++epoch) {
    const std::int64_t promised = ib.size();
    REQUIRE(sampler.size() == static_cast<std::size_t>(promised));
    std::int64_t seen = 0;
    for (ToyBatch& batch : *loader) {
      ib.update(toy_losses(model, batch));
      seen += batch.ids.size(0);
    }
    REQUIRE(seen == promised);
  }
}

TEST_CASE("defect 10: peeking and iterating without update repeat the same plan",
          "[samplers][loop]") {
  const std::size_t workers = GENERATE(0, 4);
  InfoBatch ib(100, Options(5).seed(2));
  auto loader = torch::data::make_data_loader(
      ToyData(100), ib.sampler(), torch::data::DataLoaderOptions(8).workers(workers));
  run_epoch(ib);
  const std::vector<std::int64_t> planned = plan_ids(ib);
  REQUIRE(planned.size() < 100);
  for (int round = 0; round < 3; ++round) {
    std::vector<std::int64_t> delivered;
    for (ToyBatch& batch : *loader) {
      for (const std::int64_t id : to_vector(batch.ids)) delivered.push_back(id);
    }
    REQUIRE(delivered == planned);
    REQUIRE(ib.epoch() == 1);
    auto peek = torch::data::make_data_loader(
        ToyData(100), ib.sampler(), torch::data::DataLoaderOptions(8).workers(workers));
    REQUIRE(to_vector(peek->begin()->ids).front() == planned.front());
  }
}

TEST_CASE("defect 1: epochs end, and pruning goes on, with the stock loader", "[samplers][loop]") {
  const bool drop_last = GENERATE(false, true);
  InfoBatch ib(1000, Options(10).seed(1));
  auto loader = torch::data::make_data_loader(
      ToyData(1000), ib.sampler(), torch::data::DataLoaderOptions(64).drop_last(drop_last));
  torch::nn::Linear model = toy_model();
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::int64_t seen = 0;
    for (ToyBatch& batch : *loader) {
      ib.update(toy_losses(model, batch));
      seen += batch.ids.size(0);
      REQUIRE(seen <= 1000);
    }
    REQUIRE((epoch == 0 ? seen > 1000 - 64 : seen < 900));
  }
}

TEST_CASE("two InfoBatch objects are independent, copies of one share its state",
          "[samplers][loop]") {
  InfoBatch alone(200, Options(6).seed(1));
  for (int epoch = 0; epoch < 3; ++epoch) run_epoch(alone);
  InfoBatch a(200, Options(6).seed(1));
  InfoBatch b(200, Options(6).seed(2));
  InfoBatch copy = a;
  for (int epoch = 0; epoch < 3; ++epoch) {
    run_epoch(epoch == 1 ? copy : a);
    run_epoch(b);
  }
  REQUIRE(plan_ids(a) == plan_ids(alone));
  REQUIRE(plan_ids(copy) == plan_ids(a));
  REQUIRE(copy.epoch() == 3);
  REQUIRE(plan_ids(a) != plan_ids(b));
  REQUIRE(copy.session() == a.session());
}

TEST_CASE("an InfoBatch of no samples trains on nothing", "[samplers][loop]") {
  InfoBatch ib(0, Options(3).seed(1));
  InfoBatchSampler sampler = ib.sampler();
  for (int epoch = 0; epoch < 3; ++epoch) {
    REQUIRE(ib.size() == 0);
    sampler.reset();
    REQUIRE_FALSE(sampler.next(4).has_value());
  }
}

}  // namespace
}  // namespace infobatch::testing
