#include <infobatch/detail/annealing.hpp>
#include <infobatch/detail/budget.hpp>
#include <infobatch/detail/exact_mean.hpp>
#include <infobatch/detail/planner.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// Rule 16 as a session shows it: with whole_batches = B the plan of a pruned epoch is a multiple of
// B, by keeping up to B - 1 candidates more, else by keeping fewer, else with one short batch,
// which the statistics report. The list of policies is that of the registry.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

/// The policies that have candidates.
std::vector<std::string> pruning_policies() {
  std::vector<std::string> names;
  for (const std::string& name : policy_names()) {
    if (find_policy(name)->card.draws) names.push_back(name);
  }
  return names;
}

Config whole(const std::string& policy, std::int64_t batch, std::int64_t epochs = 6) {
  Config config = config_of(epochs, 0.4);
  config.policy = policy;
  config.keep = "exact";
  config.whole_batches = batch;
  return config;
}

/// One class of an epoch, counted by hand.
struct Group {
  double keep_ratio = 1.0;
  std::int64_t members = 0;
  std::int64_t kept = 0;
  bool drawn() const { return keep_ratio > 0.0 && keep_ratio < 1.0; }
};

/// What the scores say about the epoch whose plan comes next: each sample's class, and the classes.
struct Expected {
  std::vector<std::uint8_t> group_of;
  std::vector<Group> groups;
};

std::int64_t kept_in_all(const std::vector<Group>& groups) {
  std::int64_t total = 0;
  for (const Group& g : groups) total += g.kept;
  return total;
}

/// Adds `step` (1 or -1) to the kept of the first class that allows it; whether one did.
bool move_one(std::vector<Group>& groups, std::int64_t step) {
  for (Group& g : groups) {
    if (!g.drawn() || g.members == 0 || g.kept == (step > 0 ? g.members : 1)) continue;
    g.kept += step;
    return true;
  }
  return false;
}

/// Rule 16 sample by sample: one more at a time until the number is a multiple; where that cannot
/// be reached, one fewer at a time; else as it was.
std::vector<Group> rounded(const std::vector<Group>& groups, std::int64_t batch) {
  for (const std::int64_t step : {1, -1}) {
    std::vector<Group> moved = groups;
    while (kept_in_all(moved) % batch != 0 && move_one(moved, step)) continue;
    if (kept_in_all(moved) % batch == 0) return moved;
  }
  return groups;
}

Expected expected_of(const Session& session, std::int64_t epoch, double scale) {
  const Config& config = session.config();
  const std::int64_t size = session.size();
  ScoreSum sum;
  for (std::int64_t i = 0; i < size; ++i) {
    if (is_finite(session.scores()[i])) sum.add(session.scores()[i]);
  }
  const detail::Workers workers(size, 1);
  const PolicyInput input{
      config, epoch, size, session.scores(), nullptr, sum, sum.threshold(), workers};
  const EpochRule rule = find_policy(config.policy)->select(input, scale);
  Expected expected;
  expected.group_of.assign(std::size_t(size), 0);
  classify(rule.classifier, 0, size, expected.group_of.data());
  for (const KeepClass& c : rule.classes) expected.groups.push_back({c.keep_ratio, 0, 0});
  for (const std::uint8_t g : expected.group_of) ++expected.groups[g].members;
  for (Group& g : expected.groups) {
    const std::int64_t share = std::llround(g.keep_ratio * 1e9) * g.members / 1000000000;
    g.kept = g.keep_ratio > 0.0 ? std::max(share, std::min<std::int64_t>(1, g.members)) : 0;
  }
  expected.groups = rounded(expected.groups, std::max<std::int64_t>(1, config.whole_batches));
  return expected;
}

