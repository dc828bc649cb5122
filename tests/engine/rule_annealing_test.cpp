#include <infobatch/detail/annealing.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cstdint>
#include <string>
#include <vector>

// Rule 7: which epochs prune.

using namespace infobatch;
using namespace infobatch::testing;

namespace {

bool is_full(const PlanCopy& plan, std::int64_t size) {
  return plan.ids.size() == static_cast<std::size_t>(size) &&
         plan.weights == std::vector<std::uint32_t>(plan.ids.size(), float_bits(1.0f));
}

}  // namespace

TEST_CASE("rule 7: the pruned epochs of a run are counted in integers", "[engine][annealing]") {
  struct Row {
    double delta;
    std::int64_t epochs;
    std::int64_t pruned;
  };
  // 0.29 * 100, 0.57 * 100 and 0.95 * 20 are 28.999999999999996, 56.99999999999999
  // and 18.999999999999996 or 19 in doubles, as the compiler likes.
  const Row row = GENERATE(Row{.875, 200, 174},
                           Row{.875, 90, 77},
                           Row{.875, 100, 86},
                           Row{.875, 16, 13},
                           Row{.875, 10, 7},
                           Row{.29, 100, 28},
                           Row{.57, 100, 56},
                           Row{.95, 20, 18},
                           Row{1.0, 50, 49},
                           Row{.01, 50, 0},
                           Row{.875, 3, 1},
                           Row{.875, 2, 0},
                           Row{.875, 1, 0},
                           Row{1.0, 2, 0});
  CAPTURE(row.delta, row.epochs);
  Config config = config_of(row.epochs);
  config.delta = row.delta;
  REQUIRE(pruned_epochs(config) == row.pruned);

  // And a session does what the count says, epoch by epoch.
  Session session(64, config, 1);
  const Warnings quiet(session);
  std::int64_t pruned = 0;
  for (std::int64_t epoch = 0; epoch < row.epochs + 2; ++epoch) {
    const PlanCopy plan = run_epoch(session, 64);
    pruned += session.statistics().prunes ? 1 : 0;
    const bool prunes = epoch >= 1 && epoch <= row.pruned;
    REQUIRE(session.statistics().prunes == prunes);
    if (!prunes) REQUIRE(is_full(plan, 64));
  }
  REQUIRE(pruned == row.pruned);
}

TEST_CASE("rule 7: warmup epochs are full", "[engine][annealing]") {
  Config config = config_of(20);
  config.warmup = 4;
  Session session(200, config, 1);
  for (std::int64_t epoch = 0; epoch < 20; ++epoch) {
    REQUIRE(is_full(run_epoch(session, 50), 200) == (epoch < 4 || epoch >= 17));
  }
}

TEST_CASE("rule 7: a run of one or two epochs prunes nothing and says so once",
          "[engine][annealing]") {
  const std::int64_t epochs = GENERATE(1, 2);
  Session session(100, config_of(epochs), 1);
  const Warnings warnings(session);
  for (int i = 0; i < 4; ++i) REQUIRE(is_full(run_epoch(session, 10), 100));
  REQUIRE(warnings.all().size() == 1);
  REQUIRE(warnings.count("no epoch of this run leaves samples out") == 1);
  REQUIRE(warnings.count("2 epochs or fewer never prune") == 1);
}

TEST_CASE("rule 7: a run whose warmup reaches the annealing says so, a full one does not",
          "[engine][annealing]") {
  Config config = config_of(10);
  config.warmup = 8;
  Session session(10, config, 1);
  const Warnings warnings(session);
  session.plan();
  REQUIRE(warnings.count("warmup = 8, annealing from epoch 8") == 1);
  config.policy = "full";
  Session full(10, config, 1);
  const Warnings none(full);
  full.plan();
  REQUIRE(none.all().empty());
}

TEST_CASE("rule 7: epochs from E on are full, however far", "[engine][annealing]") {
  Config config = config_of(10);
  config.delta = 1.0;
  Session session(100, config, 1);
  run_epoch(session, 10);
  for (const std::int64_t epoch : {std::int64_t{10}, std::int64_t{11}, kMaxEpochs}) {
    session.set_epoch(epoch);
    REQUIRE(is_full(copy_of(session.plan()), 100));
  }
  session.set_epoch(9);
  REQUIRE_FALSE(is_full(copy_of(session.plan()), 100));
}
