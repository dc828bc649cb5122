#include <infobatch/detail/policy.hpp>
#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <vector>

// A data set that has grown or shrunk: scores follow their samples, new samples have none.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

Config ten_epochs(const std::string& policy = "infobatch") {
  Config config = config_of(10, 0.5);
  config.policy = policy;
  config.record = true;
  return config;
}

/// The state behind three epochs of `size` samples, all losses of the third still staged.
std::string saved(std::int64_t size, const Config& config) {
  Session session(size, config, 1);
  for (int epoch = 0; epoch < 3; ++epoch) run_epoch(session, 64);
  return session.serialize();
}

template <typename T>
std::vector<T> values_of(const Session& session, const std::string& name) {
  const ColumnView view = session.column(name);
  const T* const data = static_cast<const T*>(view.data);
  return {data, data + view.size};
}

/// Bits, so that NaN is equal to itself.
std::vector<std::uint32_t> bits_of(const Session& session, const std::string& name) {
  return values_of<std::uint32_t>(session, name);
}

}  // namespace

TEST_CASE("resize: scores, the policy's columns and the record follow their samples",
          "[engine][resize]") {
  const std::string policy = GENERATE(from_range(policy_names()));
  const std::int64_t size = GENERATE(0, 1, 700, 1000, 1300);
  CAPTURE(policy, size);
  const Config config = ten_epochs(policy);
  const std::string state = saved(1000, config);
  Session same(1000, config, 1);
  same.deserialize(state);
  same.set_epoch(3);  // its losses are in the scores now
  Session resized(size, config, 1);
  const LoadReport report = resized.deserialize(state, Resize{});
  if (size != 1000) REQUIRE(report.epoch == 3);
  resized.set_epoch(3);
  for (const std::string& name : same.column_names()) {
    const std::vector<std::uint32_t> before = bits_of(same, name);
    const std::vector<std::uint32_t> after = bits_of(resized, name);
    REQUIRE(after.size() == static_cast<std::size_t>(size));
    const std::size_t common = std::min(before.size(), after.size());
    REQUIRE(std::equal(before.begin(), before.begin() + std::ptrdiff_t(common), after.begin()));
    const std::uint32_t none = name == "times_kept"  ? 0u
                               : name == "last_kept" ? 0xffffffffu
                                                     : kNeverObservedBits;
    for (std::size_t i = common; i < after.size(); ++i) REQUIRE(after[i] == none);
  }
  // It trains on to its end.
  while (resized.epoch() < 10) run_epoch(resized, 64);
  REQUIRE(resized.statistics().prunes == false);
}

TEST_CASE("resize: what is new is kept with weight 1 until it was observed", "[engine][resize]") {
  const Config config = ten_epochs();
  Session session(1500, config, 1);
  session.deserialize(saved(1000, config), Resize{});
  const PlanCopy plan = run_epoch(session, 64);
  std::int64_t fresh = 0;
  for (std::size_t p = 0; p < plan.ids.size(); ++p) {
    if (plan.ids[p] < 1000) continue;
    fresh += 1;
    REQUIRE(plan.weights[p] == float_bits(1.0f));
  }
  REQUIRE(fresh == 500);
  REQUIRE(plan.ids.size() < 1500);  // and of the others some are left out
  const PlanCopy next = run_epoch(session, 64);
  REQUIRE(std::count_if(next.ids.begin(), next.ids.end(), [](auto id) { return id >= 1000; }) <
          500);
}

TEST_CASE("resize: ids of then are named where samples have moved", "[engine][resize]") {
  const Config config = ten_epochs();
  const std::string state = saved(1000, config);
  Session same(1000, config, 1);
  same.deserialize(state);
  same.set_epoch(3);
  // Every third sample is gone, two are new, and the order is the other way round.
  std::vector<std::int64_t> origin = {-1};
  for (std::int64_t id = 999; id >= 0; --id) {
    if (id % 3 != 0) origin.push_back(id);
  }
  origin.push_back(-1);
  Session session(static_cast<std::int64_t>(origin.size()), config, 1);
  session.deserialize(state, Resize{origin.data()});
  for (std::size_t i = 0; i < origin.size(); ++i) {
    const std::uint32_t expected =
        origin[i] < 0 ? kNeverObservedBits : float_bits(same.scores()[origin[i]]);
    REQUIRE(float_bits(session.scores()[i]) == expected);
  }
  // The same number of samples, and other ones.
  std::vector<std::int64_t> shifted;
  for (std::int64_t i = 0; i < 1000; ++i) shifted.push_back(i + 1 < 1000 ? i + 1 : -1);
  Session other(1000, config, 1);
  REQUIRE(other.deserialize(state, Resize{shifted.data()}).changes.empty());
  REQUIRE(float_bits(other.scores()[0]) == float_bits(same.scores()[1]));
  REQUIRE(float_bits(other.scores()[999]) == kNeverObservedBits);
}

TEST_CASE("resize: a set of the same size goes on as it was, also in the midst of an epoch",
          "[engine][resize]") {
  const Config config = ten_epochs();
  Session session(1000, config, 1);
  run_epoch(session, 64);
  session.begin();
  const auto loss = [](std::int64_t id) { return simulated_loss(id, 1); };
  run_batches(session, 64, loss, 3);
  Session resumed(1000, config, 1);
  REQUIRE(resumed.deserialize(session.serialize(), Resize{}).position == 192);
  resumed.begin();
  REQUIRE(run_batches(resumed, 64, loss) == run_batches(session, 64, loss));
}

