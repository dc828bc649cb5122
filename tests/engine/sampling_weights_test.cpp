#include <infobatch/detail/policy.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>
#include <tests/support/with_backend.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

// Sampling weights: sample i counts weight_i / mean times an epoch, in expectation, under every
// policy that rescales.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr const char* kColumn = "sampling_weight";

/// One sample of ten is of the rare class; weights as for a class-balancing sampler.
std::vector<float> balancing(std::int64_t size) {
  std::vector<float> weights;
  for (std::int64_t i = 0; i < size; ++i) weights.push_back(i % 10 == 0 ? 1.0f / 10 : 1.0f / 90);
  return weights;
}

double multiplicity(const std::vector<float>& weights, std::int64_t id) {
  double sum = 0.0;
  for (const float weight : weights) sum += double{weight};
  return double{weights[std::size_t(id)]} * double(weights.size()) / sum;
}

Config pruning(const std::string& policy, const std::string& keep, std::int64_t epochs) {
  Config config = config_of(epochs, 0.5);
  config.policy = policy;
  config.keep = keep;
  config.delta = 1.0;
  return config;
}

void give(Session& session, const std::vector<float>& weights) {
  session.set_column(kColumn, ColumnType::kFloat32, weights.data());
}

std::vector<std::string> rescaling() {
  std::vector<std::string> names;
  for (const Policy* policy : policies()) {
    if (policy->card.rescales || !policy->card.prunes) names.emplace_back(policy->card.name);
  }
  return names;
}

}  // namespace

TEST_CASE("sampling weights: each sample counts as often as its weight says, under every policy",
          "[engine][sampling][statistical]") {
  const std::string policy = GENERATE(from_range(rescaling()));
  const std::string keep = GENERATE("bernoulli", "exact");
  CAPTURE(policy, keep);
  constexpr std::int64_t kSize = 400;
  constexpr std::int64_t kEpochs = 4000;
  const std::vector<float> weights = balancing(kSize);
  Session session(kSize, pruning(policy, keep, kEpochs), 1);
  give(session, weights);
  // Losses that never change, so that the plans of all epochs are of one distribution.
  const auto loss = [](std::int64_t id) { return simulated_loss(id, 0); };
  std::vector<double> sum(kSize);
  std::vector<double> squares(kSize);
  std::int64_t planned = 0;
  run_epoch(session, kSize, loss);
  for (std::int64_t epoch = 1; epoch < kEpochs; ++epoch) {
    const PlanCopy plan = run_epoch(session, kSize, loss);
    for (std::size_t p = 0; p < plan.ids.size(); ++p) {
      const double weight = double{bits_float(plan.weights[p])};
      sum[std::size_t(plan.ids[p])] += weight;
      squares[std::size_t(plan.ids[p])] += weight * weight;
    }
    planned += 1;
  }
  double total = 0.0;
  for (std::int64_t id = 0; id < kSize; ++id) {
    const double mean = sum[std::size_t(id)] / double(planned);
    const double variance = std::max(0.0, squares[std::size_t(id)] / double(planned) - mean * mean);
    CAPTURE(id);
    // Five standard errors, and the rounding of a weight.
    REQUIRE(std::abs(mean - multiplicity(weights, id)) <=
            5.0 * std::sqrt(variance / double(planned)) + 1e-6 * (1.0 + mean));
    total += mean;
  }
  REQUIRE(total == Catch::Approx(double(kSize)).epsilon(0.01));  // as many as without weights
}

TEST_CASE("sampling weights: full epochs have every sample, with its multiplicity as its weight",
          "[engine][sampling]") {
  const std::vector<float> weights = balancing(1000);
  Session session(1000, pruning("infobatch", "bernoulli", 8), 1);
  give(session, weights);
  const PlanCopy plan = run_epoch(session, 64);
  REQUIRE(plan.ids.size() == 1000);
  for (std::size_t p = 0; p < plan.ids.size(); ++p) {
    REQUIRE(double{bits_float(plan.weights[p])} ==
            Catch::Approx(multiplicity(weights, plan.ids[p])).epsilon(1e-6));
  }
}

