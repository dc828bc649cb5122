#include <infobatch/detail/annealing.hpp>
#include <infobatch/detail/budget.hpp>
#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/planner.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/detail/streams.hpp>
#include <infobatch/session.hpp>
#include <tests/kernels/simd_levels.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>
#include <tests/support/with_backend.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

// The conformance suite: what every registered policy has to satisfy. A policy that is added to the
// registry is tested here without another line.

using namespace infobatch;
using namespace infobatch::testing;

namespace {

struct Case {
  std::string policy;
  std::string keep;
  bool rescale;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string& policy : policy_names()) {
    for (const bool exact : {false, true}) {
      for (const bool rescale : {false, true}) {
        all.push_back({policy, exact ? "exact" : "bernoulli", rescale});
      }
    }
  }
  return all;
}

Config config_for(const Case& c, std::int64_t epochs) {
  Config config = config_of(epochs, 0.4);
  config.policy = c.policy;
  config.keep = c.keep;
  config.rescale = c.rescale;
  return config;
}

void require_subset(const PlanCopy& plan, std::int64_t size) {
  std::vector<std::int64_t> sorted = plan.ids;
  std::sort(sorted.begin(), sorted.end());
  REQUIRE(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end());
  if (!sorted.empty()) REQUIRE((sorted.front() >= 0 && sorted.back() < size));
}

/// What a session knows of its samples: scores and the columns of its policy, by name.
std::map<std::string, std::vector<std::uint32_t>> table_of(const Session& session,
                                                           const std::string& policy) {
  std::map<std::string, std::vector<std::uint32_t>> table = {{"score", score_bits(session)}};
  for (const ColumnCard& card : find_policy(policy)->card.columns) {
    const auto* const values = static_cast<const float*>(session.column(card.name).data);
    for (std::int64_t id = 0; id < session.size(); ++id) {
      table[card.name].push_back(float_bits(values[id]));
    }
  }
  return table;
}

}  // namespace

TEST_CASE("every policy: a plan is a permutation of a subset, at every size", "[engine][policy]") {
  const Case c = GENERATE(from_range(cases()));
  const std::int64_t size = GENERATE(0, 1, 2, 63, 64, 65, 127, 128, 129, 1000, 4097);
  CAPTURE(c.policy, c.keep, c.rescale, size);
  Session session(size, config_for(c, 6), 1);
  for (int epoch = 0; epoch < 6; ++epoch) {
    const PlanCopy plan = run_epoch(session, 100);
    require_subset(plan, size);
    const Statistics figures = session.statistics();
    REQUIRE(figures.kept == static_cast<std::int64_t>(plan.ids.size()));
    REQUIRE(figures.kept + figures.pruned == size);
    REQUIRE(figures.pruned <= figures.candidates);
    for (const std::uint32_t bits : plan.weights) {
      REQUIRE(bits_float(bits) >= 1.0f);
      if (!c.rescale) REQUIRE(bits_float(bits) == 1.0f);
    }
  }
}

TEST_CASE("every policy: warmup and annealed epochs are full, of weight 1", "[engine][policy]") {
  const Case c = GENERATE(from_range(cases()));
  CAPTURE(c.policy, c.keep, c.rescale);
  const Config config = config_for(c, 10);
  Session session(500, config, 1);
  for (int epoch = 0; epoch < 12; ++epoch) {
    const PlanCopy plan = run_epoch(session, 100);
    if (prunes(config, epoch)) {
      REQUIRE((plan.ids.size() < 500) == find_policy(c.policy)->card.prunes);
    } else {
      REQUIRE(plan.ids.size() == 500);
      REQUIRE(plan.weights == std::vector<std::uint32_t>(500, float_bits(1.0f)));
    }
  }
}

