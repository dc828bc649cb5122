// Save anywhere, load in a new object: ids, weights, losses and parameters go on equal to the bit.

#include <tests/samplers/toy.hpp>

namespace infobatch::testing {
namespace {

constexpr std::int64_t kSize = 60;
constexpr std::int64_t kEpochs = 5;

/// What one step showed.
struct Step {
  std::int64_t epoch;
  std::vector<std::int64_t> ids;
  std::vector<std::uint32_t> weighted;  // weight * loss of each row
  std::vector<std::uint32_t> parameters;

  bool operator==(const Step& other) const {
    return epoch == other.epoch && ids == other.ids && weighted == other.weighted &&
           parameters == other.parameters;
  }
};

enum class Form { kFile, kArchive, kSampler };

struct Setting {
  std::size_t workers;
  bool by_ids;
  Form form;
  Options options;
};

/// A training with momentum that can be saved after any step and gone on with by a new one.
class Training {
 public:
  explicit Training(const Setting& setting)
      : setting_(setting),
        ib_(kSize, setting.options),
        model_(toy_model()),
        optimizer_(model_->parameters(), torch::optim::SGDOptions(0.05).momentum(0.9)) {}

  /// Steps until the end of the run, `limit` at most, appended to `log`.
  void run(std::vector<Step>& log, std::int64_t limit) {
    auto loader = make_data_loader(
        Indexed(ToyData(kSize)), ib_, torch::data::DataLoaderOptions(8).workers(setting_.workers));
    while (ib_.epoch() < kEpochs) {
      const std::int64_t epoch = ib_.epoch();
      for (auto& batch : *loader) {
        optimizer_.zero_grad();
        const torch::Tensor losses = toy_losses(model_, batch.batch);
        const torch::Tensor rows =
            ib_.update(losses, setting_.by_ids ? batch.ids : torch::Tensor(), {}, Reduction::kNone);
        rows.mean().backward();
        optimizer_.step();
        log.push_back({epoch, to_vector(batch.ids), bits(rows), bits(model_->weight)});
        if (--limit == 0) return;
      }
    }
  }

  void save(const Folder& folder) {
    torch::save(model_, folder.file("model"));
    torch::save(optimizer_, folder.file("optimizer"));
    if (setting_.form == Form::kFile) ib_.save(folder.file("state"));
    if (setting_.form == Form::kArchive) torch::save(ib_, folder.file("state"));
    if (setting_.form == Form::kSampler) {
      torch::serialize::OutputArchive archive;
      ib_.sampler().save(archive);
      archive.save_to(folder.file("state"));
    }
  }

  void load(const Folder& folder) {
    torch::load(model_, folder.file("model"));
    torch::load(optimizer_, folder.file("optimizer"));
    if (setting_.form == Form::kFile) ib_.load(folder.file("state"));
    if (setting_.form == Form::kArchive) torch::load(ib_, folder.file("state"));
    if (setting_.form == Form::kSampler) {
      torch::serialize::InputArchive archive;
      archive.load_from(folder.file("state"));
      ib_.sampler().load(archive);
    }
  }

  InfoBatch& ib() { return ib_; }

