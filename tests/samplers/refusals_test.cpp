// What is refused: the message names function, rule, value and cure, and nothing has changed.

#include <tests/samplers/toy.hpp>

#include <algorithm>
#include <cmath>

using Catch::Matchers::ContainsSubstring;

namespace infobatch::testing {
namespace {

/// In the middle of epoch 1, by cursor: 40 samples delivered, 20 observed.
struct Midway {
  explicit Midway(bool by_ids = false) : ib(100, Options(6).seed(3)), sampler(ib.sampler()) {
    run_epoch(ib);
    sampler.reset();
    sampler.next(40);
    ids =
        torch::from_blob(const_cast<std::int64_t*>(ib.plan()->ids()), {40}, torch::kInt64).clone();
    if (by_ids) {
      ib.update(torch::rand({20}), ids.slice(0, 0, 20));
    } else {
      ib.update(torch::rand({20}));
    }
    state = ib.session()->serialize();
  }
  void require_unchanged() {
    REQUIRE(ib.session()->serialize() == state);
    REQUIRE(ib.session()->position() == 20);
  }
  InfoBatch ib;
  InfoBatchSampler sampler;
  torch::Tensor ids;
  std::string state;
};

template <typename Error, typename Call>
void require_refused(Call call, const std::vector<std::string>& parts) {
  std::string text;
  try {
    call();
  } catch (const Error& error) {
    text = error.what_without_backtrace();
  }
  REQUIRE_FALSE(text.empty());
  for (const std::string& part : parts) REQUIRE_THAT(text, ContainsSubstring(part));
}

TEST_CASE("rule 13: losses of a wrong kind are refused with the cure", "[samplers][refuse]") {
  Midway run;
  InfoBatch& ib = run.ib;
  require_refused<c10::ValueError>(
      [&] { ib.update(torch::rand({})); },
      {"update: losses must be per sample", "scalar", "torch::kNone", "scale_gradient"});
  require_refused<c10::TypeError>([&] { ib.update(torch::ones({20}, torch::kInt64)); },
                                  {"update: losses must be float16", "got Long"});
  require_refused<c10::TypeError>([&] { ib.update(torch::ones({20}, torch::kComplexFloat)); },
                                  {"update: losses", "ComplexFloat"});
  require_refused<c10::ValueError>([&] { ib.update(torch::rand({20}, torch::kMeta)); },
                                   {"update: losses must be on the CPU", "meta", "losses.cpu()"});
  require_refused<c10::ValueError>([&] { ib.update(torch::rand({20}).to_sparse()); },
                                   {"update: losses must be dense", "Sparse"});
  require_refused<c10::ValueError>([&] { ib.update(torch::Tensor()); },
                                   {"update: losses must be a tensor", "undefined"});
  require_refused<c10::ValueError>([&] { ib.update(torch::rand({20}), static_cast<Reduction>(9)); },
                                   {"update: reduction", "got 9"});
  require_refused<c10::ValueError>([&] { ib.observe(torch::rand({})); },
                                   {"observe: scores must be per sample", "scalar"});
  require_refused<c10::ValueError>(
      [&] {
        ib.update(torch::rand({20, 2}), {}, torch::rand({20, 2}));
      },
      {"update: scores must be [20]", "[20, 2]"});
  require_refused<c10::ValueError>([&] { ib.update(torch::rand({20}), {}, torch::rand({19})); },
                                   {"update: scores must be [20]", "[19]"});
  run.require_unchanged();
}

TEST_CASE("rule 13: a second update on one batch is refused at once", "[samplers][refuse]") {
  Midway run;
  run.ib.update(torch::rand({20}));
  require_refused<c10::Error>([&] { run.ib.update(torch::rand({20})); },
                              {"update: losses must belong to samples that were delivered",
                               "got 20 losses for 0",
                               "second update on one batch",
                               "update(losses, ids)"});
  REQUIRE(run.ib.session()->position() == 40);
  Midway more;
  require_refused<c10::Error>([&] { more.ib.update(torch::rand({21})); }, {"got 21 losses for 20"});
  more.require_unchanged();
}

TEST_CASE("rule 13: ids of a wrong kind are refused", "[samplers][refuse]") {
  Midway run(/*by_ids=*/true);
  InfoBatch& ib = run.ib;
  const torch::Tensor losses = torch::rand({20});
  const torch::Tensor ids = run.ids.slice(0, 20, 40);
  require_refused<c10::TypeError>([&] { ib.update(losses, ids.to(torch::kInt32)); },
                                  {"update: ids must be int64", "got Int"});
  require_refused<c10::TypeError>([&] { ib.update(losses, ids.to(torch::kFloat)); },
                                  {"update: ids must be int64", "got Float"});
  require_refused<c10::ValueError>([&] { ib.update(losses, ids.slice(0, 0, 19)); },
                                   {"update: ids must be [20]", "[19]"});
  require_refused<c10::ValueError>(
      [&] {
        ib.update(losses, ids.view({20, 1}));
      },
      {"update: ids must be [20]", "[20, 1]"});
  require_refused<c10::ValueError>([&] { ib.update(losses, ids.to(torch::kMeta)); },
                                   {"update: ids must be on the CPU", "meta"});
  require_refused<c10::TypeError>([&] { ib.observe(losses, ids.to(torch::kInt32)); },
                                  {"observe: ids must be int64"});
  for (const std::int64_t bad : {std::int64_t{-1}, std::int64_t{100}, INT64_MAX, INT64_MIN}) {
    torch::Tensor named = ids.clone();
    named[13] = bad;
    require_refused<c10::IndexError>(
        [&] { ib.update(losses, named); },
        {"update: ids must be in [0, 100)", std::to_string(bad), "row 13"});
  }
  std::int64_t left_out = 0;
  const std::vector<std::int64_t> plan = plan_ids(ib);
  while (std::count(plan.begin(), plan.end(), left_out) > 0) ++left_out;
  torch::Tensor named = ids.clone();
  named[19] = left_out;
  require_refused<c10::IndexError>(
      [&] { ib.update(losses, named); },
      {"update: ids must be in the plan of epoch 1", std::to_string(left_out), "row 19"});
  run.require_unchanged();
}

TEST_CASE("cursor and ids cannot be mixed in one epoch", "[samplers][refuse]") {
  Midway by_cursor;
  require_refused<c10::Error>(
      [&] { by_cursor.ib.update(torch::rand({20}), by_cursor.ids.slice(0, 20, 40)); },
      {"update: epoch 1 is observed in order", "got ids after 20 samples"});
  by_cursor.require_unchanged();
  Midway by_ids(true);
  require_refused<c10::Error>([&] { by_ids.ib.update(torch::rand({20})); },
                              {"update: epoch 1 is observed by ids", "20 losses without ids"});
  by_ids.require_unchanged();
}

TEST_CASE("a skipped batch is refused at the next delivery, with the cure", "[samplers][refuse]") {
  const std::size_t workers = GENERATE(0, 4);
  InfoBatch ib(400, Options(4).seed(1));
  std::string warning;
  ib.session()->set_warning_handler([&](const std::string& text) { warning += text; });
  const auto make = [&] {
    return make_data_loader(ToyData(400), ib, torch::data::DataLoaderOptions(10).workers(workers));
  };
  int updates = 0;
  auto loader = make();
  require_refused<c10::Error>(
      [&] {
        int index = 0;
        for (ToyBatch& batch : *loader) {
          if (index++ == 3) continue;
          ib.update(torch::rand({batch.ids.size(0)}));
          ++updates;
        }
      },
      {"a row or a batch was lost", "update(losses, ids)", "Indexed(dataset)", "discard_epoch()"});
  REQUIRE(updates == 3);  // before anything was recorded for another sample
  ib.discard_epoch();     // the cure named
  auto again = make();
  for (ToyBatch& batch : *again) ib.update(torch::rand({batch.ids.size(0)}));
  REQUIRE(ib.epoch() == 1);
  REQUIRE(warning.empty());
}

TEST_CASE("a batch that is lost behind the last delivery is dropped with what is not verified",
          "[samplers][refuse]") {
  InfoBatch ib(400, Options(4).seed(1).policy("full"));  // every batch is whole
  std::string warning;
  ib.session()->set_warning_handler([&](const std::string& text) { warning += text; });
  for (int epoch = 0; epoch < 2; ++epoch) {
    auto loader = make_data_loader(ToyData(400), ib, torch::data::DataLoaderOptions(10).workers(2));
    int index = 0;
    for (ToyBatch& batch : *loader) {
      const bool lost = epoch == 1 && index++ == ib.size() / 10 - 2;
      if (!lost) ib.update(batch.ids.to(torch::kFloat) + 1000 * epoch);
    }
  }
  ib.set_epoch(2);
  REQUIRE_THAT(warning,
               ContainsSubstring("were dropped") && ContainsSubstring("samples of epoch 1"));
  const float* scores = ib.session()->scores();
  for (std::int64_t id = 0; id < 400; ++id) {
    REQUIRE((scores[id] == float(id) || scores[id] == float(id + 1000)));
  }
}

TEST_CASE("losses of [T, B] are diagnosed as what they are", "[samplers][refuse]") {
  InfoBatch ib(64, Options(4).seed(1));
  InfoBatchSampler sampler = ib.sampler();
  sampler.reset();
  sampler.next(16);
  const std::string state = ib.session()->serialize();
  SECTION("more steps than samples: at once") {
    require_refused<c10::Error>(
        [&] {
          ib.update(torch::rand({20, 16}));
        },
        {"update", "shape [20, 16]", "batch of 16", "transpose(0, 1)"});
    REQUIRE(ib.session()->serialize() == state);
  }
  SECTION("fewer: they look like a part of the batch until the next delivery") {
    ib.update(torch::rand({7, 16}));
    require_refused<c10::Error>([&] { sampler.next(16); },
                                {"next", "shape [7, 16]", "batch of 16", "transpose(0, 1)"});
  }
  SECTION("parts of a batch with as many steps as the batch has samples are fine") {
    for (int part = 0; part < 2; ++part) ib.update(torch::rand({8, 16}));
    sampler.next(16);
    REQUIRE(ib.session()->position() == 16);
  }
}

TEST_CASE("make_data_loader refuses what cannot work", "[samplers][refuse]") {
  InfoBatch ib(100, Options(4).seed(1));
  require_refused<c10::ValueError>([&] { make_data_loader(ToyData(99), ib, 10); },
                                   {"make_data_loader: the data set must have the 100", "got 99"});
  require_refused<c10::ValueError>(
      [&] {
        make_data_loader(ToyData(100),
                         ib,
                         torch::data::DataLoaderOptions(10).workers(2).enforce_ordering(false));
      },
      {"make_data_loader: enforce_ordering(false) needs ids",
       "Indexed(dataset)",
       "update(losses, ids)"});
  struct Endless : torch::data::datasets::BatchDataset<Endless, ToyBatch> {
    ToyBatch get_batch(c10::ArrayRef<std::size_t> request) override {
      return ToyData(100).get_batch(request);
    }
    std::optional<std::size_t> size() const override { return std::nullopt; }
  };
  require_refused<c10::ValueError>([&] { make_data_loader(Endless(), ib, 10); },
                                   {"make_data_loader: the data set must have a size"});
}

TEST_CASE("the sampler refuses another size and an empty batch", "[samplers][refuse]") {
  Midway run;
  require_refused<c10::ValueError>([&] { run.sampler.reset(101); },
                                   {"InfoBatchSampler::reset", "100", "got 101"});
  require_refused<c10::ValueError>([&] { run.sampler.next(0); },
                                   {"next: count must be at least 1", "got 0"});
  run.require_unchanged();
  REQUIRE_NOTHROW(run.sampler.reset(100));
}

TEST_CASE("rule 13: every bad option is listed at once", "[samplers][refuse]") {
  require_refused<c10::ValueError>(
      [] {
        InfoBatch(-1,
                  Options(0)
                      .prune_ratio(1.0)
                      .delta(1.5)
                      .warmup(0)
                      .policy("none")
                      .keep("some")
                      .target_saved(1.0)
                      .max_prune_ratio(0.0)
                      .score_ema(-0.5)
                      .threads(-2));
      },
      {"InfoBatch: size must be",
       "-1",
       "epochs",
       "prune_ratio",
       "delta",
       "1.5",
       "warmup",
       "policy",
       "none",
       "keep",
       "some",
       "target_saved",
       "max_prune_ratio",
       "score_ema",
       "-0.5",
       "threads",
       "-2"});
  require_refused<c10::ValueError>([] { InfoBatch(10, Options(5).prune_ratio(std::nan(""))); },
                                   {"prune_ratio", "nan"});
  require_refused<c10::ValueError>([] { InfoBatch(10, Options(5)).max_steps(0); },
                                   {"max_steps: batch_size must be at least 1", "got 0"});
  require_refused<c10::ValueError>([] { InfoBatch(10, Options(5)).set_epoch(-1); },
                                   {"set_epoch: epoch must be in", "-1"});
}

TEST_CASE("ids that are no dense tensor on the CPU are refused by name", "[samplers][refuse]") {
  Midway run(true);
  const torch::Tensor losses = torch::rand({3});
  require_refused<c10::ValueError>(
      [&] { run.ib.update(losses, torch::ones({3}, torch::kInt64).to_sparse()); },
      {"update: ids must be dense, got Sparse"});
  require_refused<c10::ValueError>(
      [&] { run.ib.update(losses, torch::empty({3}, at::device(at::kMeta).dtype(at::kLong))); },
      {"update: ids must be on the CPU, got meta; ids.cpu()"});
  run.require_unchanged();
}

TEST_CASE("observe is named where observe was called", "[samplers][refuse]") {
  Midway run;
  require_refused<c10::Error>([&] { run.ib.observe(torch::rand({90})); },
                              {"observe: losses must belong to samples that were delivered"});
  Midway by_ids(true);
  require_refused<c10::IndexError>(
      [&] { by_ids.ib.observe(torch::rand({1}), torch::full({1}, 100, torch::kInt64)); },
      {"observe: ids must be in [0, 100), got 100"});
}

TEST_CASE("a state of another run, a damaged file and a foreign archive are refused",
          "[samplers][refuse]") {
  const Folder folder;
  Midway run;
  InfoBatch other(50, Options(6).seed(3));
  other.save(folder.file("other"));
  require_refused<c10::ValueError>([&] { run.ib.load(folder.file("other")); },
                                   {"load: the state must be of the same run", "size: 50 -> 100"});
  InfoBatch seeded(100, Options(6).seed(4).prune_ratio(0.3));
  torch::save(seeded, folder.file("archive"));
  require_refused<c10::ValueError>([&] { torch::load(run.ib, folder.file("archive")); },
                                   {"seed: 4 -> 3", "prune_ratio: 0.3 -> 0.5"});
  torch::save(torch::rand({3}), folder.file("tensor"));
  require_refused<c10::ValueError>([&] { torch::load(run.ib, folder.file("tensor")); },
                                   {"load: the archive must hold infobatch_state"});
  require_refused<c10::Error>([&] { run.ib.load(folder.file("absent")); }, {"absent"});
  std::filesystem::resize_file(folder.file("other"),
                               std::filesystem::file_size(folder.file("other")) - 1);
  REQUIRE_THROWS_AS(run.ib.load(folder.file("other")), c10::Error);
  REQUIRE_THROWS_AS(run.ib.save(folder.file("no/such/folder")), c10::Error);
  run.require_unchanged();
}

}  // namespace
}  // namespace infobatch::testing
