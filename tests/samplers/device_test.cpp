// Losses on another device than the CPU: a device of the tests' own, which counts what is launched
// and refuses to be waited for. What a run does there must be what it does on the CPU.

#include <tests/samplers/toy.hpp>
#include <tests/support/stand_in_device.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

namespace infobatch::testing {
namespace {

using Catch::Matchers::ContainsSubstring;

torch::Tensor ids_of(const std::vector<std::size_t>& batch) {
  torch::Tensor ids = torch::empty({static_cast<std::int64_t>(batch.size())}, torch::kInt64);
  std::copy(batch.begin(), batch.end(), ids.data_ptr<std::int64_t>());
  return ids;
}

/// The losses of samples in an epoch, float32: no two of an epoch are alike.
torch::Tensor losses_of(const torch::Tensor& ids, std::int64_t epoch) {
  const torch::Tensor row = ids.to(torch::kDouble);
  return ((row * 0.7 + static_cast<double>(epoch)).sin().abs() + row * 1e-4 + 0.01)
      .to(torch::kFloat);
}

/// One step: what was delivered, and its weighted losses.
struct Step {
  std::int64_t epoch;
  std::vector<std::int64_t> ids;
  std::vector<std::uint32_t> rows;

  bool operator==(const Step& other) const {
    return epoch == other.epoch && ids == other.ids && rows == other.rows;
  }
};

struct Setting {
  c10::Device device;
  bool by_ids;
  Options options = Options(6).seed(5);
  std::int64_t size = 90;
  std::int64_t batch = 16;
};

/// Steps until the end of the run, `limit` at most. No step may wait for the device, but for the
/// first `waiting` ones.
std::vector<Step> run(InfoBatch& ib,
                      const Setting& setting,
                      std::int64_t limit = -1,
                      std::int64_t waiting = 0) {
  std::vector<Step> log;
  while (ib.epoch() < ib.config().epochs && limit != 0) {
    const std::int64_t epoch = ib.epoch();
    InfoBatchSampler sampler = ib.sampler();
    sampler.reset();
    while (const auto batch = limit == 0 ? std::nullopt : sampler.next(setting.batch)) {
      const torch::Tensor ids = ids_of(*batch);
      const torch::Tensor losses = losses_of(ids, epoch).to(setting.device);
      const torch::Tensor named = setting.by_ids ? ids.to(setting.device) : torch::Tensor();
      std::optional<RefuseWaits> refuse;
      if (waiting-- <= 0) refuse.emplace();
      const torch::Tensor rows = ib.update(losses, named, {}, Reduction::kNone);
      REQUIRE(ib.progress() <= 1.0);
      refuse.reset();
      log.push_back({epoch, to_vector(ids), bits(rows.cpu())});
      --limit;
    }
  }
  return log;
}

std::vector<std::uint32_t> scores_of(InfoBatch& ib) {
  ib.size();  // so that the scores of an epoch that is over are in
  const float* scores = ib.session()->scores();
  return bits(torch::from_blob(const_cast<float*>(scores), {ib.session()->size()}));
}

/// A run on the device, at the first batch of a pruned epoch: 16 samples are pending.
struct Midway {
  explicit Midway(bool by_ids = false) : ib(200, Options(6).seed(3)), sampler(ib.sampler()) {
    const c10::Device device = stand_in_device();
    sampler.reset();
    while (const auto batch = sampler.next(16)) {
      const torch::Tensor named = ids_of(*batch).to(device);
      ib.update(losses_of(ids_of(*batch), 0).to(device), by_ids ? named : torch::Tensor());
    }
    sampler.reset();
    ids = ids_of(*sampler.next(16)).to(device);
    losses = torch::rand({16}).to(device);
    REQUIRE(ib.epoch() == 1);
    REQUIRE(ib.size() < 200);
    reset_device_figures();
  }