TEST_CASE("every policy: the plan is the same for every backend and 1 to 4 threads",
          "[engine][policy]") {
  // Large enough that four threads have work: see kSamplesPerThread.
  constexpr std::int64_t kSize = 4 * kSamplesPerThread + 77;
  const std::string policy = GENERATE(from_range(policy_names()));
  const std::string keep = GENERATE("bernoulli", "exact");
  CAPTURE(policy, keep);
  const Config config = config_for({policy, keep, true}, 10);
  std::vector<std::uint64_t> first;
  for (const detail::Backend* backend : detail::backends()) {
    const WithBackend use(*backend);
    for (const int threads : {1, 2, 3, 4}) {
      Session session(kSize, config, threads);
      std::vector<float> losses(kSize);
      std::vector<std::uint64_t> fingerprints;
      for (int epoch = 0; epoch < 3; ++epoch) {  // two pruned ones and a look at the third
        session.begin();
        const Slice all = session.next(kSize);
        fingerprints.push_back(detail::fingerprint(*all.plan));
        for (std::int64_t i = 0; i < all.count; ++i) {
          losses[std::size_t(i)] = simulated_loss(all.ids()[i], epoch);
        }
        session.observe(losses.data(), all.count);
      }
      fingerprints.push_back(detail::fingerprint(*session.plan()));
      if (first.empty()) first = fingerprints;
      REQUIRE(fingerprints == first);
    }
  }
}

// H0: a sample is in a plan with probability 1 / (its weight there), so that its weights sum to one
// a plan in expectation. alpha = 1e-6 two-sided, Bonferroni over the samples.
TEST_CASE("every policy: weights are the inverse keep probability",
          "[engine][policy][statistical]") {
  const Case c = GENERATE(from_range(cases()));
  if (!c.rescale || !find_policy(c.policy)->card.rescales) return;
  CAPTURE(c.policy, c.keep);
  constexpr int kPlans = 1000;
  constexpr std::int64_t kSize = 300;
  Config config = config_for(c, 2 * kPlans);
  Session session(kSize, config, 1);
  run_epoch(session, kSize);
  // By sample: what its weights sum to, which is 1 a plan in expectation.
  std::vector<double> sum(kSize, 0.0);
  std::vector<double> square(kSize, 0.0);
  for (int epoch = 1; epoch <= kPlans; ++epoch) {
    session.set_epoch(epoch);
    const std::shared_ptr<const Plan> plan = session.plan();
    for (std::int64_t p = 0; p < plan->size(); ++p) {
      const double w = plan->weights()[p];
      sum[std::size_t(plan->ids()[p])] += w;
      square[std::size_t(plan->ids()[p])] += w * w;
    }
  }
  // Bonferroni over 300 samples: alpha = 1e-6 / 300 => |z| < 6.2, the estimate's own spread
  // included.
  for (std::int64_t id = 0; id < kSize; ++id) {
    const double mean = sum[std::size_t(id)] / kPlans;
    const double variance = square[std::size_t(id)] / kPlans - mean * mean;
    if (variance < 1e-12) {
      REQUIRE(mean == Catch::Approx(1.0));  // always kept
    } else {
      REQUIRE(std::abs(mean - 1.0) / std::sqrt(variance / kPlans) < 6.2);
    }
  }
}

TEST_CASE("every policy: the registry and the names agree", "[engine][policy]") {
  for (const std::string& name : policy_names()) {
    REQUIRE(find_policy(name) != nullptr);
    REQUIRE(find_policy(name)->card.name == name);
    Config config = config_of(10);
    const Policy& policy = *find_policy(name);
    REQUIRE(largest_pruned_fraction(config, policy.reach(config)) <= 1.0);
    REQUIRE(policy.card.prunes == (largest_pruned_fraction(config, policy.reach(config)) > 0.0));
  }
  REQUIRE(find_policy("none of them") == nullptr);
}

TEST_CASE("every policy: the plan is the same with every instruction set", "[engine][policy]") {
  const Case c = GENERATE(from_range(cases()));
  CAPTURE(c.policy, c.keep, c.rescale);
  std::vector<std::int64_t> first_ids;
  for (const detail::SimdLevel level : simd_levels()) {
    const WithLevel use(level);
    Session session(5003, config_for(c, 10), 1);
    std::vector<std::int64_t> ids;
    for (int epoch = 0; epoch < 4; ++epoch) {
      const PlanCopy plan = run_epoch(session, 1000);
      ids.insert(ids.end(), plan.ids.begin(), plan.ids.end());
      ids.insert(ids.end(), plan.weights.begin(), plan.weights.end());
    }
    if (first_ids.empty()) first_ids = ids;
    REQUIRE(ids == first_ids);
  }
}