TEST_CASE(
    "sampling weights: what is rarer than the mean is left out, and what stays weighs as ever",
    "[engine][sampling]") {
  const std::vector<float> weights = balancing(20000);
  Session session(20000, pruning("random", "bernoulli", 8), 1);
  give(session, weights);
  run_epoch(session, 512);
  const PlanCopy plan = run_epoch(session, 512);
  std::int64_t rare = 0;
  for (std::size_t p = 0; p < plan.ids.size(); ++p) {
    const bool is_rare = plan.ids[p] % 10 == 0;
    rare += is_rare ? 1 : 0;
    // random: kept with 1/2, weight 2; the rare class counts five times, the other 5/9 times.
    REQUIRE(double{bits_float(plan.weights[p])} ==
            Catch::Approx(is_rare ? 10.0 : 2.0).epsilon(1e-6));
  }
  const auto common = static_cast<std::int64_t>(plan.ids.size()) - rare;
  REQUIRE(std::abs(rare - 1000) < 160);    // 2,000 / 2
  REQUIRE(std::abs(common - 5000) < 320);  // 18,000 / 2 * 5/9
  const Statistics figures = session.statistics();
  REQUIRE(figures.kept == static_cast<std::int64_t>(plan.ids.size()));
  REQUIRE(figures.kept + figures.pruned == 20000);
}

TEST_CASE("sampling weights: equal ones change nothing, to the bit", "[engine][sampling]") {
  const std::string policy = GENERATE(from_range(rescaling()));
  const float value = GENERATE(1.0f, 0.3f, 1e-30f, 3e30f);
  CAPTURE(policy, value);
  Session with(3000, pruning(policy, "bernoulli", 5), 1);
  Session without(3000, pruning(policy, "bernoulli", 5), 1);
  give(with, std::vector<float>(3000, value));
  for (int epoch = 0; epoch < 5; ++epoch) REQUIRE(run_epoch(with, 64) == run_epoch(without, 64));
}

TEST_CASE("sampling weights: numbers of samples that were promised stay", "[engine][sampling]") {
  const bool exact = GENERATE(true, false);
  Config config = pruning("infobatch", exact ? "exact" : "bernoulli", 8);
  if (exact) {
    config.whole_batches = 50;
  } else {
    config.target_saved = 0.2;
  }
  const std::vector<float> weights = balancing(5000);
  Session with(5000, config, 1);
  Session without(5000, config, 1);
  give(with, weights);
  for (int epoch = 0; epoch < 8; ++epoch) {
    const PlanCopy a = run_epoch(with, 50);
    const PlanCopy b = run_epoch(without, 50);
    REQUIRE(a.ids == b.ids);
    for (std::size_t p = 0; p < a.ids.size(); ++p) {
      REQUIRE(double{bits_float(a.weights[p])} ==
              Catch::Approx(double{bits_float(b.weights[p])} * multiplicity(weights, a.ids[p]))
                  .epsilon(1e-6));
    }
  }
}

TEST_CASE("sampling weights: threads, ranks and backends make the same plan, also resumed",
          "[engine][sampling][threads]") {
  const detail::Backend* const backend = GENERATE(from_range(detail::backends()));
  CAPTURE(backend->name);
  const WithBackend use(*backend);
  const std::vector<float> weights = balancing(3000);
  const Config config = pruning("infobatch", "bernoulli", 6);
  Session one(3000, config, 1);
  Session other(3000, config, 3);
  give(one, weights);
  give(other, weights);
  for (int epoch = 0; epoch < 3; ++epoch) REQUIRE(run_epoch(one, 64) == run_epoch(other, 64));
  one.begin();
  const auto loss = [](std::int64_t id) { return simulated_loss(id, 3); };
  run_batches(one, 64, loss, 5);
  Session resumed(3000, config, 2);
  REQUIRE_THROWS_AS(resumed.deserialize(one.serialize()), InvalidArgument);  // without the column
  give(resumed, weights);
  resumed.deserialize(one.serialize());
  resumed.begin();
  REQUIRE(run_batches(resumed, 64, loss) == run_batches(one, 64, loss));
  REQUIRE(run_epoch(resumed, 64) == run_epoch(one, 64));

  // Ranks: row j of a share is position j * size + rank of the plan.
  Session first(3000, config, 1);
  Session second(3000, config, 1);
  Session alone(3000, config, 1);
  for (Session* session : {&first, &second, &alone}) give(*session, weights);
  first.set_ranks({0, 2});
  second.set_ranks({1, 2});
  const PlanCopy a = copy_of(first.plan());
  const PlanCopy b = copy_of(second.plan());
  const PlanCopy all = copy_of(alone.plan());
  for (std::size_t p = 0; p < all.ids.size(); ++p) {
    REQUIRE((p % 2 == 0 ? a : b).ids[p / 2] == all.ids[p]);
    REQUIRE((p % 2 == 0 ? a : b).weights[p / 2] == all.weights[p]);
  }
}

