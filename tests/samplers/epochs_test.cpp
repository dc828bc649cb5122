// Progress, epochs by hand, warnings, and what stays untouched outside the library.

#include <tests/samplers/toy.hpp>

#include <algorithm>
#include <cmath>

namespace infobatch::testing {
namespace {

/// Collects what is warned through TORCH_WARN while it lives.
class Warnings : public c10::WarningHandler {
 public:
  Warnings() : previous_(c10::WarningUtils::get_warning_handler()) {
    c10::WarningUtils::set_warning_handler(this);
  }
  ~Warnings() override { c10::WarningUtils::set_warning_handler(previous_); }
  void process(const c10::Warning& warning) override { texts.push_back(warning.msg()); }
  std::int64_t count(const std::string& part) const {
    return std::count_if(texts.begin(), texts.end(), [&](const std::string& text) {
      return text.find(part) != std::string::npos;
    });
  }
  std::vector<std::string> texts;

 private:
  c10::WarningHandler* previous_;
};

TEST_CASE("progress runs from 0 to 1 and never back, max_steps bounds the steps",
          "[samplers][epochs]") {
  const std::int64_t micro = GENERATE(1, 2);
  InfoBatch ib(203, Options(6).seed(1));
  auto loader = torch::data::make_data_loader(ToyData(203), ib.sampler(), 20);
  REQUIRE(ib.progress() == 0.0);
  REQUIRE(ib.max_steps(20) == 6 * 11);
  std::int64_t steps = 0;
  double last = 0.0;
  for (int epoch = 0; epoch < 6; ++epoch) {
    std::int64_t done = 0;
    const auto kept = static_cast<double>(ib.size());
    for (ToyBatch& batch : *loader) {
      for (const torch::Tensor& part : batch.ids.to(torch::kFloat).sin().add(2).chunk(micro)) {
        ib.update(part);
        done += part.size(0);
        const double now = ib.progress();
        REQUIRE(now > last);
        REQUIRE(std::abs(now - (epoch + static_cast<double>(done) / kept) / 6) < 1e-12);
        last = now;
      }
      ++steps;
    }
  }
  REQUIRE(last == 1.0);
  REQUIRE(steps <= ib.max_steps(20));
}

TEST_CASE("discard_epoch forgets the steps of a learning-rate finder", "[samplers][epochs]") {
  InfoBatch ib(100, Options(5).seed(1));
  InfoBatch untouched(100, Options(5).seed(1));
  auto loader = torch::data::make_data_loader(ToyData(100), ib.sampler(), 10);
  int steps = 0;
  for (ToyBatch& batch : *loader) {
    ib.update(torch::full({batch.ids.size(0)}, 1e6F));
    if (++steps == 4) break;
  }
  ib.discard_epoch();
  REQUIRE(ib.progress() == 0.0);
  for (int epoch = 0; epoch < 2; ++epoch) {
    REQUIRE(ib.epoch() == epoch);
    run_epoch(ib);
    run_epoch(untouched);
  }
  REQUIRE(plan_ids(ib) == plan_ids(untouched));
}

TEST_CASE("set_epoch begins the epoch that it names, and repeats none", "[samplers][epochs]") {
  InfoBatch ib(100, Options(8).seed(1));
  InfoBatch by_itself(100, Options(8).seed(1));
  for (int epoch = 0; epoch < 4; ++epoch) {
    ib.set_epoch(epoch);
    REQUIRE(ib.epoch() == epoch);
    REQUIRE(plan_ids(ib) == plan_ids(by_itself));
    run_epoch(ib);
    run_epoch(by_itself);
  }
  ib.set_epoch(100);  // rule 7: at or beyond E everything is kept
  REQUIRE(ib.size() == 100);
  REQUIRE(ib.progress() == 1.0);
}

TEST_CASE("a loop that breaks off early goes on with the next epoch", "[samplers][epochs]") {
  const std::size_t workers = GENERATE(0, 4);
  InfoBatch ib(400, Options(5).seed(1));
  // torch's loader with workers cannot begin again after a break, so each epoch has its own.
  const auto make = [&] {
    return make_data_loader(ToyData(400), ib, torch::data::DataLoaderOptions(10).workers(workers));
  };
  // How far workers run ahead is known from an epoch that was observed whole.
  auto whole = make();
  for (ToyBatch& batch : *whole) ib.update(batch.ids.to(torch::kFloat) + 1000);
  int steps = 0;
  auto first = make();
  std::vector<std::int64_t> met;
  for (ToyBatch& batch : *first) {
    ib.update(batch.ids.to(torch::kFloat));
    for (const std::int64_t id : to_vector(batch.ids)) met.push_back(id);
    if (++steps == 7) break;
  }
  auto second = make();
  for (ToyBatch& batch : *second) {
    REQUIRE(ib.epoch() == 2);
    ib.update(batch.ids.to(torch::kFloat));
    break;
  }
  // What came before the last batch was delivered has entered, the last batch with workers not.
  const float* scores = ib.session()->scores();
  std::int64_t entered = 0;
  for (const std::int64_t id : met) entered += scores[id] == static_cast<float>(id) ? 1 : 0;
  REQUIRE(entered == (workers == 0 ? 70 : 60));
}

TEST_CASE("warnings go through TORCH_WARN, each once", "[samplers][epochs]") {
  const Warnings warnings;
  InfoBatch forgotten(50, Options(6).seed(1));
  auto loader = torch::data::make_data_loader(ToyData(50), forgotten.sampler(), 10);
  for (int epoch = 0; epoch < 3; ++epoch) {
    for (ToyBatch& batch : *loader) REQUIRE(batch.ids.size(0) == 10);
  }
  REQUIRE(warnings.count("infobatch: all 50 samples of epoch 0 were delivered and no loss") == 1);

  InfoBatch broken(50, Options(6).seed(1));
  for (int epoch = 0; epoch < 3; ++epoch) {
    InfoBatchSampler sampler = broken.sampler();
    sampler.reset();
    while (const auto ids = sampler.next(10)) {
      torch::Tensor losses = torch::ones({static_cast<std::int64_t>(ids->size())});
      losses[0] = NAN;
      REQUIRE(std::isnan(broken.update(losses).item<float>()));  // rule 10: not masked
    }
  }
  REQUIRE(warnings.count("were NaN or infinite") == 1);
  REQUIRE(broken.statistics().non_finite_total > 5);

  InfoBatch(50, Options(2).seed(1)).size();
  REQUIRE(warnings.count("no epoch of this run leaves samples out") == 1);
}

TEST_CASE("rule 12, defect 9: torch's generator is neither advanced nor seeded",
          "[samplers][global]") {
  const auto draws = [](bool with) {
    torch::manual_seed(123);
    std::vector<torch::Tensor> out{torch::randn({3})};
    if (with) {
      InfoBatch ib(300, Options(6));
      auto loader = make_data_loader(
          Indexed(ToyData(300)), ib, torch::data::DataLoaderOptions(16).workers(2));
      torch::nn::Linear model = toy_model();
      for (int epoch = 0; epoch < 3; ++epoch) {
        for (auto& batch : *loader) ib.update(toy_losses(model, batch.batch)).backward();
      }
      ib.session()->serialize();
    } else {
      toy_model();  // its constructor draws
    }
    out.push_back(torch::randn({5}));
    out.push_back(torch::rand({5}));
    return torch::cat(out);
  };
  REQUIRE(bits(draws(true)) == bits(draws(false)));
}

TEST_CASE("rule 12, defect 9: the default seed is torch's, and seeds give different epochs",
          "[samplers][global]") {
  const auto plan_of = [](std::uint64_t torch_seed, const Options& options) {
    torch::manual_seed(torch_seed);
    torch::randn({10});  // the seed is read, not the state
    InfoBatch ib(300, options);
    run_epoch(ib);
    return plan_ids(ib);
  };
  REQUIRE(plan_of(7, Options(6)) == plan_of(99, Options(6).seed(7)));
  REQUIRE(plan_of(7, Options(6)) != plan_of(8, Options(6)));
  torch::manual_seed(41);
  REQUIRE(InfoBatch(10, Options(3)).config().seed == 41);
}

TEST_CASE("defect 8: a NaN or an infinite loss neither stops pruning nor prunes the others",
          "[samplers][epochs]") {
  const float bad = GENERATE(NAN, INFINITY, -INFINITY);
  const auto sizes = [](float first) {
    InfoBatch ib(1000, Options(6).seed(1));
    ib.sampler().reset();
    InfoBatchSampler sampler = ib.sampler();
    torch::Tensor losses = torch::linspace(0.1, 1.0, 1000);
    losses[0] = first;
    sampler.next(1000);
    ib.update(losses);
    return ib.size();
  };
  REQUIRE(std::abs(sizes(bad) - sizes(0.1F)) <= 2);
}

TEST_CASE("every option reaches the engine's configuration", "[samplers][options]") {
  const Config config = Options(77)
                            .prune_ratio(0.25)
                            .delta(0.5)
                            .warmup(3)
                            .seed(9)
                            .policy("infobatch_quantile")
                            .keep("exact")
                            .rescale(false)
                            .target_saved(0.2)
                            .max_prune_ratio(0.8)
                            .quantiles({0.5})
                            .quantile_keep({0.75})
                            .score_ema(0.125)
                            .config();
  Config wanted;
  wanted.epochs = 77;
  wanted.prune_ratio = 0.25;
  wanted.delta = 0.5;
  wanted.warmup = 3;
  wanted.seed = 9;
  wanted.policy = "infobatch_quantile";
  wanted.keep = "exact";
  wanted.rescale = false;
  wanted.target_saved = 0.2;
  wanted.max_prune_ratio = 0.8;
  wanted.quantiles = {0.5};
  wanted.quantile_keep = {0.75};
  wanted.score_ema = 0.125;
  REQUIRE(config == wanted);
  Config defaults;
  defaults.epochs = 5;
  defaults.seed = 1;
  REQUIRE(Options(5).seed(1).config() == defaults);
}

TEST_CASE("every option can be set by its name", "[samplers][options]") {
  const Config config = Options(20).set("seed", 9).set("policy", "ucb").set("ucb_c", 2.5).config();
  REQUIRE(config.seed == 9);
  REQUIRE(config.policy == "ucb");
  REQUIRE(config.params.at("ucb_c") == 2.5);
  REQUIRE_THROWS_WITH(
      Options(20).set("nobody", 1),
      Catch::Matchers::ContainsSubstring("Options::set: an option must be one of epochs,") &&
          Catch::Matchers::ContainsSubstring("got \"nobody\""));
  REQUIRE_THROWS_AS(Options(20).set("ucb_c", "much"), c10::ValueError);
}

}  // namespace
}  // namespace infobatch::testing
