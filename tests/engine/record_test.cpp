#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

// The record: of every sample how many epochs kept it, and which was the last; and all columns as a
// table.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

Config recording(std::int64_t epochs) {
  Config config = config_of(epochs, 0.5);
  config.record = true;
  return config;
}

std::vector<std::int32_t> values_of(const Session& session, const std::string& name) {
  const ColumnView view = session.column(name);
  REQUIRE(view.type == ColumnType::kInt32);
  const auto* const data = static_cast<const std::int32_t*>(view.data);
  return {data, data + view.size};
}

/// What the plans say, counted here.
struct Count {
  std::vector<std::int32_t> times;
  std::vector<std::int32_t> last;

  explicit Count(std::size_t size) : times(size, 0), last(size, -1) {}
  void add(const PlanCopy& plan, std::int32_t epoch) {
    for (const std::int64_t id : plan.ids) {
      times[std::size_t(id)] += 1;
      last[std::size_t(id)] = epoch;
    }
  }
  bool is_of(const Session& session) const {
    return values_of(session, "times_kept") == times && values_of(session, "last_kept") == last;
  }
};

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("record: every epoch that has ended counts once", "[engine][record]") {
  Session session(500, recording(10), 1);
  Count count(500);
  REQUIRE(count.is_of(session));
  for (std::int32_t epoch = 0; epoch < 10; ++epoch) {
    const Count before = count;
    count.add(run_epoch(session, 32), epoch);
    REQUIRE(before.is_of(session));  // it ends when the next one begins
    session.length();                // a look at the next one is no end either
    REQUIRE(before.is_of(session));
    session.set_epoch(epoch + 1);
    REQUIRE(count.is_of(session));
  }
  REQUIRE(*std::max_element(count.times.begin(), count.times.end()) == 10);
  REQUIRE(*std::min_element(count.times.begin(), count.times.end()) < 10);
}

TEST_CASE("record: an epoch that was given up counts where it was left, not where it began anew",
          "[engine][record]") {
  Session session(500, recording(10), 1);
  Count count(500);
  const auto loss = [](std::int64_t id) { return simulated_loss(id, 0); };
  session.begin();
  const PlanCopy plan = copy_of(session.plan());
  run_batches(session, 32, loss, 3);
  session.discard_epoch();
  session.begin();
  run_batches(session, 32, loss, 4);
  session.begin();  // observed in part, and left
  count.add(plan, 0);
  REQUIRE(count.is_of(session));
  session.set_epoch(7);  // nothing of epoch 1 was observed
  REQUIRE(count.is_of(session));
}

TEST_CASE("record: saved and loaded at any step", "[engine][record]") {
  Session session(500, recording(10), 1);
  Count count(500);
  const auto loss = [](std::int64_t id) { return simulated_loss(id, 3); };
  for (std::int32_t epoch = 0; epoch < 3; ++epoch) count.add(run_epoch(session, 32), epoch);
  const bool looked = GENERATE(false, true);
  if (looked) session.length();
  Session ended(500, recording(10), 1);
  ended.deserialize(session.serialize());
  ended.set_epoch(3);
  REQUIRE(count.is_of(ended));

  session.begin();
  PlanCopy plan = run_batches(session, 32, loss, 2);
  Session resumed(500, recording(10), 1);
  resumed.deserialize(session.serialize());
  REQUIRE(count.is_of(resumed));
  resumed.begin();
  const PlanCopy rest = run_batches(resumed, 32, loss);
  plan.ids.insert(plan.ids.end(), rest.ids.begin(), rest.ids.end());
  resumed.set_epoch(4);
  count.add(plan, 3);
  REQUIRE(count.is_of(resumed));
}

TEST_CASE("record: it may begin or end with a load", "[engine][record]") {
  Config without = recording(10);
  without.record = false;
  Session session(500, without, 1);
  run_epoch(session, 32);
  Session begun(500, recording(10), 1);
  run_epoch(begun, 32);  // of another run, forgotten
  REQUIRE(begun.deserialize(session.serialize()).text == "record: false -> true");
  begun.set_epoch(1);
  Count count(500);
  count.add(run_epoch(begun, 32), 1);
  begun.set_epoch(2);
  for (std::int32_t& times : count.times) times += 1;  // epoch 0 ended behind the load
  for (std::int32_t& last : count.last) last = last < 0 ? 0 : last;
  REQUIRE(count.is_of(begun));
  REQUIRE(session.deserialize(begun.serialize()).text == "record: true -> false");
  REQUIRE(session.column_names() == std::vector<std::string>{"score"});
}