TEST_CASE("every policy: a look at the next epoch changes nothing that is saved",
          "[engine][policy]") {
  const Case c = GENERATE(from_range(cases()));
  CAPTURE(c.policy, c.keep, c.rescale);
  Session session(500, config_for(c, 10), 1);
  for (int epoch = 0; epoch < 4; ++epoch) {
    session.begin();
    const Slice slice = session.next(1000);
    const auto loss = [&](std::int64_t id) { return simulated_loss(id, epoch); };
    session.observe(losses_of(slice, loss).data(), slice.count);
    const std::string before = session.serialize();
    session.length();
    REQUIRE(session.serialize() == before);
  }
}

TEST_CASE("every policy: lent losses that change behind a look are folded anew",
          "[engine][policy]") {
  const Case c = GENERATE(from_range(cases()));
  CAPTURE(c.policy, c.keep, c.rescale);
  const Config config = config_for(c, 10);
  Session lent(300, config, 1);
  Session plain(300, config, 1);
  for (int epoch = 0; epoch < 5; ++epoch) {
    const PlanCopy expected =
        run_epoch(plain, 1000, [=](std::int64_t id) { return simulated_loss(id, epoch); });
    lent.begin();
    const Slice slice = lent.next(1000);
    lent.advance(slice.count);
    const EpochArrays arrays = lent.epoch_arrays();
    for (std::int64_t p = 0; p < arrays.size; ++p) arrays.losses[p] = static_cast<float>(p % 7);
    lent.length();  // a look, at a plan of these
    for (std::int64_t p = 0; p < arrays.size; ++p) {
      REQUIRE(arrays.ids[p] == expected.ids[std::size_t(p)]);
      arrays.losses[p] = simulated_loss(arrays.ids[p], epoch);
    }
  }
  lent.begin();
  plain.begin();
  REQUIRE(score_bits(lent) == score_bits(plain));
  for (const ColumnCard& card : find_policy(c.policy)->card.columns) {
    REQUIRE(std::memcmp(lent.column(card.name).data,
                        plain.column(card.name).data,
                        300 * sizeof(float)) == 0);
  }
}

// Rule 3 and the soundness checks: what nobody observed is what it was, to the bit.
TEST_CASE("every policy: an epoch that breaks off changes what it observed alone",
          "[engine][policy]") {
  const Case c = GENERATE(from_range(cases()));
  CAPTURE(c.policy, c.keep, c.rescale);
  Session session(300, config_for(c, 12), 1);
  for (int epoch = 0; epoch < 4; ++epoch) run_epoch(session, 32);
  session.begin();
  const auto before = table_of(session, c.policy);
  const auto loss = [](std::int64_t id) { return 10.0f + simulated_loss(id, 4); };
  const PlanCopy met = run_batches(session, 32, loss, 2);
  REQUIRE(met.ids.size() == 64);
  session.begin();  // of the next epoch
  const auto after = table_of(session, c.policy);
  for (const auto& [name, values] : before) {
    CAPTURE(name);
    for (std::int64_t id = 0; id < 300; ++id) {
      const bool observed = std::count(met.ids.begin(), met.ids.end(), id) > 0;
      const bool same = values[std::size_t(id)] == after.at(name)[std::size_t(id)];
      REQUIRE(same == !observed);
    }
  }
}

TEST_CASE("every policy: a discarded epoch was never observed", "[engine][policy]") {
  const Case c = GENERATE(from_range(cases()));
  CAPTURE(c.policy, c.keep, c.rescale);
  Session session(300, config_for(c, 12), 1);
  for (int epoch = 0; epoch < 4; ++epoch) run_epoch(session, 32);
  session.begin();
  const auto before = table_of(session, c.policy);
  const PlanCopy plan = copy_of(session.plan());
  run_batches(
      session, 32, [](std::int64_t) { return 10.0f; }, 2);
  session.discard_epoch();
  session.begin();
  REQUIRE(session.epoch() == 4);
  REQUIRE(table_of(session, c.policy) == before);
  REQUIRE(run_epoch(session, 32) == plan);
}

