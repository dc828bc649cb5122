#include <infobatch/config.hpp>
#include <infobatch/detail/keep.hpp>
#include <infobatch/detail/philox.hpp>
#include <infobatch/detail/whole_batches.hpp>
#include <infobatch/error.hpp>
#include <tests/kernels/plan_fixture.hpp>
#include <tests/support/catch2_shim.hpp>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

// Rule 16: a pruned epoch's plan is a multiple of B, by keeping up to B - 1 candidates more, else
// by keeping fewer, else with one short batch at the end.

namespace infobatch {

using detail::KeptOfClass;
using testing::is_candidate;
using testing::plan;
using testing::two_class_rule;

namespace {

using Counts = std::vector<std::int64_t>;

Counts kept_of(const std::vector<KeptOfClass>& classes) {
  Counts kept;
  for (const KeptOfClass& c : classes) kept.push_back(c.kept);
  return kept;
}

std::int64_t sum(const Counts& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

/// A class that is kept whole or not at all.
KeptOfClass fixed(std::int64_t members, std::int64_t kept) { return {members, kept, false}; }
/// A class of which a part is drawn.
KeptOfClass drawn(std::int64_t members, std::int64_t kept) { return {members, kept, true}; }

struct Case {
  std::string what;
  std::int64_t multiple;
  std::vector<KeptOfClass> classes;
  Counts expected;
};

std::vector<Case> table() {
  constexpr std::int64_t k38 = std::int64_t{1} << 38;
  constexpr std::int64_t k39 = std::int64_t{1} << 39;
  constexpr std::int64_t k40 = std::int64_t{1} << 40;
  return {
      {"640 are whole already", 64, {fixed(400, 400), drawn(600, 240)}, {400, 240}},
      {"any number is a multiple of 1", 1, {fixed(400, 400), drawn(600, 301)}, {400, 301}},
      {"700 become 704", 64, {fixed(400, 400), drawn(600, 300)}, {400, 304}},
      {"641 become 704, 63 more", 64, {fixed(400, 400), drawn(600, 241)}, {400, 304}},
      {"703 become 704, 1 more", 64, {fixed(400, 400), drawn(600, 303)}, {400, 304}},
      {"the first class takes what it can, the second the rest",
       32,
       {fixed(100, 100), drawn(10, 8), drawn(50, 25)},
       {100, 10, 50}},
      {"one left out too few for 160: 128, the first class gives 5",
       32,
       {fixed(100, 100), drawn(10, 8), drawn(49, 25)},
       {100, 3, 25}},
      {"131 become 128: the first class gives all but one, the second the rest",
       64,
       {fixed(100, 100), drawn(4, 3), drawn(30, 28)},
       {100, 1, 27}},
      {"a class of two gives one", 64, {fixed(63, 63), drawn(2, 2)}, {63, 1}},
      {"a class never gives its last sample", 64, {fixed(64, 64), drawn(1, 1)}, {64, 1}},
      {"104: 128 would need 24 more, 64 would need 40 fewer",
       64,
       {fixed(100, 100), drawn(3, 2), drawn(2, 2)},
       {100, 2, 2}},
      {"a batch larger than all samples stays short", 64, {fixed(5, 5), drawn(6, 3)}, {5, 3}},
      {"a batch of all samples keeps them all", 11, {fixed(5, 5), drawn(6, 3)}, {5, 6}},
      {"classes without members stay empty, keeping more",
       8,
       {fixed(10, 10), drawn(0, 0), drawn(20, 10)},
       {10, 0, 14}},
      {"classes without members stay empty, keeping fewer",
       8,
       {fixed(10, 10), drawn(0, 0), drawn(10, 9)},
       {10, 0, 6}},
      {"a class that is never kept stays out",
       4,
       {fixed(10, 10), fixed(50, 0), drawn(3, 1)},
       {10, 0, 2}},
      {"a class that is never kept stays out, though it would fill the batch",
       16,
       {fixed(10, 10), fixed(50, 0), drawn(3, 1)},
       {10, 0, 1}},
      {"nothing is drawn, nothing can be made whole", 4, {fixed(10, 10)}, {10}},
      {"no samples are a multiple", 4, {fixed(0, 0), drawn(0, 0)}, {0, 0}},
      {"no classes", 4, {}, {}},
      {"one kept of a thousand becomes a batch", 100, {drawn(1000, 1)}, {100}},
      {"11 become 20: drawn classes before and behind a kept one",
       20,
       {drawn(4, 2), fixed(5, 5), drawn(12, 4)},
       {4, 5, 11}},
      {"2^40 samples, all of them one batch", k40, {fixed(k39, k39), drawn(k39, k38)}, {k39, k39}},
      {"2^40 samples, all but one a batch",
       k40 - 1,
       {fixed(k39, k39), drawn(k39, k38)},
       {k39, k39 - 1}},
      {"2^40 samples, of which two too few are left out: down to one candidate",
       k39 + 1,
       {fixed(k39, k39), drawn(k39, k38)},
       {k39, 1}},
  };
}

/// A number in [0, below), a pure function of two integers.
std::int64_t draw(std::uint64_t a, std::uint64_t b, std::int64_t below) {
  return static_cast<std::int64_t>(random_draw64(a, 0, 0, b) % static_cast<std::uint64_t>(below));
}

/// Up to 16 classes of which some are drawn, some empty, some kept whole, some not at all.
std::vector<KeptOfClass> random_classes(std::uint64_t trial) {
  std::vector<KeptOfClass> classes;
  const std::int64_t largest = std::int64_t{1} << draw(trial, 1, 12);
  const std::int64_t n_classes = 1 + draw(trial, 2, 16);
  for (std::int64_t c = 0; c < n_classes; ++c) {
    const auto b = static_cast<std::uint64_t>(10 * c);
    const std::int64_t members = draw(trial, b + 3, largest + 1);
    switch (draw(trial, b + 4, 4)) {
      case 0:
        classes.push_back(fixed(members, members));
        break;
      case 1:
        classes.push_back(fixed(members, 0));
        break;
      default:
        classes.push_back(drawn(members, members > 0 ? 1 + draw(trial, b + 5, members) : 0));
    }
  }
  return classes;
}

}  // namespace

TEST_CASE("rule 16: kept counts become a multiple: more, else fewer, else one short batch",
          "[kernels][whole_batches]") {
  for (const Case& c : table()) {
    CAPTURE(c.what, c.multiple);
    std::vector<KeptOfClass> classes = c.classes;
    detail::round_to_batches(classes, c.multiple);
    REQUIRE(kept_of(classes) == c.expected);
  }
}

TEST_CASE("rule 16: only what is drawn moves, as little as possible, in the order of the classes",
          "[kernels][whole_batches]") {
  int more = 0;
  int fewer = 0;
  int left_short = 0;
  for (std::uint64_t trial = 0; trial < 50000; ++trial) {
    const std::vector<KeptOfClass> before = random_classes(trial);
    const std::int64_t multiple = 1 + draw(trial, 999, std::int64_t{2} << draw(trial, 998, 13));
    std::vector<KeptOfClass> after = before;
    detail::round_to_batches(after, multiple);

    std::int64_t most = 0;   // that may be kept
    std::int64_t least = 0;  // that has to be kept
    for (const KeptOfClass& c : before) {
      most += c.adjustable ? c.members : c.kept;
      least += c.adjustable ? std::min<std::int64_t>(1, c.members) : c.kept;
    }
    const std::int64_t total = sum(kept_of(before));
    const std::int64_t above = (total + multiple - 1) / multiple * multiple;
    const std::int64_t below = total / multiple * multiple;
    const std::int64_t expected = above <= most ? above : below >= least ? below : total;
    CAPTURE(trial, multiple, kept_of(before), kept_of(after), most, least);
    REQUIRE(sum(kept_of(after)) == expected);
    more += expected > total ? 1 : 0;
    fewer += expected < total ? 1 : 0;
    left_short += expected % multiple != 0 ? 1 : 0;

    bool sound = true;
    bool done = false;  // a class was left with room: those behind it have to stay as they were
    for (std::size_t c = 0; c < before.size(); ++c) {
      const std::int64_t change = after[c].kept - before[c].kept;
      sound = sound && after[c].members == before[c].members;
      sound = sound && after[c].adjustable == before[c].adjustable;
      if (!before[c].adjustable || before[c].members == 0 || done) sound = sound && change == 0;
      if (!before[c].adjustable || before[c].members == 0) continue;
      sound = sound && after[c].kept >= 1 && after[c].kept <= after[c].members;
      sound = sound && (expected >= total ? change >= 0 : change <= 0);
      done = done || after[c].kept != (expected >= total ? after[c].members : 1);
    }
    REQUIRE(sound);
  }
  // Each of the three ways was gone.
  REQUIRE(more > 1000);
  REQUIRE(fewer > 1000);
  REQUIRE(left_short > 1000);
}

TEST_CASE("rule 16: a plan is rounded to whole batches in the exact keep mode, by smallest draws",
          "[kernels][whole_batches]") {
  constexpr std::int64_t kN = 3000;  // 1250 candidates
  EpochRule rule = two_class_rule(0.3, KeepMode::kExact);
  const testing::PlanVectors loose = plan(kN, 3, 4, rule);
  REQUIRE(loose.counts[1].members == 1250);
  REQUIRE(loose.ids.size() == 1750 + 375);
  const auto candidates = [](const testing::PlanVectors& p) {
    Counts ids;
    std::copy_if(p.ids.begin(), p.ids.end(), std::back_inserter(ids), is_candidate);
    std::sort(ids.begin(), ids.end());
    return ids;
  };
  struct Expected {
    std::int64_t multiple;
    std::int64_t kept;  // of the candidates
  };
  // 2125 become 2125, 2176, 2200, 3000, 1751 (3502 are too many), and stay 2125.
  for (const Expected e : {Expected{1, 375},
                           Expected{64, 426},
                           Expected{100, 450},
                           Expected{3000, 1250},
                           Expected{1751, 1},
                           Expected{3001, 375}}) {
    CAPTURE(e.multiple);
    rule.multiple = e.multiple;
    const testing::PlanVectors whole = plan(kN, 3, 4, rule);
    REQUIRE(whole.counts[1].kept == e.kept);
    REQUIRE(std::int64_t(whole.ids.size()) == 1750 + e.kept);
    REQUIRE(whole.counts[0].weight == 1.0f);
    REQUIRE(whole.counts[1].weight ==
            detail::rounded_quotient(1250, static_cast<std::uint64_t>(e.kept)));
    // Kept are those with the smallest draws, so that one plan's contain the other's.
    const Counts a = candidates(loose);
    const Counts b = candidates(whole);
    const bool grew = b.size() >= a.size();
    REQUIRE(std::includes(grew ? b.begin() : a.begin(),
                          grew ? b.end() : a.end(),
                          grew ? a.begin() : b.begin(),
                          grew ? a.end() : b.end()));
    for (const int threads : {2, 3, 4}) REQUIRE(plan(kN, 3, 4, rule, threads) == whole);
  }
  rule.multiple = 3000;
  REQUIRE(plan(kN, 3, 4, rule).weights == std::vector<float>(kN, 1.0f));
}

TEST_CASE("rule 16: without exact counts there is nothing to round", "[kernels][whole_batches]") {
  EpochRule rule = two_class_rule(0.3, KeepMode::kBernoulli);
  const testing::PlanVectors loose = plan(3000, 3, 4, rule);
  rule.multiple = 64;
  REQUIRE(loose.ids.size() % 64 != 0);
  REQUIRE(plan(3000, 3, 4, rule) == loose);
}

TEST_CASE("rule 13: a plan refuses a multiple that is none", "[kernels][whole_batches]") {
  Team team(1);
  EpochRule rule = two_class_rule(0.5, KeepMode::kExact);
  for (const std::int64_t multiple : {std::int64_t{0},
                                      std::int64_t{-1},
                                      kMaxSize + 1,
                                      std::numeric_limits<std::int64_t>::max()}) {
    rule.multiple = multiple;
    REQUIRE_THROWS_WITH(
        testing::build_plan(10, 1, 1, rule, team),
        Catch::Matchers::ContainsSubstring("plan: the multiple must lie in [1, 2147483648], got " +
                                           std::to_string(multiple)));
  }
  rule.multiple = kMaxSize;
  REQUIRE(testing::build_plan(10, 1, 1, rule, team).size == 7);  // 5 candidates, 2 of them kept
}

}  // namespace infobatch