TEST_CASE("record: on ranks it is that of the whole plan", "[engine][record]") {
  Session ranks[] = {{500, recording(6), 1}, {500, recording(6), 1}};
  Session alone(500, recording(6), 1);
  for (int rank = 0; rank < 2; ++rank) ranks[rank].set_ranks({rank, 2});
  for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
    const auto loss = [epoch](std::int64_t id) { return simulated_loss(id, epoch); };
    run_epoch(alone, 32, loss);
    alone.set_epoch(epoch + 1);
    std::vector<RankReport> reports;
    std::vector<std::int32_t> bits;
    std::int64_t count = 0;
    for (Session& session : ranks) run_epoch(session, 16, loss);
    for (Session& session : ranks) reports.push_back(session.report_to_share(epoch + 1));
    for (Session& session : ranks) {
      const RankLosses own = session.losses_to_share();
      bits.insert(bits.end(), own.bits, own.bits + own.count);
      count = own.count;
    }
    for (Session& session : ranks) {
      session.agree(reports.data(), 2);
      session.take_losses(bits.data(), count, reports.data(), 2);
      session.set_epoch(epoch + 1);
      REQUIRE(values_of(session, "times_kept") == values_of(alone, "times_kept"));
      REQUIRE(values_of(session, "last_kept") == values_of(alone, "last_kept"));
    }
  }
}

TEST_CASE("record: its names are the engine's, with and without one", "[engine][record]") {
  const std::int32_t data[] = {1, 2};
  for (const bool record : {false, true}) {
    Config config = recording(4);
    config.record = record;
    Session session(2, config, 1);
    for (const char* name : {"times_kept", "last_kept"}) {
      REQUIRE_THROWS_AS(session.set_column(name, ColumnType::kInt32, data), InvalidArgument);
    }
  }
}

TEST_CASE("export: a line for each sample, read back to the bit", "[engine][record]") {
  Config config = recording(10);
  config.policy = "ucb";
  Session session(300, config, 1);
  const Warnings warnings(session);
  std::vector<double> doubles;
  std::vector<std::uint16_t> halves;
  for (std::int64_t i = 0; i < 300; ++i) {
    doubles.push_back(uniform(std::uint64_t(i), 5) * 1e300);
    halves.push_back(std::uint16_t(i * 211));
  }
  halves[0] = 0x3c00;  // 1
  halves[1] = 0xc100;  // -2.5
  halves[2] = 0x0001;  // 2^-24
  session.set_column("weight", ColumnType::kFloat64, doubles.data());
  session.set_column("half", ColumnType::kFloat16, halves.data());
  run_epoch(
      session, 32, [](std::int64_t id) { return id == 7 ? std::nanf("") : simulated_loss(id, 0); });
  session.set_epoch(1);
  const std::string path = "record_test_" + std::to_string(::getpid()) + ".csv";
  session.export_csv(path);
  std::istringstream lines(content_of(path));
  std::string line;
  std::getline(lines, line);
  REQUIRE(line == "id,score,ema,var,times_kept,last_kept,half,weight");
  for (std::int64_t id = 0; id < 300; ++id) {
    REQUIRE(std::getline(lines, line));
    std::istringstream cells(line);
    std::vector<std::string> cell(8);
    for (std::string& text : cell) std::getline(cells, text, ',');
    REQUIRE(cell[0] == std::to_string(id));
    if (id == 7) {
      REQUIRE(cell[1].empty());
    } else {
      REQUIRE(float_bits(std::strtof(cell[1].c_str(), nullptr)) ==
              float_bits(session.scores()[id]));
    }
    REQUIRE(cell[4] == "1");
    REQUIRE(cell[5] == "0");
    REQUIRE(std::strtod(cell[7].c_str(), nullptr) == doubles[std::size_t(id)]);
    if (id == 0) REQUIRE(cell[6] == "1");
    if (id == 1) REQUIRE(cell[6] == "-2.5");
    if (id == 2) REQUIRE(std::strtof(cell[6].c_str(), nullptr) == 0x1p-24f);
  }
  REQUIRE(!std::getline(lines, line));
  REQUIRE_THROWS_AS(session.export_csv("/nowhere/table.csv"), FileError);
  std::remove(path.c_str());
}