/// The plan has the kept samples of each class, at the weight members / kept rounded once.
void require_as_expected(const PlanCopy& plan, const Expected& expected, bool rescale) {
  std::vector<std::int64_t> kept(expected.groups.size(), 0);
  bool weights = true;
  for (std::size_t p = 0; p < plan.ids.size(); ++p) {
    const std::size_t g = expected.group_of[std::size_t(plan.ids[p])];
    ++kept[g];
    const Group& group = expected.groups[g];
    const long double inverse =
        static_cast<long double>(group.members) / static_cast<long double>(group.kept);
    const float weight = group.drawn() && rescale ? static_cast<float>(inverse) : 1.0f;
    weights = weights && bits_float(plan.weights[p]) == weight;
    // Kept times weight is the class again, up to the one rounding of the weight.
    if (!rescale) continue;
    const double half_place = static_cast<double>(std::nextafter(weight, 1e30f) - weight) / 2.0;
    const double n = static_cast<double>(group.kept) * static_cast<double>(weight);
    weights = weights && std::abs(n - static_cast<double>(group.members)) <=
                             static_cast<double>(group.kept) * half_place;
  }
  for (std::size_t g = 0; g < kept.size(); ++g) REQUIRE(kept[g] == expected.groups[g].kept);
  REQUIRE(weights);
}

}  // namespace

TEST_CASE("rule 16: every pruned epoch is a multiple of B, or its short batch is reported",
          "[engine][whole_batches]") {
  const std::string policy = GENERATE(from_range(pruning_policies()));
  const std::int64_t size = GENERATE(0, 1, 2, 3, 63, 64, 65, 127, 500, 1000, 4097);
  const bool rescale = GENERATE(false, true);
  for (const std::int64_t batch : {1, 2, 7, 32, 64, 100, 500, 999, 1000, 4096, 5000}) {
    CAPTURE(policy, size, rescale, batch);
    Config config = whole(policy, batch);
    config.rescale = rescale;
    Session session(size, config, 1);
    for (int epoch = 0; epoch < 6; ++epoch) {
      CAPTURE(epoch);
      session.set_epoch(epoch);
      session.begin();
      const PlanCopy plan = copy_of(session.plan());
      const Statistics figures = session.statistics();
      const auto kept = static_cast<std::int64_t>(plan.ids.size());
      REQUIRE(figures.short_batch == kept % batch);
      if (figures.prunes) {
        const Expected expected = expected_of(session, epoch, figures.prune_ratio);
        require_as_expected(plan, expected, rescale);
      } else {
        REQUIRE(kept == size);  // full epochs may be no multiple
      }
      run_batches(session, 37, [=](std::int64_t id) { return simulated_loss(id, epoch); });
    }
  }
}

TEST_CASE("rule 16: 1000 samples in batches of 64, by hand", "[engine][whole_batches]") {
  // 600 candidates score 1, the others 5: the mean lies between.
  const auto plan_with = [](std::int64_t batch, double r, std::int64_t* short_batch) {
    Session session(
        1000,
        [&] {
          Config config = whole("infobatch", batch);
          config.prune_ratio = r;
          return config;
        }(),
        1);
    std::vector<float> scores(1000, 5.0f);
    std::fill_n(scores.begin(), 600, 1.0f);
    set_scores(session, scores);
    session.set_epoch(1);
    const std::int64_t kept = session.length();
    *short_batch = session.statistics().short_batch;
    REQUIRE(session.statistics().kept == kept);
    REQUIRE(session.statistics().pruned == 1000 - kept);
    REQUIRE(session.statistics().candidates == (r > 0.0 ? 600 : 0));
    return kept;
  };
  std::int64_t rest = -1;
  REQUIRE(plan_with(0, 0.5, &rest) == 700);  // not asked for
  REQUIRE(rest == 0);
  REQUIRE(plan_with(64, 0.5, &rest) == 704);  // 4 candidates more
  REQUIRE(rest == 0);
  REQUIRE(plan_with(300, 0.5, &rest) == 900);
  REQUIRE(rest == 0);
  REQUIRE(plan_with(64, 0.02, &rest) == 960);  // 988, and 1024 are too many
  REQUIRE(rest == 0);
  REQUIRE(plan_with(1000, 0.5, &rest) == 1000);
  REQUIRE(rest == 0);
  REQUIRE(plan_with(600, 0.5, &rest) == 600);  // 1200 are too many
  REQUIRE(rest == 0);
  REQUIRE(plan_with(1024, 0.5, &rest) == 700);
  REQUIRE(rest == 700);
  REQUIRE(plan_with(390, 0.9, &rest) == 780);  // 460
  REQUIRE(rest == 0);
  REQUIRE(plan_with(64, 0.0, &rest) == 1000);  // nobody is left out, so nobody can be
  REQUIRE(rest == 40);
}