  InfoBatch ib;
  InfoBatchSampler sampler;
  torch::Tensor ids;     // [16] of the samples that are pending, on the device
  torch::Tensor losses;  // [16] there
};

// --- the device itself

TEST_CASE("the device of these tests refuses what would wait for it", "[samplers][device]") {
  const torch::Tensor there = torch::arange(4, torch::kFloat).to(stand_in_device());
  REQUIRE(there.device().str() == "stand_in:0");
  {
    const RefuseWaits refuse;
    REQUIRE_NOTHROW((there + 1).mean());
    const torch::Tensor here = torch::ones({4});
    REQUIRE_THROWS_WITH(there.sum().item<float>(), ContainsSubstring("must not wait"));
    REQUIRE_THROWS_WITH(there.cpu(), ContainsSubstring("a copy to the host"));
    REQUIRE_THROWS_WITH(here.to(there.device()), ContainsSubstring("a blocking copy"));
    REQUIRE_THROWS_WITH(there.nonzero(), ContainsSubstring("nonzero"));
    REQUIRE_THROWS_WITH(torch::equal(there, there), ContainsSubstring("equal"));
    REQUIRE_THROWS_WITH(there.masked_select(there > 1), ContainsSubstring("masked_select"));
  }
  reset_device_figures();
  REQUIRE(torch::equal((there + 1).cpu(), torch::tensor({1.0F, 2.0F, 3.0F, 4.0F})));
  const DeviceFigures figures = device_figures();
  REQUIRE(figures.launches == 1);
  REQUIRE(figures.waits == 1);
  REQUIRE(figures.copies_to_host == 1);
}

TEST_CASE("a step that looked at its losses would be noticed", "[samplers][device]") {
  Midway run;
  const RefuseWaits refuse;
  const torch::Tensor loss = run.ib.update(run.losses);
  REQUIRE_THROWS_WITH(loss.item<float>(), ContainsSubstring("must not wait"));
}

// --- what a step costs

TEST_CASE("a step in order launches three kernels and waits for none, two more backward",
          "[samplers][device]") {
  Midway run;
  torch::Tensor leaf = run.losses.requires_grad_();
  torch::Tensor loss;
  {
    const RefuseWaits refuse;
    loss = run.ib.update(leaf);
  }
  DeviceFigures figures = device_figures();
  CAPTURE(figures.names);
  REQUIRE(figures.launches <= (has_kernels() ? 0 : 3));
  REQUIRE(figures.waits == 0);
  REQUIRE(figures.copies_from_host == 0);
  const torch::Tensor one = torch::ones({}).to(stand_in_device());
  reset_device_figures();
  {
    const RefuseWaits refuse;
    loss.backward(one);
  }
  figures = device_figures();
  CAPTURE(figures.names);
  REQUIRE(figures.launches <= (has_kernels() ? 0 : 2));
  REQUIRE(figures.waits == 0);
  REQUIRE(leaf.grad().device() == stand_in_device());
}

TEST_CASE("a step by ids launches ten kernels at most and waits for none", "[samplers][device]") {
  Midway run(/*by_ids=*/true);
  const RefuseWaits refuse;
  run.ib.update(run.losses, run.ids);
  const DeviceFigures figures = device_figures();
  CAPTURE(figures.names);
  REQUIRE(figures.launches <= (has_kernels() ? 0 : 10));
  REQUIRE(figures.waits == 0);
  REQUIRE(figures.copies_from_host == 0);
}

TEST_CASE("observe costs no more than update, and the weights are the caller's own",
          "[samplers][device]") {
  Midway run;
  torch::Tensor weights;
  {
    const RefuseWaits refuse;
    weights = run.ib.observe(run.losses);
    REQUIRE(device_figures().launches <= 2);
    weights.fill_(-1.0);
  }
  const auto plan = run.ib.plan();
  run.sampler.next(16);
  const torch::Tensor second = run.ib.observe(torch::rand({16}).to(stand_in_device())).cpu();
  REQUIRE(std::equal(plan->weights() + 16, plan->weights() + 32, second.const_data_ptr<float>()));
}

TEST_CASE("an epoch costs one copy to the host and one from it", "[samplers][device]") {
  const bool by_ids = GENERATE(false, true);
  CAPTURE(by_ids);
  InfoBatch ib(200, Options(6).seed(3).device(stand_in_device()));
  InfoBatchSampler sampler = ib.sampler();
  std::vector<DeviceFigures> boundaries;
  for (int epoch = 0; epoch < 4; ++epoch) {
    reset_device_figures();
    sampler.reset();
    boundaries.push_back(device_figures());
    while (const auto batch = sampler.next(16)) {
      const torch::Tensor ids = ids_of(*batch);
      const torch::Tensor losses = losses_of(ids, epoch).to(stand_in_device());
      const torch::Tensor named = by_ids ? ids.to(stand_in_device()) : torch::Tensor();
      const RefuseWaits refuse;
      ib.update(losses, named);
    }
  }
  REQUIRE(boundaries[0].waits == 0);  // all weights are 1
  for (int epoch = 1; epoch < 4; ++epoch) {
    REQUIRE(boundaries[epoch].copies_to_host == 1);
    REQUIRE(boundaries[epoch].copies_from_host == 1);
    REQUIRE(boundaries[epoch].launches <= (by_ids ? 9 : 0));
  }
}

TEST_CASE("a run that begins waits for nothing even where no device was declared",
          "[samplers][device]") {
  const bool by_ids = GENERATE(false, true);
  InfoBatch ib(100, Options(6).seed(3));
  ib.sampler().reset();
  const torch::Tensor ids = ids_of(*ib.sampler().next(10)).to(stand_in_device());
  const torch::Tensor losses = torch::ones({10}).to(stand_in_device());
  const RefuseWaits refuse;
  REQUIRE_NOTHROW(ib.update(losses, by_ids ? ids : torch::Tensor()));
}

// --- the same run as on the CPU

TEST_CASE("plans, weights and scores equal those of the CPU to the bit", "[samplers][device]") {
  const bool by_ids = GENERATE(false, true);
  const auto which = GENERATE(range(0, 5));
  const std::vector<Options> all{Options(6).seed(5),
                                 Options(6).seed(5).policy("ucb"),
                                 Options(6).seed(5).keep("exact").target_saved(0.2),
                                 Options(6).seed(5).score_ema(0.5),
                                 Options(6).seed(5).policy("infobatch_quantile")};
  const Options& options = all[static_cast<std::size_t>(which)];
  CAPTURE(by_ids, which);
  InfoBatch here(90, options);
  InfoBatch there(90, options);
  const std::vector<Step> expected = run(here, {c10::kCPU, by_ids, options});
  const std::vector<Step> found = run(there, {stand_in_device(), by_ids, options});
  REQUIRE(expected.size() < 6 * 6);  // something was left out
  REQUIRE((found == expected));
  REQUIRE(scores_of(there) == scores_of(here));
  REQUIRE(there.progress() == 1.0);
  REQUIRE(there.statistics().samples_planned == here.statistics().samples_planned);
}

TEST_CASE("a training on the device goes as on the CPU", "[samplers][device]") {
  const auto reduction = GENERATE(Reduction::kMean, Reduction::kSum, Reduction::kWeightedMean);
  const auto train = [&](c10::Device device) {
    torch::Tensor weight = torch::full({4, 2}, 0.05F).to(device).requires_grad_();
    torch::optim::SGD optimizer({weight}, 0.01);
    InfoBatch ib(90, Options(4).seed(1));
    auto loader = make_data_loader(ToyData(90), ib, 16);
    while (ib.epoch() < 4) {
      for (auto& batch : *loader) {
        const torch::Tensor x = batch.x.to(device);
        const torch::Tensor y = batch.y.to(device);
        const RefuseWaits refuse;
        optimizer.zero_grad();
        ib.update((x.mm(weight) - y).square().mean(1), reduction).backward();
        optimizer.step();
      }
    }
    return weight.detach().cpu();
  };
  REQUIRE(torch::allclose(train(stand_in_device()), train(c10::kCPU), 1e-4, 1e-6));
}

TEST_CASE("values and gradients of every kind of losses are those of the CPU",
          "[samplers][device]") {
  const auto dtype = GENERATE(torch::kHalf, torch::kBFloat16, torch::kFloat, torch::kDouble);
  const bool long_rows = GENERATE(false, true);
  const auto reduction = static_cast<Reduction>(GENERATE(0, 1, 2, 3));
  CAPTURE(dtype, long_rows, static_cast<int>(reduction));
  const torch::Tensor given = (torch::arange(80).sin() + 2.0).to(dtype);
  const torch::Tensor losses = long_rows ? given.view({16, 5}) : given.slice(0, 0, 16);
  const torch::Tensor weights = 1.0F + torch::arange(16, torch::kFloat) % 3;
  const auto both = [&](c10::Device device) {
    torch::Tensor leaf = losses.to(device).clone().requires_grad_();
    torch::Tensor result = weigh(leaf, weights.to(device), reduction);
    result.sum().backward();
    return std::pair(result.detach().cpu(), leaf.grad().cpu());
  };
  const auto [value, gradient] = both(stand_in_device());
  const auto [expected_value, expected_gradient] = both(c10::kCPU);
  REQUIRE(value.scalar_type() == expected_value.scalar_type());
  REQUIRE(torch::allclose(value, expected_value, 1e-5, 1e-6));
  REQUIRE(gradient.scalar_type() == dtype);
  REQUIRE(torch::allclose(gradient, expected_gradient, 1e-5, 1e-6));
}

TEST_CASE("half, double and long rows leave the scores of the CPU", "[samplers][device]") {
  const auto dtype = GENERATE(torch::kHalf, torch::kBFloat16, torch::kFloat, torch::kDouble);
  const bool long_rows = GENERATE(false, true);
  CAPTURE(dtype, long_rows);
  const auto scores = [&](c10::Device device) {
    InfoBatch ib(32, Options(6).seed(5));
    ib.sampler().reset();
    ib.sampler().next(32);
    const torch::Tensor given = torch::arange(128).sin().to(dtype).to(device);
    ib.update(long_rows ? given.view({4, 32}).t() : given.slice(0, 0, 128, 4));
    return scores_of(ib);
  };
  const auto there = scores(stand_in_device());
  const auto here = scores(c10::kCPU);
  for (std::size_t i = 0; i < 32; ++i) {
    float a = 0;
    float b = 0;
    std::memcpy(&a, &there[i], 4);
    std::memcpy(&b, &here[i], 4);
    REQUIRE_THAT(a, Catch::Matchers::WithinRel(b, long_rows ? 1e-5F : 0.0F));
  }
}

TEST_CASE("the operators write on the device what they write on the CPU", "[samplers][device]") {
  const auto dtype = GENERATE(torch::kHalf, torch::kBFloat16, torch::kFloat, torch::kDouble);
  const float inf = std::numeric_limits<float>::infinity();
  const torch::Tensor losses = torch::tensor({0.5F, std::nanf("7"), -inf, 3.0F, inf}).to(dtype);
  torch::Tensor here = torch::full({10}, -7.0F);
  torch::Tensor there = here.to(stand_in_device());
  observe_(here, losses, 3);
  const torch::Tensor source = losses.to(stand_in_device());
  {
    const RefuseWaits refuse;
    observe_(there, source, 3);
  }
  REQUIRE(bits(there.cpu()) == bits(here));
  REQUIRE_THROWS_AS(observe_(there, source, 6), c10::ValueError);
  REQUIRE_THROWS_WITH(observe_(there, losses, 0), ContainsSubstring("scores must be on cpu"));
  REQUIRE_THROWS_WITH(weigh(source, torch::ones({5})),
                      ContainsSubstring("weights must be on stand_in:0"));
}

TEST_CASE("scale_gradient and observe weigh a reduced criterion on the device",
          "[samplers][device]") {
  Midway run;
  torch::Tensor x = torch::rand({16, 3}).to(stand_in_device()).requires_grad_();
  torch::Tensor gradient;
  torch::Tensor weights;
  {
    const RefuseWaits refuse;
    weights = run.ib.observe(run.losses);
    scale_gradient(x, weights).sum().backward();
  }
  REQUIRE(torch::equal(x.grad().cpu(), weights.cpu().unsqueeze(1).expand({16, 3})));
  REQUIRE(weights.cpu().max().item<float>() == 2.0F);
}

// --- resume

TEST_CASE("saved at every step and resumed, on the device or off it, a run goes on",
          "[samplers][device]") {
  const bool by_ids = GENERATE(false, true);
  const bool declared = GENERATE(false, true);
  CAPTURE(by_ids, declared);
  const Folder folder;
  const auto make = [&](c10::Device device) {
    Options options = Options(5).seed(2);
    if (declared) options.device(device);
    return InfoBatch(60, options);
  };
  const Setting on_cpu{c10::kCPU, by_ids, Options(5), 60, 8};
  const Setting on_device{stand_in_device(), by_ids, Options(5), 60, 8};
  InfoBatch never = make(c10::kCPU);
  const std::vector<Step> whole = run(never, on_cpu);
  for (std::size_t stop = 1; stop < whole.size(); ++stop) {
    const bool to_cpu = stop % 3 == 0;
    const bool from_cpu = stop % 3 == 1;
    CAPTURE(stop);
    InfoBatch first = make(from_cpu ? c10::kCPU : stand_in_device());
    std::vector<Step> log =
        run(first, from_cpu ? on_cpu : on_device, static_cast<std::int64_t>(stop));
    reset_device_figures();
    first.save(folder.file("state"));
    REQUIRE(device_figures().copies_to_host <= 1);
    InfoBatch second = make(to_cpu ? c10::kCPU : stand_in_device());
    REQUIRE(second.load(folder.file("state")).changes.empty());
    // Without a declared device, the first step finds out where to bring the weights.
    const std::vector<Step> rest = run(second, to_cpu ? on_cpu : on_device, -1, declared ? 0 : 1);
    log.insert(log.end(), rest.begin(), rest.end());
    REQUIRE((log == whole));
    REQUIRE(scores_of(second) == scores_of(never));
  }
}

TEST_CASE("a run goes on behind a save as if there had been none", "[samplers][device]") {
  const bool by_ids = GENERATE(false, true);
  const Setting setting{stand_in_device(), by_ids};
  const Folder folder;
  InfoBatch plain(90, setting.options);
  InfoBatch saving(90, setting.options);
  const std::vector<Step> expected = run(plain, setting);
  std::vector<Step> found;
  const auto step = [&](InfoBatchSampler& sampler, std::int64_t epoch) {
    const auto batch = sampler.next(16);
    if (!batch) return false;
    const torch::Tensor ids = ids_of(*batch);
    const torch::Tensor named = by_ids ? ids.to(setting.device) : torch::Tensor();
    const torch::Tensor losses = losses_of(ids, epoch).to(setting.device);
    found.push_back(
        {epoch, to_vector(ids), bits(saving.update(losses, named, {}, Reduction::kNone).cpu())});
    saving.save(folder.file("state"));
    return true;
  };
  for (std::int64_t epoch = 0; epoch < 6; ++epoch) {
    InfoBatchSampler sampler = saving.sampler();
    sampler.reset();
    while (step(sampler, epoch)) {
    }
  }
  REQUIRE((found == expected));
  REQUIRE(scores_of(saving) == scores_of(plain));
}

TEST_CASE("a torch archive and the sampler's own hold what was staged on the device",
          "[samplers][device]") {
  const bool by_sampler = GENERATE(false, true);
  const Folder folder;
  InfoBatch ib(60, Options(5).seed(2));
  ib.sampler().reset();
  const auto batch = ib.sampler().next(8);
  ib.update(torch::full({8}, 3.0F).to(stand_in_device()));
  torch::serialize::OutputArchive out;
  if (by_sampler) {
    ib.sampler().save(out);
  } else {
    ib.save(out);
  }
  out.save_to(folder.file("state"));
  torch::serialize::InputArchive in;
  in.load_from(folder.file("state"));
  InfoBatch other(60, Options(5).seed(2));
  if (by_sampler) {
    other.sampler().load(in);
  } else {
    other.load(in);
  }
  other.set_epoch(1);
  REQUIRE(other.session()->scores()[batch->front()] == 3.0F);
}

TEST_CASE("load forgets what was staged of the run before", "[samplers][device]") {
  const bool by_ids = GENERATE(false, true);
  const Folder folder;
  InfoBatch fresh(60, Options(5).seed(2));
  fresh.save(folder.file("state"));
  InfoBatch ib(60, Options(5).seed(2));
  ib.sampler().reset();
  const torch::Tensor ids = ids_of(*ib.sampler().next(8)).to(stand_in_device());
  ib.update(torch::ones({8}).to(stand_in_device()), by_ids ? ids : torch::Tensor());
  ib.load(folder.file("state"));
  ib.set_epoch(1);
  for (int id = 0; id < 60; ++id) REQUIRE(std::isnan(ib.session()->scores()[id]));
}

// --- ids

TEST_CASE("rule 11: on a device every row of a repeated id is weighted, the last one's score wins",
          "[samplers][device]") {
  Midway run(/*by_ids=*/true);
  const auto plan = run.ib.plan();
  const auto rescaled = std::find(plan->weights(), plan->weights() + plan->size(), 2.0F);
  const std::int64_t id = plan->ids()[rescaled - plan->weights()];
  const torch::Tensor losses = torch::tensor({1.0F, 5.0F, 3.0F});
  const torch::Tensor named = torch::full({3}, id, torch::kInt64).to(stand_in_device());
  const torch::Tensor rows =
      run.ib.update(losses.to(stand_in_device()), named, {}, Reduction::kNone);
  REQUIRE(torch::equal(rows.cpu(), 2.0F * losses));
  SECTION("of one call") {
    run.ib.set_epoch(2);
    REQUIRE(run.ib.session()->scores()[id] == 3.0F);
  }
  SECTION("of several calls, whatever is larger") {
    run.ib.update(torch::full({1}, -0.5F).to(stand_in_device()), named.slice(0, 0, 1));
    run.ib.set_epoch(2);
    REQUIRE(run.ib.session()->scores()[id] == -0.5F);
  }
  SECTION("a loss that is none wins, too") {
    run.ib.update(torch::full({1}, NAN).to(stand_in_device()), named.slice(0, 0, 1));
    run.ib.set_epoch(2);
    REQUIRE(std::isnan(run.ib.session()->scores()[id]));
  }
}

TEST_CASE("rule 11: ids outside the plan write nothing, weigh nothing, and the boundary throws",
          "[samplers][device]") {
  Midway run(/*by_ids=*/true);
  InfoBatch& ib = run.ib;
  const std::vector<std::int64_t> plan = plan_ids(ib);
  std::int64_t left_out = 0;
  while (std::count(plan.begin(), plan.end(), left_out) > 0) ++left_out;
  const float before = ib.session()->scores()[left_out];
  const auto [stranger, told] =
      GENERATE_REF(table<std::int64_t, std::string>({{left_out, std::to_string(left_out)},
                                                     {200, "one beyond 199"},
                                                     {INT64_MAX, "one beyond 199"},
                                                     {-1, "a number below 0"},
                                                     {INT64_MIN, "a number below 0"}}));
  CAPTURE(stranger);
  const std::vector<std::int64_t> named{plan[0], stranger, plan[1]};
  const torch::Tensor ids = torch::tensor(named).to(stand_in_device());
  const torch::Tensor losses = torch::tensor({7.0F, 8.0F, 9.0F}).to(stand_in_device());
  torch::Tensor rows;
  {
    const RefuseWaits refuse;
    rows = ib.update(losses, ids, {}, Reduction::kNone);
  }
  REQUIRE(rows.cpu()[1].item<float>() == 0.0F);
  const Folder folder;
  const auto boundary = GENERATE(0, 1, 2);
  CAPTURE(boundary);
  const auto leave = [&] {
    if (boundary == 0) run.sampler.reset();
    if (boundary == 1) ib.set_epoch(2);
    if (boundary == 2) ib.save(folder.file("state"));
  };
  std::string text;
  try {
    leave();
  } catch (const c10::IndexError& error) {
    text = error.what_without_backtrace();
  }
  REQUIRE_THAT(text,
               ContainsSubstring("update: ids must be those of the plan of epoch 1, got " + told));
  REQUIRE(ib.session()->epoch() == 1);
  REQUIRE_NOTHROW(leave());  // once is enough
  ib.set_epoch(2);
  REQUIRE(ib.session()->scores()[plan[0]] == 7.0F);
  REQUIRE(ib.session()->scores()[plan[1]] == 9.0F);
  const float after = ib.session()->scores()[left_out];
  REQUIRE(after == before);
}

TEST_CASE("batches by ids in any order, and missing ones, leave the scores of the CPU",
          "[samplers][device]") {
  const auto scores = [](c10::Device device) {
    InfoBatch ib(120, Options(5).seed(4));
    for (int epoch = 0; epoch < 4; ++epoch) {
      std::vector<torch::Tensor> batches;
      ib.sampler().reset();
      while (const auto batch = ib.sampler().next(10)) batches.push_back(ids_of(*batch));
      for (std::size_t i = batches.size(); i-- > 0;) {
        if (i == 2) continue;
        ib.update(losses_of(batches[i], epoch).to(device), batches[i].to(device));
      }
    }
    ib.set_epoch(4);
    return scores_of(ib);
  };
  REQUIRE(scores(stand_in_device()) == scores(c10::kCPU));
}

TEST_CASE("ids that this library did not deliver are observed all the same", "[samplers][device]") {
  InfoBatch ib(30, Options(5).seed(4));
  ib.set_epoch(0);
  const torch::Tensor ids = torch::arange(30).to(stand_in_device());
  ib.update(torch::arange(30, torch::kFloat).to(stand_in_device()), ids);
  ib.set_epoch(1);
  for (int id = 0; id < 30; ++id) REQUIRE(ib.session()->scores()[id] == static_cast<float>(id));
  REQUIRE(ib.size() < 30);
}

TEST_CASE("by ids on a device the epoch ends, and progress counts what was delivered",
          "[samplers][device]") {
  InfoBatch ib(100, Options(4).seed(1));
  InfoBatchSampler sampler = ib.sampler();
  sampler.reset();
  double before = 0.0;
  while (const auto batch = sampler.next(10)) {
    ib.update(torch::ones({10}).to(stand_in_device()), ids_of(*batch).to(stand_in_device()));
    REQUIRE(ib.progress() > before);
    before = ib.progress();
  }
  REQUIRE(ib.progress() == 0.25);
  REQUIRE(ib.epoch() == 1);
  REQUIRE(ib.statistics().epoch == 0);
  REQUIRE(ib.progress() == 0.25);
}

TEST_CASE("one epoch is observed in one way, on a device too", "[samplers][device]") {
  SECTION("ids after order") {
    Midway run;
    run.ib.update(run.losses);
    REQUIRE_THROWS_WITH(run.ib.update(run.losses, run.ids),
                        ContainsSubstring("update: epoch 1 is observed in order") &&
                            ContainsSubstring("got ids after 16 samples"));
    REQUIRE(run.ib.session()->position() == 16);
  }
  SECTION("order after ids") {
    Midway run(/*by_ids=*/true);
    run.ib.update(run.losses, run.ids);
    REQUIRE_THROWS_WITH(run.ib.update(run.losses),
                        ContainsSubstring("update: epoch 1 is observed by ids"));
    REQUIRE(run.ib.session()->position() == 16);
  }
  SECTION("the next epoch may go the other way") {
    Midway run;
    run.ib.update(run.losses);
    run.ib.set_epoch(2);
    run.sampler.reset();
    const torch::Tensor ids = ids_of(*run.sampler.next(16)).to(stand_in_device());
    run.ib.update(run.losses, ids);
    run.ib.set_epoch(3);
    run.sampler.reset();
    run.sampler.next(16);
    REQUIRE_NOTHROW(run.ib.update(run.losses));
  }
}

// --- soundness, epochs

TEST_CASE("what is refused on the CPU is refused on a device, and nothing has changed",
          "[samplers][device]") {
  Midway run;
  const auto rand = [](std::int64_t count) { return torch::rand({count}).to(stand_in_device()); };
  REQUIRE_THROWS_WITH(run.ib.update(rand(17)), ContainsSubstring("update: losses must belong"));
  REQUIRE_THROWS_WITH(run.ib.observe(rand(400)), ContainsSubstring("observe: losses must belong"));
  REQUIRE_THROWS_AS(run.ib.update(torch::rand({}).to(stand_in_device())), c10::ValueError);
  REQUIRE_THROWS_AS(run.ib.update(torch::ones({16}, torch::kInt64).to(stand_in_device())),
                    c10::TypeError);
  run.ib.update(run.losses);
  REQUIRE_THROWS_WITH(run.ib.update(run.losses), ContainsSubstring("got 16 losses for 0"));
  REQUIRE(run.ib.session()->position() == 16);
  run.sampler.next(16);
  run.ib.update(rand(16));
  run.sampler.next(16);
  REQUIRE_THROWS_WITH(run.ib.update(rand(15)), ContainsSubstring("a row or a part of a batch"));
  REQUIRE_THROWS_WITH(run.sampler.next(16), ContainsSubstring("a row or a batch was lost"));
}

TEST_CASE("losses without an iteration are refused on a device", "[samplers][device]") {
  InfoBatch ib(100, Options(4).seed(1));
  const torch::Tensor losses = torch::rand({10}).to(stand_in_device());
  REQUIRE_THROWS_WITH(ib.update(losses), ContainsSubstring("update: losses must belong"));
  REQUIRE_NOTHROW(ib.update(losses.slice(0, 0, 0)));
  ib.sampler().reset();
  ib.sampler().next(10);
  REQUIRE_NOTHROW(ib.update(losses));
  REQUIRE_NOTHROW(ib.update(losses.slice(0, 0, 0)));
}

TEST_CASE("discard_epoch forgets what was staged on the device", "[samplers][device]") {
  const bool by_ids = GENERATE(false, true);
  Midway run(by_ids);
  const std::vector<std::uint32_t> before = scores_of(run.ib);
  run.ib.update(run.losses, by_ids ? run.ids : torch::Tensor());
  run.ib.discard_epoch();
  REQUIRE(run.ib.session()->position() == 0);
  run.ib.set_epoch(2);
  REQUIRE(scores_of(run.ib) == before);
}

TEST_CASE("rule 10: losses that are not finite are never-observed, and told once",
          "[samplers][device]") {
  const bool by_ids = GENERATE(false, true);
  InfoBatch ib(40, Options(5).seed(1));
  std::vector<std::string> warnings;
  ib.session()->set_warning_handler([&](const std::string& text) { warnings.push_back(text); });
  ib.sampler().reset();
  const auto batch = ib.sampler().next(40);
  torch::Tensor losses = torch::ones({40});
  losses[3] = NAN;
  losses[5] = -INFINITY;
  const std::uint32_t reserved = 0x7fc00002u;  // the engine's own sign for no loss at all
  std::memcpy(losses.data_ptr<float>() + 7, &reserved, 4);
  const torch::Tensor ids = ids_of(*batch).to(stand_in_device());
  ib.update(losses.to(stand_in_device()), by_ids ? ids : torch::Tensor());
  ib.set_epoch(1);
  REQUIRE(ib.statistics().non_finite_total == 3);
  REQUIRE(warnings.size() == 1);
  for (const std::size_t row : {3, 5, 7}) {
    REQUIRE(std::isnan(ib.session()->scores()[(*batch)[row]]));
  }
  REQUIRE(ib.session()->scores()[(*batch)[4]] == 1.0F);
}

TEST_CASE("rule 9: a graph that outlives its epoch keeps its weights on the device",
          "[samplers][device]") {
  Midway run;
  const auto plan = run.ib.plan();
  torch::Tensor leaf = run.losses.requires_grad_();
  const torch::Tensor loss = run.ib.update(leaf, Reduction::kSum);
  for (int epoch = 2; epoch < 5; ++epoch) {
    run.ib.set_epoch(epoch);
    run.sampler.reset();
    run.sampler.next(16);
    run.ib.update(torch::rand({16}).to(stand_in_device()));
  }
  loss.backward();
  const torch::Tensor gradient = leaf.grad().cpu();
  REQUIRE(std::equal(plan->weights(), plan->weights() + 16, gradient.const_data_ptr<float>()));
}

TEST_CASE("a step in inference mode leaves a run that goes on outside of it",
          "[samplers][device]") {
  const bool by_ids = GENERATE(false, true);
  InfoBatch ib(40, Options(5).seed(1));
  InfoBatchSampler sampler = ib.sampler();
  sampler.reset();
  const auto step = [&] {
    const torch::Tensor ids = ids_of(*sampler.next(10)).to(stand_in_device());
    return ib.update(
        torch::rand({10}).to(stand_in_device()).requires_grad_(!at::InferenceMode::is_enabled()),
        by_ids ? ids : torch::Tensor());
  };
  {
    const c10::InferenceMode inference;
    step();
  }
  REQUIRE_NOTHROW(step().backward());
}

// --- the device of a run

TEST_CASE("a change of device in the middle of a run is refused by name", "[samplers][device]") {
  const torch::Tensor here = torch::rand({10});
  const torch::Tensor there = here.to(stand_in_device());
  const torch::Tensor elsewhere = here.to(stand_in_device(1));
  const auto begun = [](const Options& options) {
    InfoBatch ib(100, options);
    ib.sampler().reset();
    ib.sampler().next(10);
    return ib;
  };
  SECTION("by the first losses") {
    InfoBatch ib = begun(Options(4).seed(1));
    ib.update(there);
    ib.sampler().next(10);
    REQUIRE_THROWS_WITH(
        ib.update(here),
        ContainsSubstring("update: losses must be on stand_in:0, where this run is, "
                          "got cpu; losses.to(\"stand_in:0\") keeps the gradient"));
    REQUIRE_THROWS_WITH(ib.update(elsewhere), ContainsSubstring("got stand_in:1"));
    REQUIRE_THROWS_WITH(ib.observe(here),
                        ContainsSubstring("observe: scores must be on stand_in:0"));
    REQUIRE(ib.session()->position() == 10);
    REQUIRE_NOTHROW(ib.update(there));
    ib.set_epoch(1);
    ib.sampler().reset();
    ib.sampler().next(10);
    REQUIRE_THROWS_AS(ib.update(here), c10::ValueError);
  }
  SECTION("from the CPU") {
    InfoBatch ib = begun(Options(4).seed(1));
    ib.update(here);
    ib.sampler().next(10);
    REQUIRE_THROWS_WITH(ib.update(there),
                        ContainsSubstring("update: losses must be on the CPU, where this run is, "
                                          "got stand_in:0; losses.cpu() keeps the gradient"));
  }
  SECTION("declared") {
    InfoBatch ib = begun(Options(4).seed(1).device(stand_in_device(1)));
    REQUIRE_THROWS_WITH(ib.update(there), ContainsSubstring("must be on stand_in:1"));
    REQUIRE_THROWS_WITH(ib.update(here), ContainsSubstring("got cpu"));
    REQUIRE_NOTHROW(ib.update(elsewhere));
  }
  SECTION("declared without an index: the first losses say which") {
    InfoBatch ib = begun(Options(4).seed(1).device(c10::DeviceType::PrivateUse1));
    REQUIRE_THROWS_WITH(ib.update(here), ContainsSubstring("must be on stand_in, where"));
    REQUIRE_NOTHROW(ib.update(elsewhere));
    ib.sampler().next(10);
    REQUIRE_THROWS_WITH(ib.update(there), ContainsSubstring("must be on stand_in:1"));
  }
  SECTION("a call that was refused decides nothing") {
    InfoBatch ib = begun(Options(4).seed(1));
    REQUIRE_THROWS_AS(ib.update(torch::rand({11}).to(stand_in_device())), c10::Error);
    REQUIRE_NOTHROW(ib.update(here));
  }
  SECTION("behind a refused call epochs may pass") {
    InfoBatch ib = begun(Options(4).seed(1));
    REQUIRE_THROWS_AS(ib.update(torch::rand({11}).to(stand_in_device())), c10::Error);
    ib.set_epoch(2);
    ib.sampler().reset();
    ib.sampler().next(10);
    REQUIRE_NOTHROW(ib.update(there));
  }
}

TEST_CASE("ids and scores must be where the losses are: no step copies them",
          "[samplers][device]") {
  Midway run(/*by_ids=*/true);
  REQUIRE_THROWS_WITH(run.ib.update(run.losses, run.ids.cpu()),
                      ContainsSubstring("update: ids must be on stand_in:0, got cpu; "
                                        "ids.to(\"stand_in:0\")"));
  REQUIRE_THROWS_WITH(run.ib.observe(run.losses, run.ids.cpu()),
                      ContainsSubstring("observe: ids must be on stand_in:0, got cpu"));
  REQUIRE_THROWS_WITH(run.ib.update(run.losses, run.ids, torch::rand({16})),
                      ContainsSubstring("update: scores must be on stand_in:0, got cpu"));
  InfoBatch here(100, Options(4).seed(1));
  here.sampler().reset();
  here.sampler().next(10);
  REQUIRE_THROWS_WITH(here.update(torch::rand({10}), {}, torch::rand({10}).to(stand_in_device())),
                      ContainsSubstring("update: scores must be on the CPU, got stand_in:0"));
}

TEST_CASE("scores of their own are recorded instead of the losses on a device",
          "[samplers][device]") {
  const bool by_ids = GENERATE(false, true);
  Midway run(by_ids);
  const torch::Tensor scores = torch::arange(16, torch::kFloat);
  const std::vector<std::int64_t> ids = to_vector(run.ids.cpu());
  run.ib.update(torch::rand({16, 4}).to(stand_in_device()),
                by_ids ? run.ids : torch::Tensor(),
                scores.to(stand_in_device()));
  run.ib.set_epoch(2);
  for (std::size_t i = 0; i < 16; ++i) {
    REQUIRE(run.ib.session()->scores()[ids[i]] == static_cast<float>(i));
  }
}

TEST_CASE("losses without values, on meta, are observed as unseen", "[samplers][device]") {
  InfoBatch ib(40, Options(5).seed(1).device(c10::kMeta));
  ib.sampler().reset();
  while (const auto batch = ib.sampler().next(10)) {
    const torch::Tensor loss = ib.update(torch::empty({10}, torch::kMeta));
    REQUIRE(loss.is_meta());
  }
  REQUIRE(ib.epoch() == 1);
  REQUIRE(ib.size() == 40);
}

}  // namespace
}  // namespace infobatch::testing
