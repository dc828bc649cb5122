// Batches that are named by their ids: Indexed, any order, repeated and missing batches.

#include <tests/samplers/toy.hpp>

#include <algorithm>
#include <set>

namespace infobatch::testing {
namespace {

TEST_CASE("Indexed puts the ids of the very rows into the batch", "[samplers][ids]") {
  const std::size_t workers = GENERATE(0, 4);
  InfoBatch ib(300, Options(3).seed(1));
  run_epoch(ib);
  auto loader = make_data_loader(
      Indexed(ToyData(300)), ib, torch::data::DataLoaderOptions(16).workers(workers));
  std::int64_t seen = 0;
  for (auto& batch : *loader) {
    REQUIRE(batch.ids.scalar_type() == torch::kInt64);
    REQUIRE(torch::equal(batch.ids, batch.batch.ids));
    seen += batch.ids.size(0);
  }
  REQUIRE(seen == ib.size());
}

TEST_CASE("the loop of the documentation sees each epoch once, though it skips batches by ids",
          "[samplers][ids]") {
  const std::size_t workers = GENERATE(0, 4);
  InfoBatch ib(160, Options(5).seed(2));
  auto loader = make_data_loader(
      Indexed(ToyData(160)), ib, torch::data::DataLoaderOptions(16).workers(workers));
  std::vector<std::int64_t> epochs;
  for (auto e = ib.epoch(); e < 5; ++e) {
    ib.set_epoch(e);
    int index = 0;
    for (auto& batch : *loader) {
      if (index++ == 1) continue;
      ib.update(torch::rand({batch.ids.size(0)}), batch.ids);
    }
    epochs.push_back(ib.statistics().epoch);
  }
  REQUIRE(epochs == std::vector<std::int64_t>{0, 1, 2, 3, 4});
}

TEST_CASE("Indexed wraps a data set after its maps", "[samplers][ids]") {
  struct Rows : torch::data::datasets::Dataset<Rows, torch::data::TensorExample> {
    torch::data::TensorExample get(std::size_t id) override {
      return torch::full({2}, static_cast<float>(id));
    }
    std::optional<std::size_t> size() const override { return 50; }
  };
  InfoBatch ib(50, Options(3).seed(1));
  auto data = Rows().map(torch::data::transforms::Stack<torch::data::TensorExample>());
  auto loader = make_data_loader(Indexed(std::move(data)), ib, 8);
  for (auto& batch : *loader) {
    REQUIRE(torch::equal(batch.batch.data.select(1, 0), batch.ids.to(torch::kFloat)));
    ib.update(batch.batch.data, batch.ids);
  }
  REQUIRE(ib.epoch() == 1);
}

TEST_CASE("unordered batches with ids leave the same scores as ordered ones", "[samplers][ids]") {
  const auto train = [](bool ordered) {
    InfoBatch ib(400, Options(6).seed(4));
    auto loader =
        make_data_loader(Indexed(ToyData(400)),
                         ib,
                         torch::data::DataLoaderOptions(16).workers(4).enforce_ordering(ordered));
    torch::nn::Linear model = toy_model();
    std::vector<std::vector<std::int64_t>> plans;
    for (int epoch = 0; epoch < 5; ++epoch) {
      plans.push_back(plan_ids(ib));
      std::multiset<std::int64_t> delivered;
      for (auto& batch : *loader) {
        ib.update(toy_losses(model, batch.batch).detach().mul(16).round(), batch.ids);
        for (const std::int64_t id : to_vector(batch.ids)) delivered.insert(id);
      }
      REQUIRE(delivered == std::multiset<std::int64_t>(plans.back().begin(), plans.back().end()));
    }
    return plans;
  };
  const auto plans = train(true);
  REQUIRE(plans == train(false));
  REQUIRE(plans[1].size() < 400);
}

TEST_CASE("a dropped tail of less than a batch ends an epoch of ids", "[samplers][ids]") {
  InfoBatch ib(45, Options(4).seed(1));
  auto loader = make_data_loader(
      Indexed(ToyData(45)), ib, torch::data::DataLoaderOptions(10).drop_last(true));
  for (auto& batch : *loader) ib.update(torch::rand({10}), batch.ids);
  REQUIRE(ib.epoch() == 1);
}

TEST_CASE("rule 11: every row of a repeated id is weighted, the last one's score wins",
          "[samplers][ids]") {
  InfoBatch ib(60, Options(6).seed(2));
  run_epoch(ib, 10);
  const auto plan = ib.plan();
  const auto rescaled = std::find(plan->weights(), plan->weights() + plan->size(), 2.0F);
  REQUIRE(rescaled != plan->weights() + plan->size());
  const std::int64_t id = plan->ids()[rescaled - plan->weights()];
  ib.sampler().reset();
  const torch::Tensor losses = torch::tensor({1.0F, 5.0F, 3.0F});
  const torch::Tensor rows =
      ib.update(losses, torch::full({3}, id, torch::kInt64), {}, Reduction::kNone);
  REQUIRE(torch::equal(rows, 2.0F * losses));
  ib.set_epoch(2);
  REQUIRE(ib.session()->scores()[id] == 3.0F);
}

TEST_CASE("rule 11: ids beyond the range of half precision and of float32 stay exact",
          "[samplers][ids]") {
  const std::int64_t size = (std::int64_t{1} << 24) + 8;
  const auto dtype = GENERATE(torch::kHalf, torch::kFloat);
  InfoBatch ib(size, Options(3).seed(1));
  ib.sampler().reset();
  const std::vector<std::int64_t> wanted{257, 258, 2049, 2050, (1 << 24) + 1, (1 << 24) + 2};
  ib.update(torch::arange(1, 7, torch::kFloat).to(dtype), torch::tensor(wanted));
  ib.set_epoch(1);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    REQUIRE(ib.session()->scores()[wanted[i]] == static_cast<float>(i + 1));
  }
  REQUIRE(std::isnan(ib.session()->scores()[256]));
  REQUIRE(std::isnan(ib.session()->scores()[1 << 24]));
}

TEST_CASE("defect 3: batches delivered ahead of the updates get their own losses",
          "[samplers][ids]") {
  // A consumer that looks ahead by one batch: by cursor the order is enough.
  InfoBatch ib(100, Options(4).seed(1));
  InfoBatchSampler sampler = ib.sampler();
  sampler.reset();
  std::optional<std::vector<std::size_t>> ahead = sampler.next(10);
  while (ahead) {
    const std::vector<std::size_t> now = *ahead;
    ahead = sampler.next(10);
    torch::Tensor losses = torch::empty({10});
    for (int i = 0; i < 10; ++i) losses[i] = static_cast<float>(now[i]);
    ib.update(losses);
  }
  ib.size();
  for (int id = 0; id < 100; ++id) REQUIRE(ib.session()->scores()[id] == static_cast<float>(id));
}

TEST_CASE("skipped batches are fine where the ids are given", "[samplers][ids]") {
  InfoBatch ib(100, Options(4).seed(1));
  auto loader = make_data_loader(Indexed(ToyData(100)), ib, 10);
  int index = 0;
  for (auto& batch : *loader) {
    if (index++ % 2 == 0) ib.update(batch.ids.to(torch::kFloat), batch.ids);
  }
  REQUIRE_NOTHROW(ib.sampler().reset());
  int scored = 0;
  for (int id = 0; id < 100; ++id) {
    const float score = ib.session()->scores()[id];
    if (!std::isnan(score)) REQUIRE(score == static_cast<float>(id));
    scored += std::isnan(score) ? 0 : 1;
  }
  REQUIRE(scored == 50);
}

}  // namespace
}  // namespace infobatch::testing