 private:
  Setting setting_;
  InfoBatch ib_;
  torch::nn::Linear model_;
  torch::optim::SGD optimizer_;
};

void require_resumes_everywhere(const Setting& setting) {
  std::vector<Step> whole;
  Training(setting).run(whole, -1);
  REQUIRE(whole.size() > 20);
  REQUIRE(whole.size() < 5 * 8);  // something was left out
  const Folder folder;
  for (std::size_t stop = 1; stop <= whole.size(); ++stop) {
    CAPTURE(stop);
    std::vector<Step> log;
    {
      Training first(setting);
      first.run(log, static_cast<std::int64_t>(stop));
      first.save(folder);
    }
    Training second(setting);
    torch::manual_seed(stop);  // a new process has another generator
    second.load(folder);
    second.run(log, -1);
    REQUIRE((log == whole));
    REQUIRE(second.ib().progress() == 1.0);
  }
}

TEST_CASE("a training saved at every step and resumed equals the one never stopped",
          "[samplers][resume]") {
  const std::size_t workers = GENERATE(0, 4);
  const bool by_ids = GENERATE(false, true);
  const auto form = GENERATE(Form::kFile, Form::kArchive);
  CAPTURE(workers, by_ids, static_cast<int>(form));
  require_resumes_everywhere({workers, by_ids, form, Options(kEpochs).seed(2)});
}

TEST_CASE("every policy, keep rule and a fixed budget resume", "[samplers][resume]") {
  const std::vector<Options> all{Options(kEpochs).seed(1).policy("random"),
                                 Options(kEpochs).seed(1).keep("exact"),
                                 Options(kEpochs).seed(1).policy("infobatch_quantile"),
                                 Options(kEpochs).seed(1).target_saved(0.2),
                                 Options(kEpochs).seed(1).score_ema(0.5)};
  const auto which = GENERATE(range(0, 5));
  CAPTURE(which);
  const Options& options = all[static_cast<std::size_t>(which)];
  require_resumes_everywhere({0, false, Form::kSampler, options});
}

TEST_CASE("load reports where the run stands and which options changed", "[samplers][resume]") {
  const Folder folder;
  InfoBatch saved(100, Options(10).seed(1));
  run_epoch(saved);
  InfoBatchSampler sampler = saved.sampler();
  sampler.reset();
  sampler.next(16);
  saved.update(torch::rand({16}));
  const std::vector<std::int64_t> plan{saved.session()->plan()->ids(),
                                       saved.session()->plan()->ids() + saved.size()};
  saved.save(folder.file("state"));
  InfoBatch other(100, Options(20).seed(1).delta(0.5));
  const LoadReport report = other.load(folder.file("state"));
  REQUIRE(report.epoch == 1);
  REQUIRE(report.position == 16);
  REQUIRE(report.changes == std::vector<std::string>{"epochs: 10 -> 20", "delta: 0.875 -> 0.5"});
  REQUIRE(plan_ids(other) == plan);
  InfoBatchSampler rest = other.sampler();
  rest.reset();
  REQUIRE(rest.next(1)->front() == static_cast<std::size_t>(plan[16]));
}

TEST_CASE("a resumed epoch that was observed out of order comes in whole batches",
          "[samplers][resume]") {
  const Folder folder;
  InfoBatch saved(60, Options(5).seed(1));
  InfoBatchSampler sampler = saved.sampler();
  sampler.reset();
  sampler.next(10);
  sampler.next(10);
  const std::vector<std::int64_t> plan = plan_ids(saved);
  const std::vector<std::int64_t> seen(plan.begin() + 15, plan.begin() + 20);
  saved.update(torch::rand({5}), torch::tensor(seen));
  saved.save(folder.file("state"));
  InfoBatch other(60, Options(5).seed(1));
  other.load(folder.file("state"));
  InfoBatchSampler rest = other.sampler();
  rest.reset();
  std::vector<std::size_t> sizes;
  std::vector<std::int64_t> ids;
  while (const auto batch = rest.next(10)) {  // a loader takes a short one for the last
    sizes.push_back(batch->size());
    ids.insert(ids.end(), batch->begin(), batch->end());
  }
  REQUIRE(sizes == std::vector<std::size_t>{10, 10, 10, 10, 10, 5});
  std::vector<std::int64_t> expected(plan.begin(), plan.begin() + 15);
  expected.insert(expected.end(), plan.begin() + 20, plan.end());
  REQUIRE(ids == expected);
}

TEST_CASE("an archive that changes options says so", "[samplers][resume]") {
  const Folder folder;
  class Collector : public c10::WarningHandler {
   public:
    void process(const c10::Warning& warning) override { texts.push_back(warning.msg()); }
    std::vector<std::string> texts;
  } collector;
  InfoBatch saved(100, Options(10).seed(1));
  torch::save(saved, folder.file("archive"));
  InfoBatch same(100, Options(10).seed(1));
  InfoBatch longer(100, Options(20).seed(1));
  c10::WarningUtils::WarningHandlerGuard guard(&collector);
  torch::load(same, folder.file("archive"));
  REQUIRE(collector.texts.empty());
  torch::load(longer, folder.file("archive"));
  REQUIRE(collector.texts.size() == 1);
  REQUIRE(collector.texts[0].find("epochs: 10 -> 20") != std::string::npos);
}

TEST_CASE("a data set that has grown goes on with the scores of its samples",
          "[samplers][resume]") {
  const Folder folder;
  const auto epoch_of = [](InfoBatch& ib) {
    auto loader = make_data_loader(
        Indexed(ToyData(ib.session()->size())), ib, torch::data::DataLoaderOptions(8).workers(0));
    for (auto& batch : *loader) ib.update(batch.ids.to(torch::kFloat32) + 1.0f);
  };
  InfoBatch ib(60, Options(10).seed(1).set("record", true));
  epoch_of(ib);
  ib.save(folder.file("state"));
  InfoBatch grown(90, Options(10).seed(1).set("record", true));
  REQUIRE_THROWS_AS(grown.load(folder.file("state")), c10::ValueError);
  const LoadReport report = grown.load(folder.file("state"), Resize{});
  REQUIRE(report.text == "size: 60 -> 90");
  REQUIRE(grown.epoch() == 1);
  for (std::int64_t id = 0; id < 60; ++id) {
    REQUIRE(grown.session()->scores()[id] == static_cast<float>(id + 1));
  }
  REQUIRE(std::isnan(grown.session()->scores()[60]));
  epoch_of(grown);
  grown.set_epoch(2);
  REQUIRE(grown.session()->scores()[89] == 90.0f);
}

TEST_CASE("sampling weights are in the rows of a batch", "[samplers][resume]") {
  InfoBatch ib(40, Options(10).seed(1));
  std::vector<float> weights;
  for (int id = 0; id < 40; ++id) weights.push_back(id % 4 == 0 ? 6.0f : 1.0f);  // their mean: 2.25
  ib.session()->set_column("sampling_weight", ColumnType::kFloat32, weights.data());
  auto loader =
      make_data_loader(Indexed(ToyData(40)), ib, torch::data::DataLoaderOptions(8).workers(0));
  for (auto& batch : *loader) {
    const torch::Tensor rows = ib.update(torch::ones({8}), {}, {}, Reduction::kNone);
    for (std::int64_t row = 0; row < 8; ++row) {
      const float weight = weights[static_cast<std::size_t>(batch.ids[row].item<std::int64_t>())];
      REQUIRE(rows[row].item<float>() == Catch::Approx(weight / 2.25f));
    }
  }
}

TEST_CASE("defect 11: the file is a safetensors file of scores and staged losses",
          "[samplers][resume]") {
  const Folder folder;
  InfoBatch ib(10, Options(3).seed(1));
  ib.save(folder.file("state"));
  std::FILE* file = std::fopen(folder.file("state").c_str(), "rb");
  REQUIRE(file != nullptr);
  std::uint64_t length = 0;
  char first = 0;
  REQUIRE(std::fread(&length, sizeof length, 1, file) == 1);
  REQUIRE(std::fread(&first, 1, 1, file) == 1);
  std::fclose(file);
  REQUIRE(first == '{');
  REQUIRE(8 + length + 10 * 4 == std::filesystem::file_size(folder.file("state")));
}

}  // namespace
}  // namespace infobatch::testing