TEST_CASE("sampling weights: a plan that was only looked at is made anew", "[engine][sampling]") {
  Session session(1000, pruning("infobatch", "bernoulli", 8), 1);
  REQUIRE(session.length() == 1000);
  give(session, balancing(1000));
  const PlanCopy plan = run_epoch(session, 64);
  REQUIRE(plan.weights.front() != float_bits(1.0f));
  REQUIRE_NOTHROW(give(session, balancing(1000)));  // the same ones once more
  REQUIRE_THROWS_AS(give(session, std::vector<float>(1000, 1.0f)), StateError);
}

TEST_CASE("sampling weights: what cannot be one is refused, and nothing has changed",
          "[engine][sampling]") {
  Session session(4, pruning("infobatch", "bernoulli", 8), 1);
  Session untouched(4, pruning("infobatch", "bernoulli", 8), 1);
  const float infinity = std::numeric_limits<float>::infinity();
  const std::map<float, std::string> wrong = {{0.0f, "above 0, got 0 at 2"},
                                              {-1.0f, "above 0, got -1 at 2"},
                                              {infinity, "finite and above 0, got inf"},
                                              {1e-12f, "at least 2^-32 of their mean"}};
  for (const auto& [value, text] : wrong) {
    const std::vector<float> weights = {1.0f, 1.0f, value, 1.0f};
    REQUIRE_THAT(message_of<InvalidArgument>([&] { give(session, weights); }),
                 ContainsSubstring(text));
  }
  const std::vector<float> nan(4, std::nanf(""));
  REQUIRE_THAT(
      message_of<InvalidArgument>([&] { give(session, nan); }),
      ContainsSubstring("set_column: sampling_weight must be finite and above 0, got nan"));
  const std::vector<double> doubles(4, 1.0);
  REQUIRE_THAT(message_of<InvalidArgument>(
                   [&] { session.set_column(kColumn, ColumnType::kFloat64, doubles.data()); }),
               ContainsSubstring("must be float32, got F64"));
  REQUIRE_THROWS_AS(session.set_column(kColumn, static_cast<ColumnType>(77), doubles.data()),
                    InvalidArgument);
  REQUIRE_THROWS_AS(session.set_column(kColumn, ColumnType::kFloat32, nullptr), InvalidArgument);
  REQUIRE(session.column_names() == std::vector<std::string>{"score"});
  REQUIRE(run_epoch(session, 2) == run_epoch(untouched, 2));

  for (const char* policy : {"ucb", "orderdp"}) {
    Session without(4, pruning(policy, "bernoulli", 8), 1);
    REQUIRE_THAT(message_of<InvalidArgument>([&] { give(without, std::vector<float>(4, 1.0f)); }),
                 ContainsSubstring("a policy that rescales what it keeps, got policy"));
  }
  Config plain = pruning("infobatch", "bernoulli", 8);
  plain.rescale = false;
  Session biased(4, plain, 1);
  REQUIRE_THAT(message_of<InvalidArgument>([&] { give(biased, std::vector<float>(4, 1.0f)); }),
               ContainsSubstring("rescale = false"));
  Session empty(0, pruning("infobatch", "bernoulli", 8), 1);
  REQUIRE_NOTHROW(give(empty, {}));
}