TEST_CASE("rule 16: full epochs report the batch that is short", "[engine][whole_batches]") {
  Session session(1000, whole("infobatch", 64), 1);
  REQUIRE(session.statistics().short_batch == 0);  // not planned yet
  for (int epoch = 0; epoch < 6; ++epoch) {
    run_epoch(session, 64);
    const bool full = !session.statistics().prunes;
    REQUIRE(full == (epoch == 0 || epoch == 5));
    REQUIRE(session.statistics().short_batch == (full ? 1000 % 64 : 0));
  }
  Session fitting(1024, whole("infobatch", 64), 1);
  run_epoch(fitting, 64);
  REQUIRE(fitting.statistics().short_batch == 0);
  Session unasked(1000, whole("infobatch", 0), 1);
  run_epoch(unasked, 64);
  REQUIRE(unasked.statistics().short_batch == 0);
}

TEST_CASE("rule 16: batches of one change nothing", "[engine][whole_batches]") {
  const std::string policy = GENERATE(from_range(pruning_policies()));
  Session none(1001, whole(policy, 0), 1);
  Session one(1001, whole(policy, 1), 1);
  for (int epoch = 0; epoch < 6; ++epoch) REQUIRE(run_epoch(one, 100) == run_epoch(none, 100));
}

TEST_CASE("rule 16: a batch is never short in a pruned epoch, and no sample comes twice",
          "[engine][whole_batches]") {
  const std::string policy = GENERATE(from_range(pruning_policies()));
  Session session(1000, whole(policy, 64, 10), 1);
  for (int epoch = 0; epoch < 10; ++epoch) {
    session.begin();
    std::vector<std::int64_t> ids;
    for (Slice s = session.next(64); s.count > 0; s = session.next(64)) {
      if (session.statistics().prunes) REQUIRE(s.count == 64);
      ids.insert(ids.end(), s.ids(), s.ids() + s.count);
      session.observe(
          losses_of(s, [&](std::int64_t id) { return simulated_loss(id, epoch); }).data(), s.count);
    }
    std::sort(ids.begin(), ids.end());
    REQUIRE(std::adjacent_find(ids.begin(), ids.end()) == ids.end());
  }
}

// H0: a sample of a class of n, of which k are kept, is in a plan with probability k / n,
// independently from epoch to epoch, so that its weights n / k sum to one a plan in expectation,
// with variance n / k - 1. alpha = 1e-6 two-sided, Bonferroni over 3 policies or so, 4 batches and
// 300 samples => |z| < 6.32.
TEST_CASE("rule 16: with the extra samples weights are the inverse keep probability still",
          "[engine][whole_batches][statistical]") {
  const std::string policy = GENERATE(from_range(pruning_policies()));
  // By which infobatch and random keep a few more, many more, all, and fewer.
  const std::int64_t batch = GENERATE(32, 140, 300, 170);
  CAPTURE(policy, batch);
  constexpr int kPlans = 1500;
  constexpr std::int64_t kSize = 300;
  Session session(kSize, whole(policy, batch, 2 * kPlans), 1);
  run_epoch(session, kSize);
  std::vector<double> sum(kSize, 0.0);
  std::vector<double> weight(kSize, 1.0);
  for (int epoch = 1; epoch <= kPlans; ++epoch) {
    session.set_epoch(epoch);
    const std::shared_ptr<const Plan> plan = session.plan();
    REQUIRE(plan->size() % batch == 0);
    for (std::int64_t p = 0; p < plan->size(); ++p) {
      const auto id = std::size_t(plan->ids()[p]);
      weight[id] = static_cast<double>(plan->weights()[p]);
      sum[id] += weight[id];
    }
  }
  for (std::size_t id = 0; id < std::size_t(kSize); ++id) {
    if (weight[id] == 1.0) {
      REQUIRE(sum[id] == kPlans);  // always kept
    } else {
      REQUIRE(std::abs(sum[id] - kPlans) / std::sqrt((weight[id] - 1.0) * kPlans) < 6.32);
    }
  }
}