TEST_CASE("every policy: saved and resumed anywhere is never stopped", "[engine][policy]") {
  const Case c = GENERATE(from_range(cases()));
  const std::int64_t batches = GENERATE(0, 1, 2);
  CAPTURE(c.policy, c.keep, c.rescale, batches);
  const Config config = config_for(c, 12);
  Session session(300, config, 1);
  for (int epoch = 0; epoch < 5; ++epoch) run_epoch(session, 32);
  session.begin();
  const auto loss = [](std::int64_t id) { return simulated_loss(id, 5); };
  run_batches(session, 32, loss, batches);

  Session resumed(300, config, 2);
  resumed.deserialize(session.serialize());
  resumed.begin();
  REQUIRE(run_batches(resumed, 32, loss) == run_batches(session, 32, loss));
  for (int epoch = 6; epoch < 10; ++epoch) {
    REQUIRE(run_epoch(resumed, 32) == run_epoch(session, 32));
  }
  REQUIRE(resumed.serialize() == session.serialize());
}

TEST_CASE("every policy: a fixed budget is met to a fraction of a percent", "[engine][policy]") {
  const Case c = GENERATE(from_range(cases()));
  if (!find_policy(c.policy)->card.prunes) return;
  CAPTURE(c.policy, c.keep, c.rescale);
  Config config = config_for(c, 20);
  config.target_saved = 0.3;
  Session session(2000, config, 1);
  const Warnings warnings(session);
  for (int epoch = 0; epoch < 20; ++epoch) run_epoch(session, 256);
  REQUIRE(std::abs(session.statistics().actual_saved - 0.3) < 0.005);
  REQUIRE(warnings.count("saved") == 0);
}

// As docs/policies.md says, with its own sums and its own order.
TEST_CASE("ucb leaves out those with the smallest mean + c * variance", "[engine][policy]") {
  constexpr std::int64_t kSize = 200;
  Config config = config_of(12, 0.4);
  config.policy = "ucb";
  config.set("ucb_weight", 0.7).set("ucb_c", 3.0);
  Session session(kSize, config, 1);
  std::vector<double> mean(kSize, 0.0);
  std::vector<double> variance(kSize, 0.0);
  std::vector<int> seen(kSize, 0);
  for (int epoch = 0; epoch < 8; ++epoch) {
    const auto loss = [&](std::int64_t id) { return simulated_loss(id, epoch); };
    const PlanCopy plan = run_epoch(session, 64, loss);
    if (epoch > 0) {
      std::vector<std::int64_t> order;
      for (std::int64_t id = 0; id < kSize; ++id) order.push_back(id);
      std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
        return mean[std::size_t(a)] + 3.0 * variance[std::size_t(a)] <
               mean[std::size_t(b)] + 3.0 * variance[std::size_t(b)];
      });
      std::vector<std::int64_t> expected(order.begin() + 80, order.end());
      std::vector<std::int64_t> kept = plan.ids;
      std::sort(kept.begin(), kept.end());
      std::sort(expected.begin(), expected.end());
      REQUIRE(kept == expected);
    }
    for (const std::int64_t id : plan.ids) {
      const auto i = static_cast<std::size_t>(id);
      const double x = loss(id);
      if (seen[i]++ == 0) {
        mean[i] = x;
        continue;
      }
      // The columns are float32, so the oracle rounds where they do.
      variance[i] = static_cast<float>(0.3 * variance[i] + 0.7 * (x - mean[i]) * (x - mean[i]));
      mean[i] = static_cast<float>(0.3 * mean[i] + 0.7 * x);
    }
  }
  session.begin();
  const auto* const ema = static_cast<const float*>(session.column("ema").data);
  const auto* const var = static_cast<const float*>(session.column("var").data);
  for (std::size_t i = 0; i < kSize; ++i) {
    REQUIRE(ema[i] == Catch::Approx(mean[i]).epsilon(1e-6));
    REQUIRE(var[i] == Catch::Approx(variance[i]).epsilon(1e-4).margin(1e-9));
  }
}

