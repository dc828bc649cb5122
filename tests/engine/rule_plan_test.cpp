#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

// Rules 9 and 12: plans are frozen, and nothing is global.

using namespace infobatch;
using namespace infobatch::testing;

TEST_CASE("rule 9: asking twice for the same epoch gives the same plan", "[engine][plan]") {
  Session session(1000, config_of(10), 1);
  run_epoch(session, 100);
  session.set_epoch(1);
  const std::shared_ptr<const Plan> plan = session.plan();
  REQUIRE(session.plan() == plan);
  REQUIRE(session.length() == plan->size());
  REQUIRE(plan->epoch() == 1);
  REQUIRE(plan->data_size() == 1000);
  session.begin();
  REQUIRE(session.plan() == plan);
  session.begin();  // nothing was observed: the same plan once more
  REQUIRE(session.plan() == plan);
  session.next(100);
  REQUIRE(session.plan() == plan);
}

TEST_CASE("rule 9: the plan stays frozen while losses move the scores", "[engine][plan]") {
  Session session(1000, config_of(10), 1);
  run_epoch(session, 100);
  session.begin();
  const std::shared_ptr<const Plan> plan = session.plan();
  const PlanCopy before = copy_of(plan);
  PlanCopy delivered = run_batches(
      session, 100, [](std::int64_t id) { return float(id % 7); }, 3);
  REQUIRE(session.plan() == plan);
  const PlanCopy rest = run_batches(session, 100, [](std::int64_t id) { return float(id % 7); });
  delivered.ids.insert(delivered.ids.end(), rest.ids.begin(), rest.ids.end());
  delivered.weights.insert(delivered.weights.end(), rest.weights.begin(), rest.weights.end());
  REQUIRE(delivered == before);
  REQUIRE(copy_of(plan) == before);
}

TEST_CASE("rule 9: old plans and slices stay valid and unchanged while the run goes on",
          "[engine][plan]") {
  std::vector<std::shared_ptr<const Plan>> plans;
  std::vector<PlanCopy> copies;
  Slice slice;
  PlanCopy slice_copy;
  {
    Session session(3000, config_of(10), 1);
    for (int epoch = 0; epoch < 6; ++epoch) {
      session.begin();
      if (epoch != 3) {  // of one epoch only a slice is held
        plans.push_back(session.plan());
        copies.push_back(copy_of(plans.back()));
      }
      const Slice first = session.next(100);
      session.observe(losses_of(first, [](std::int64_t id) { return float(id); }).data(), 100);
      if (epoch == 3) {
        slice = first;
        append(slice_copy, slice);
      }
      run_batches(session, 100, [&](std::int64_t id) { return simulated_loss(id, epoch); });
      session.length();  // begins and takes back the next epoch
      session.serialize();
    }
  }  // the plans outlive the session
  for (std::size_t i = 0; i < plans.size(); ++i) REQUIRE(copy_of(plans[i]) == copies[i]);
  PlanCopy again;
  append(again, slice);
  REQUIRE(again == slice_copy);
}

TEST_CASE("rule 9: length, statistics and state advance nothing", "[engine][plan]") {
  Session session(500, config_of(10), 1);
  Session undisturbed(500, config_of(10), 1);
  for (int epoch = 0; epoch < 5; ++epoch) {
    session.begin();
    undisturbed.begin();
    REQUIRE(copy_of(session.plan()) == copy_of(undisturbed.plan()));
    for (Slice s = session.next(64); s.count > 0; s = session.next(64)) {
      const Slice same = undisturbed.next(64);
      REQUIRE(same.count == s.count);
      const auto losses = losses_of(s, [&](std::int64_t id) { return simulated_loss(id, epoch); });
      session.length();
      session.observe(losses.data(), s.count);
      undisturbed.observe(losses.data(), s.count);
      session.length();
      session.statistics();
      session.progress();
      session.epoch();
      REQUIRE(session.serialize() == undisturbed.serialize());
    }
  }
}

TEST_CASE("rule 12: two sessions side by side equal two alone", "[engine][global]") {
  const auto alone = [](std::uint64_t seed) {
    Config config = config_of(10);
    config.seed = seed;
    Session session(400, config, 1);
    std::vector<PlanCopy> plans;
    for (int epoch = 0; epoch < 5; ++epoch) plans.push_back(run_epoch(session, 32));
    return plans;
  };
  Config config = config_of(10);
  config.seed = 1;
  Session a(400, config, 1);
  config.seed = 2;
  Session b(400, config, 1);
  std::vector<PlanCopy> plans_a;
  std::vector<PlanCopy> plans_b;
  for (int epoch = 0; epoch < 5; ++epoch) {
    a.begin();
    b.begin();
    const auto loss = [&](std::int64_t id) { return simulated_loss(id, epoch); };
    PlanCopy all_a;
    PlanCopy all_b;
    while (true) {
      const PlanCopy part_a = run_batches(a, 32, loss, 1);
      const PlanCopy part_b = run_batches(b, 32, loss, 1);
      if (part_a.ids.empty() && part_b.ids.empty()) break;
      all_a.ids.insert(all_a.ids.end(), part_a.ids.begin(), part_a.ids.end());
      all_a.weights.insert(all_a.weights.end(), part_a.weights.begin(), part_a.weights.end());
      all_b.ids.insert(all_b.ids.end(), part_b.ids.begin(), part_b.ids.end());
      all_b.weights.insert(all_b.weights.end(), part_b.weights.begin(), part_b.weights.end());
    }
    plans_a.push_back(all_a);
    plans_b.push_back(all_b);
  }
  REQUIRE(plans_a == alone(1));
  REQUIRE(plans_b == alone(2));
  REQUIRE(plans_a != plans_b);
}

TEST_CASE("rule 12: the C library's generator is neither read nor moved", "[engine][global]") {
  const auto draws = [](bool with_session, unsigned seed) {
    std::srand(seed);
    std::vector<int> values;
    PlanCopy plan;
    for (int i = 0; i < 3; ++i) {
      values.push_back(std::rand());
      if (!with_session) continue;
      Session session(300, config_of(10), 1);
      run_epoch(session, 50);
      plan = run_epoch(session, 50);
    }
    return std::make_pair(values, plan);
  };
  REQUIRE(draws(true, 7).first == draws(false, 7).first);
  REQUIRE(draws(true, 7).second == draws(true, 8).second);
}

TEST_CASE("rule 12: the default seed is a constant", "[engine][global]") {
  REQUIRE(Config().seed == 0x1f0ba7c4u);
  Session a(300, config_of(10), 1);
  Session b(300, config_of(10), 1);
  for (int epoch = 0; epoch < 3; ++epoch) REQUIRE(run_epoch(a, 50) == run_epoch(b, 50));
}