// H0: whatever the seed, a candidate is kept with probability k / n. alpha = 1e-6 two-sided,
// Bonferroni over 100 samples => |z| < 5.74.
TEST_CASE("rule 16: over seeds the extra samples are any of the candidates",
          "[engine][whole_batches][statistical]") {
  constexpr int kSeeds = 2000;
  constexpr std::int64_t kSize = 100;
  std::vector<double> sum(kSize, 0.0);
  for (int seed = 0; seed < kSeeds; ++seed) {
    Config config = whole("random", 32);  // 60 become 64
    config.seed = static_cast<std::uint64_t>(seed) << 20;
    Session session(kSize, config, 1);
    session.set_epoch(1);
    const std::shared_ptr<const Plan> plan = session.plan();
    REQUIRE(plan->size() == 64);
    for (std::int64_t p = 0; p < 64; ++p) sum[std::size_t(plan->ids()[p])] += 100.0 / 64.0;
  }
  for (const double s : sum) {
    REQUIRE(std::abs(s - kSeeds) / std::sqrt((100.0 / 64.0 - 1.0) * kSeeds) < 5.74);
  }
}

TEST_CASE("rule 16: the number of threads changes nothing", "[engine][whole_batches][threads]") {
  // Large enough that four threads have work: see kSamplesPerThread.
  constexpr std::int64_t kSize = 4 * kSamplesPerThread + 77;
  const std::string policy = GENERATE(from_range(pruning_policies()));
  CAPTURE(policy);
  std::vector<std::uint64_t> first;
  for (const int threads : {1, 2, 3, 4}) {
    Session session(kSize, whole(policy, 4096, 10), threads);
    run_epoch(session, kSize);
    session.set_epoch(1);
    REQUIRE(session.length() % 4096 == 0);
    REQUIRE(session.length() < kSize);
    const std::vector<std::uint64_t> fingerprints = {detail::fingerprint(*session.plan())};
    if (first.empty()) first = fingerprints;
    REQUIRE(fingerprints == first);
  }
}

TEST_CASE("rule 16: a run resumed at any step goes on with the same plans",
          "[engine][whole_batches]") {
  const std::string policy = GENERATE(from_range(pruning_policies()));
  const bool with_target = GENERATE(false, true);
  const std::int64_t batch = GENERATE(16, 40, 70, 200);  // 200: never whole
  CAPTURE(policy, with_target, batch);
  constexpr int kEpochs = 6;
  Config config = whole(policy, batch, kEpochs);
  if (with_target) config.target_saved = 0.2;
  const auto session_of = [&](int threads) {
    auto session = std::make_unique<Session>(90, config, threads);
    session->set_warning_handler([](const std::string&) {});
    return session;
  };
  std::vector<PlanCopy> plans;  // of the run that never stops
  std::vector<std::string> states;
  std::vector<std::int64_t> short_batches;
  const auto never_stopped = session_of(1);
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    never_stopped->begin();
    plans.push_back(copy_of(never_stopped->plan()));
    for (Slice s = never_stopped->next(batch); s.count > 0; s = never_stopped->next(batch)) {
      const auto loss = [&](std::int64_t id) { return simulated_loss(id, epoch); };
      never_stopped->observe(losses_of(s, loss).data(), s.count);
      states.push_back(never_stopped->serialize());
      short_batches.push_back(never_stopped->statistics().short_batch);
    }
  }
  for (std::size_t stop = 0; stop < states.size(); ++stop) {
    CAPTURE(stop);
    const auto resumed = session_of(2);
    resumed->deserialize(states[stop]);
    REQUIRE(resumed->serialize() == states[stop]);
    REQUIRE(resumed->statistics().short_batch == short_batches[stop]);
    while (resumed->epoch() < kEpochs) {
      const auto epoch = std::size_t(resumed->epoch());
      REQUIRE(copy_of(resumed->plan()) == plans[epoch]);
      run_epoch(*resumed, 16);
    }
  }
}

TEST_CASE("rule 16: the state of a run with other batches is refused", "[engine][whole_batches]") {
  Session session(90, whole("infobatch", 16), 1);
  run_epoch(session, 16);
  Session other(90, whole("infobatch", 32), 1);
  REQUIRE_THROWS_WITH(other.deserialize(session.serialize()),
                      ContainsSubstring("whole_batches: 16 -> 32"));
}