TEST_CASE("ucb keeps a sample whose last loss was not finite", "[engine][policy]") {
  Config config = config_of(12, 0.9);
  config.policy = "ucb";
  Session session(100, config, 1);
  const Warnings quiet(session);
  const auto broken = [](std::int64_t id) {
    return id == 7 ? std::numeric_limits<float>::infinity() : static_cast<float>(id);
  };
  run_epoch(session, 100, broken);
  const PlanCopy plan = copy_of(session.plan());
  REQUIRE(plan.ids.size() == 100 - 89);  // of 99 with a score the lowest floor(0.9 * 99)
  REQUIRE(std::count(plan.ids.begin(), plan.ids.end(), 7) == 1);
  session.begin();
  REQUIRE(std::isnan(static_cast<const float*>(session.column("ema").data)[7]));
}

TEST_CASE("orderdp keeps the largest losses of a uniform pool", "[engine][policy]") {
  constexpr std::int64_t kSize = 1000;
  Config config = config_of(12);
  config.policy = "orderdp";
  config.set("orderdp_pool", 0.4).set("orderdp_keep", 0.5);
  Session session(kSize, config, 1);
  std::vector<double> score(kSize);
  for (int epoch = 0; epoch < 8; ++epoch) {
    const auto loss = [&](std::int64_t id) { return simulated_loss(id, epoch); };
    const PlanCopy plan = run_epoch(session, 128, loss);
    if (epoch > 0) {
      // The pool: 400 of the 1000, those with the smallest draws of the epoch.
      std::vector<std::int64_t> ids;
      for (std::int64_t id = 0; id < kSize; ++id) ids.push_back(id);
      const auto draw = [&](std::int64_t id) {
        return random_draw64(
            config.seed, static_cast<std::uint32_t>(epoch), kStreamPool, std::uint64_t(id));
      };
      std::sort(ids.begin(), ids.end(), [&](auto a, auto b) { return draw(a) < draw(b); });
      ids.resize(400);
      std::sort(ids.begin(), ids.end(), [&](auto a, auto b) {
        return score[std::size_t(a)] > score[std::size_t(b)];
      });
      ids.resize(200);
      std::sort(ids.begin(), ids.end());
      std::vector<std::int64_t> kept = plan.ids;
      std::sort(kept.begin(), kept.end());
      REQUIRE(kept == ids);
    }
    for (const std::int64_t id : plan.ids) score[std::size_t(id)] = loss(id);
  }
}

TEST_CASE("infobatch_quantile keeps the exact share of every quantile class, ties included",
          "[engine][policy]") {
  Config config = config_of(10);
  config.policy = "infobatch_quantile";
  config.keep = "exact";
  const bool ties = GENERATE(false, true);
  Session session(1000, config, 1);
  set_scores(session, [&] {
    std::vector<float> scores;
    for (std::int64_t id = 0; id < 1000; ++id)
      scores.push_back(ties ? 1.0f : simulated_loss(id, 0));
    return scores;
  }());
  // 200 at 0.25, 650 at 0.5, 150 at 1: 50 + 325 + 150, that is 47.5 % left out.
  REQUIRE(session.length() == 525);
  int of_weight_4 = 0;
  int of_weight_2 = 0;
  for (const std::uint32_t bits : copy_of(session.plan()).weights) {
    of_weight_4 += bits_float(bits) == 4.0f ? 1 : 0;
    of_weight_2 += bits_float(bits) == 2.0f ? 1 : 0;
  }
  REQUIRE(of_weight_4 == 50);
  REQUIRE(of_weight_2 == 325);
  REQUIRE(session.statistics().candidates == 850);
}

TEST_CASE("random without rescale or annealing is a fresh uniform subset each epoch",
          "[engine][policy]") {
  Config config = config_of(10, 0.3);
  config.policy = "random";
  config.keep = "exact";
  config.rescale = false;
  config.delta = 1.0;
  Session session(1000, config, 1);
  PlanCopy last;
  for (int epoch = 0; epoch < 10; ++epoch) {
    const PlanCopy plan = run_epoch(session, 100);
    REQUIRE(plan.ids.size() == (epoch == 0 ? 1000u : 700u));
    REQUIRE(plan != last);
    last = plan;
  }
}