TEST_CASE("resize: in the midst of an epoch it is refused, and nothing has changed",
          "[engine][resize]") {
  const Config config = ten_epochs();
  Session session(1000, config, 1);
  run_epoch(session, 64);
  session.begin();
  run_batches(
      session, 64, [](std::int64_t id) { return simulated_loss(id, 1); }, 3);
  Session other(1200, config, 1);
  run_epoch(other, 64);
  const std::string before = other.serialize();
  const std::string state = session.serialize();
  REQUIRE_THAT(
      message_of<InvalidArgument>([&] { other.deserialize(state, Resize{}); }),
      ContainsSubstring("between two epochs, got 192 of ") && ContainsSubstring("set_epoch(2)"));
  REQUIRE(other.serialize() == before);
  // The cure that it names.
  session.set_epoch(2);
  REQUIRE(other.deserialize(session.serialize(), Resize{}).epoch == 2);
  // An epoch that has begun and shown nothing is between two as well.
  session.begin();
  session.next(64);
  REQUIRE(other.deserialize(session.serialize(), Resize{}).epoch == 2);
}

TEST_CASE("resize: an origin that was no sample, and other runs, are refused", "[engine][resize]") {
  const Config config = ten_epochs();
  const std::string state = saved(10, config);
  Session session(3, config, 1);
  const std::string before = session.serialize();
  for (const std::int64_t wrong : {std::int64_t{10}, std::int64_t{-2}, INT64_MAX}) {
    const std::int64_t origin[] = {0, wrong, 1};
    REQUIRE_THAT(
        message_of<InvalidArgument>([&] { session.deserialize(state, Resize{origin}); }),
        ContainsSubstring("in [0, 10), or -1 for a new one, got") && ContainsSubstring("at 1"));
  }
  Config seeded = config;
  seeded.seed = 1;
  Session other(3, seeded, 1);
  REQUIRE_THAT(message_of<InvalidArgument>([&] { other.deserialize(state, Resize{}); }),
               ContainsSubstring("seed: "));
  // Without saying so, another size stays refused.
  REQUIRE_THAT(message_of<InvalidArgument>([&] { session.deserialize(state); }),
               ContainsSubstring("size: 10 -> 3"));
  REQUIRE_THROWS_AS(session.deserialize(std::string_view(state).substr(0, 99), Resize{}),
                    FileError);
  REQUIRE(session.serialize() == before);
}

TEST_CASE("resize: user's columns are those of then, but for sampling weights",
          "[engine][resize]") {
  Config config = ten_epochs();
  Session session(4, config, 1);
  const std::int16_t classes[] = {1, 2, 3, 4, 5};
  const std::int16_t wrong[] = {1, 2, 9, 4, 5};
  const float weights[] = {1.0f, 1.0f, 1.0f, 2.0f};
  const float later[] = {1.0f, 1.0f, 1.0f, 1.0f, 0.5f};
  session.set_column("class", ColumnType::kInt16, classes);
  session.set_column("sampling_weight", ColumnType::kFloat32, weights);
  run_epoch(session, 2);
  const std::string state = session.serialize();
  Session other(5, config, 1);
  other.set_column("class", ColumnType::kInt16, wrong);
  other.set_column("sampling_weight", ColumnType::kFloat32, later);
  REQUIRE_THAT(message_of<InvalidArgument>([&] { other.deserialize(state, Resize{}); }),
               ContainsSubstring("column class: other values"));
  other.set_column("class", ColumnType::kInt16, classes);
  const LoadReport report = other.deserialize(state, Resize{});
  REQUIRE(report.text == "size: 4 -> 5\ncolumn sampling_weight: other values");
  Session none(5, config, 1);
  REQUIRE_THAT(message_of<InvalidArgument>([&] { none.deserialize(state, Resize{}); }),
               ContainsSubstring("column class: saved -> not set"));
}

TEST_CASE("resize: figures and budget count the samples that the epochs had", "[engine][resize]") {
  Config config = config_of(20, 0.5);
  config.target_saved = 0.3;
  Session small(2000, config, 1);
  for (int epoch = 0; epoch < 8; ++epoch) run_epoch(small, 64);
  const std::int64_t before = small.statistics().samples_full - small.statistics().samples_planned;
  Session session(4000, config, 1);
  session.deserialize(small.serialize(), Resize{});
  std::int64_t planned = 0;
  while (session.epoch() < 20) planned += std::int64_t(run_epoch(session, 64).ids.size());
  const Statistics figures = session.statistics();
  const std::int64_t all = 8 * 2000 + 12 * 4000;
  REQUIRE(figures.samples_full == all);
  REQUIRE(figures.samples_planned == 8 * 2000 - before + planned);
  REQUIRE(figures.actual_saved == Catch::Approx(0.3).margin(0.003));
  // And so they are behind one more save.
  Session again(4000, config, 1);
  again.deserialize(session.serialize());
  REQUIRE(again.statistics().samples_full == all);
}

TEST_CASE("resize: from a file", "[engine][resize]") {
  const Config config = ten_epochs();
  const std::string path = "resize_test_" + std::to_string(::getpid());
  {
    Session session(1000, config, 1);
    run_epoch(session, 64);
    session.save(path);
  }
  Session small(10, config, 1);
  REQUIRE(small.load(path, Resize{}).epoch == 1);
  REQUIRE_THROWS_AS(small.load(path), InvalidArgument);
  std::remove(path.c_str());
}