TEST_CASE("rule 16: batches that cannot be whole are refused", "[engine][whole_batches]") {
  REQUIRE(whole("infobatch", 64).problems().empty());
  Config config = whole("infobatch", 64);
  config.keep = "bernoulli";
  REQUIRE_THROWS_WITH(
      Session(1000, config, 1),
      ContainsSubstring("whole_batches needs keep = exact, which counts the samples it keeps, got "
                        "keep = \"bernoulli\""));
  for (const std::string& name : policy_names()) {
    if (find_policy(name)->card.draws) continue;
    REQUIRE_THROWS_WITH(
        Session(1000, whole(name, 64), 1),
        ContainsSubstring("whole_batches needs a policy with candidates, got " + name));
  }
  REQUIRE_THROWS_WITH(whole("infobatch", -1).validate(),
                      ContainsSubstring("whole_batches must be in [0, 2147483648], got -1"));
  REQUIRE_THROWS_WITH(
      whole("infobatch", kMaxSize + 1).validate(),
      ContainsSubstring("whole_batches must be in [0, 2147483648], got 2147483649"));
  REQUIRE(whole("infobatch", kMaxSize).problems().empty());
}

TEST_CASE("rule 14: whole batches cost a budget the rounding of the last pruned epoch at most",
          "[engine][whole_batches][budget]") {
  constexpr std::int64_t kSize = 5000;
  const std::string policy = GENERATE(from_range(pruning_policies()));
  const double target = GENERATE(0.0, 0.001, 0.05, 0.3, 0.4);
  const std::int64_t batch = GENERATE(1, 32, 100, 256);
  CAPTURE(policy, target, batch);
  Config config = whole(policy, batch, 40);
  config.target_saved = target;
  Session session(kSize, config, 1);
  const Warnings warnings(session);
  std::int64_t saved = 0;
  for (int epoch = 0; epoch < 40; ++epoch) {
    saved += kSize - static_cast<std::int64_t>(run_epoch(session, 512).ids.size());
    REQUIRE(session.statistics().short_batch == session.statistics().kept % batch);
  }
  // The exact rule itself rounds by a sample a class.
  REQUIRE(std::abs(saved - promised_samples(config, kSize)) <= batch - 1 + 3);
  REQUIRE(warnings.all().empty());
}

TEST_CASE("rule 14: the rounding of rule 16 is no shortfall, anything beyond it is",
          "[engine][whole_batches][budget]") {
  const std::int64_t size = 2000;
  const auto short_by = [&](std::int64_t batch, std::int64_t missing, bool limited) {
    Config config = whole("infobatch", batch, 40);
    config.target_saved = 0.3;
    return falls_short(config, size, RunSoFar{promised_samples(config, size) - missing}, limited);
  };
  REQUIRE_FALSE(short_by(64, 64, false));  // 63, and the sample of the exact rule
  REQUIRE(short_by(64, 65, false));
  REQUIRE_FALSE(short_by(64, 63, true));
  REQUIRE(short_by(64, 64, true));
  for (const std::int64_t batch : {0, 1}) {
    REQUIRE_FALSE(short_by(batch, 1, false));
    REQUIRE(short_by(batch, 2, false));
    REQUIRE(short_by(batch, 1, true));
  }
  // A batch of all samples may keep all of them, a larger one is never filled.
  REQUIRE_FALSE(short_by(2000, 1999, true));
  REQUIRE(short_by(2000, 2000, true));
  REQUIRE(short_by(2001, 1, true));
}

TEST_CASE("rule 14: a session warns of a shortfall beyond the rounding alone",
          "[engine][whole_batches][budget]") {
  // One pruned epoch. Nine tenths of 1800 candidates are 1620 of the 2000 samples: 380 are kept,
  // and 758 in batches of 379, which is B - 1 more.
  const bool reachable = GENERATE(false, true);
  Config config = whole("infobatch", 379, 3);
  config.delta = 0.8;
  config.target_saved = (reachable ? 1620.1 : 1621.1) / 6000.0;
  Session session(2000, config, 1);
  const Warnings warnings(session);
  for (int epoch = 0; epoch < 3; ++epoch) {
    run_epoch(session, 500, [](std::int64_t id) { return id < 1800 ? 0.0f : 1.0f; });
    REQUIRE(session.statistics().kept == (epoch == 1 ? 758 : 2000));
  }
  REQUIRE(warnings.all().size() == (reachable ? 0u : 1u));
}
