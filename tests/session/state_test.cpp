#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session/columns.hpp>
#include <infobatch/session/state.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/reseal.hpp>
#include <tests/support/run.hpp>

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// A saved state: what is written is read back, and what no run can have written is refused, also
// where its checksum fits.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;
using detail::ObservedBy;
using detail::StateFigures;

namespace {

template <typename T>
std::string_view bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// Figures and tensors that belong together.
struct State {
  StateFigures figures;
  std::vector<float> scores;
  std::vector<float> staged;
  std::vector<std::pair<std::string, std::vector<std::int16_t>>> columns;

  std::string write() const {
    std::vector<detail::StateTensor> tensors;
    const auto count = [](const auto& values) { return static_cast<std::int64_t>(values.size()); };
    tensors.push_back({"scores", "F32", count(scores), bytes_of(scores), {}});
    tensors.push_back({"staged", "F32", count(staged), bytes_of(staged), {}});
    for (const auto& [name, values] : columns) {
      tensors.push_back({"column." + name, "I16", count(values), bytes_of(values), {}});
    }
    return write_state(figures, tensors);
  }
};

State random_state(std::mt19937_64& random) {
  const auto up_to = [&](std::int64_t most) {
    return static_cast<std::int64_t>(random() % (static_cast<std::uint64_t>(most) + 1));
  };
  State state;
  StateFigures& figures = state.figures;
  figures.size = up_to(50);
  figures.config = config_of(1 + up_to(300), uniform(random(), 1));
  figures.config.seed = random();
  figures.config.score_ema = uniform(random(), 2);
  if (up_to(1) == 1) figures.config.drop_last = up_to(1) == 1;
  figures.rule_version = static_cast<int>(up_to(9));
  figures.epoch = up_to(up_to(1) == 1 ? kMaxEpochs : 9);
  figures.pinned = up_to(1) == 1;
  if (up_to(3) > 0) {
    StateFigures::PlanFigures plan;
    plan.kept = up_to(figures.size);
    plan.choice = {up_to(1) == 1, uniform(random(), 3), up_to(1) == 1};
    plan.fingerprint = random();
    figures.plan = plan;
    figures.by = static_cast<ObservedBy>(up_to(2));
    figures.lent = figures.by != ObservedBy::kNone && up_to(1) == 1;
    figures.delivered = figures.by == ObservedBy::kNone && up_to(1) == 1;
    if (figures.by == ObservedBy::kIds) {
      for (std::int64_t p = 0; p < plan.kept; ++p) {
        const bool seen = up_to(2) > 0;
        figures.observed += seen ? 1 : 0;
        state.staged.push_back(seen ? simulated_loss(p, 1) : unseen());
      }
    } else if (figures.by == ObservedBy::kOrder) {
      figures.observed = up_to(plan.kept);
      for (std::int64_t p = 0; p < figures.observed; ++p) {
        state.staged.push_back(p % 7 == 3 ? never_observed() : simulated_loss(p, 2));
        if (figures.lent && p % 5 == 4) state.staged.back() = unseen();
      }
      figures.split = up_to(1) == 1;
      figures.proven = up_to(figures.observed);
      figures.lag_batches = up_to(figures.size);
      figures.sure = up_to(figures.observed);
      figures.doubt_end = up_to(figures.observed);
    }
  }
  // Of losses in order no more can be than were observed; those of a lent array come later.
  figures.non_finite = figures.by == ObservedBy::kIds && !figures.lent
                           ? up_to(std::int64_t{1} << 61)
                       : figures.lent ? 0
                                      : up_to(figures.observed);
  figures.totals = {up_to(1000), 0, 0, up_to(1 << 30), up_to(1 << 30), up_to(figures.size + 1) - 1};
  figures.totals.samples = figures.totals.epochs * figures.size;
  if (up_to(1) == 1) figures.totals.samples = up_to(1 << 30);  // of a run that was resized
  figures.totals.pruned = up_to(figures.totals.samples);
  for (std::int64_t i = 0; i < figures.size; ++i) {
    state.scores.push_back(i % 5 == 2 ? never_observed() : simulated_loss(i, 3) - 0.5f);
  }
  for (const char* name : {"label", "a_b"}) {
    if (up_to(1) == 1) continue;
    std::vector<std::int16_t> values;
    for (std::int64_t i = 0; i < figures.size; ++i) values.push_back(std::int16_t(random()));
    state.columns.emplace_back(name, values);
  }
  return state;
}

void require_equal(const StateFigures& a, const StateFigures& b) {
  REQUIRE(a.size == b.size);
  REQUIRE(a.rule_version == b.rule_version);
  REQUIRE(a.config == b.config);
  REQUIRE(a.epoch == b.epoch);
  REQUIRE(a.pinned == b.pinned);
  REQUIRE(a.delivered == b.delivered);
  REQUIRE(a.plan.has_value() == b.plan.has_value());
  if (a.plan) {
    REQUIRE(a.plan->kept == b.plan->kept);
    REQUIRE(a.plan->choice.prunes == b.plan->choice.prunes);
    REQUIRE(a.plan->choice.scale == b.plan->choice.scale);
    REQUIRE(a.plan->choice.limited == b.plan->choice.limited);
    REQUIRE(a.plan->fingerprint == b.plan->fingerprint);
  }
  REQUIRE(a.by == b.by);
  REQUIRE(a.observed == b.observed);
  REQUIRE(a.split == b.split);
  REQUIRE(a.proven == b.proven);
  REQUIRE(a.lag_batches == b.lag_batches);
  REQUIRE(a.non_finite == b.non_finite);
  REQUIRE(a.lent == b.lent);
  REQUIRE(a.totals == b.totals);
}

/// A state of a session of 20 samples in its second epoch, 6 of a batch of 8 observed.
std::string saved(ObservedBy by, bool lent = false) {
  Session session(20, config_of(10), 1);
  session.hold_warnings();
  const std::vector<std::int64_t> column(20, 4);
  session.set_column("label", ColumnType::kInt64, column.data());
  run_epoch(session, 8);
  session.begin();
  if (by == ObservedBy::kNone) return session.serialize();
  const Slice slice = session.next(8);
  const std::vector<float> losses(8, 0.25f);
  std::vector<float> weights(8);
  if (by == ObservedBy::kIds) {
    session.observe_ids(losses.data(), slice.ids(), 6, weights.data());
  } else if (lent) {
    session.advance(6);
    session.stage(losses.data(), 0, 5);
  } else {
    session.observe(losses.data(), 6);
  }
  return session.serialize();
}

std::string complaint(const std::string& bytes) {
  REQUIRE_FALSE(bytes.empty());
  return message_of<FileError>([&] { detail::read_state(bytes); });
}

/// The state with the figure `key` set to `value`.
std::string with_figure(const std::string& bytes,
                        const std::string& key,
                        const std::string& value) {
  return resealed(bytes, [&](detail::SafeTensors& content) {
    std::string& text = content.metadata["state"];
    const std::string name = "\"" + key + "\":";
    const std::size_t place = text.rfind(name);  // the totals come last; `epochs` is an option, too
    REQUIRE(place != std::string::npos);
    const std::size_t begin = place + name.size();
    const std::size_t end = text.find_first_of(",}", begin);
    text.replace(begin, end - begin, value);
  });
}

/// The state with the data of a tensor replaced; `data` has to live as long.
std::string with_tensor(const std::string& bytes,
                        const std::string& name,
                        const std::vector<float>& data) {
  return resealed(bytes, [&](detail::SafeTensors& content) {
    for (detail::TensorView& tensor : content.tensors) {
      if (tensor.name != name) continue;
      tensor.dtype = "F32";
      tensor.shape = {static_cast<std::int64_t>(data.size())};
      tensor.data = bytes_of(data);
    }
  });
}

std::vector<float> floats_of(std::string_view bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

TEST_CASE("a state that is written is read back, figure by figure", "[session][state]") {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 2000; ++trial) {
    CAPTURE(trial);
    const State state = random_state(random);
    const std::string bytes = state.write();
    REQUIRE(bytes == state.write());
    REQUIRE(reseal(bytes) == bytes);
    const detail::StateContent content = detail::read_state(bytes);
    require_equal(content.figures, state.figures);
    REQUIRE(content.scores == bytes_of(state.scores));
    REQUIRE(content.staged == bytes_of(state.staged));
    REQUIRE(content.columns.size() == state.columns.size());
    for (std::size_t i = 0; i < state.columns.size(); ++i) {
      REQUIRE(content.columns[i].name == state.columns[i].first);
      REQUIRE(content.columns[i].dtype == "I16");
      REQUIRE(content.columns[i].count == state.figures.size);
      REQUIRE(content.columns[i].bytes == bytes_of(state.columns[i].second));
    }
  }
}

TEST_CASE("patches change the file, and neither memory nor the fit of the checksum",
          "[session][state]") {
  const std::vector<float> scores = {1.0f, 2.0f, 3.0f};
  const std::vector<float> staged = {4.0f};
  StateFigures figures;
  figures.size = 3;
  figures.plan = StateFigures::PlanFigures{2, {}, 0};
  figures.by = ObservedBy::kOrder;
  figures.observed = 1;
  const auto put = [](std::size_t index, float value) {
    return [=](char* copy) { std::memcpy(copy + index * sizeof value, &value, sizeof value); };
  };
  const std::string bytes = write_state(figures,
                                        {{"scores", "F32", 3, bytes_of(scores), put(2, -7.0f)},
                                         {"staged", "F32", 1, bytes_of(staged), put(0, 8.0f)}});
  const detail::StateContent content = detail::read_state(bytes);
  REQUIRE(floats_of(content.scores) == std::vector<float>{1.0f, 2.0f, -7.0f});
  REQUIRE(floats_of(content.staged) == std::vector<float>{8.0f});
  REQUIRE(scores == std::vector<float>{1.0f, 2.0f, 3.0f});
  REQUIRE(staged == std::vector<float>{4.0f});
}

TEST_CASE("the place of the checksum is found whatever the figures look like", "[session][state]") {
  StateFigures figures;
  figures.size = 0;
  figures.config.seed = 0;
  figures.plan = StateFigures::PlanFigures{0, {}, 0};  // a fingerprint of sixteen zeros
  const std::string bytes = write_state(figures,
                                        {{"scores", "F32", 0, {}, {}},  //
                                         {"staged", "F32", 0, {}, {}}});
  REQUIRE(detail::read_state(bytes).figures.plan->fingerprint == 0);
  REQUIRE(reseal(bytes) == bytes);
}

TEST_CASE("a checksum that does not fit is refused, and reseal makes it fit", "[session][state]") {
  std::string bytes = saved(ObservedBy::kOrder);
  bytes[bytes.size() - 20 * sizeof(std::int64_t) - 1] ^= 0x01;  // a staged loss
  REQUIRE_THAT(complaint(bytes), ContainsSubstring("another checksum"));
  REQUIRE_NOTHROW(detail::read_state(reseal(bytes)));
  REQUIRE(reseal("rubbish") == "rubbish");
}

TEST_CASE("figures out of their range are refused behind a checksum that fits",
          "[session][state]") {
  const std::string bytes = saved(ObservedBy::kOrder);
  REQUIRE_NOTHROW(detail::read_state(bytes));
  const auto kept = detail::read_state(bytes).figures.plan->kept;
  const auto text = [](std::int64_t number) { return std::to_string(number); };
  constexpr std::int64_t kMost = std::int64_t{1} << 61;
  const std::vector<std::pair<std::string, std::vector<std::string>>> bad = {
      {"size", {"-1", "19", "21", text(kMaxSize + 1), text(INT64_MAX), "1.5", "null", "\"20\""}},
      {"rule_version", {"-1", "2147483648", "true", "[]"}},
      {"epoch", {"-1", text(kMaxEpochs + 1), "18446744073709551615", "1e3", "null"}},
      {"pinned", {"0", "1", "null", "\"false\""}},
      {"delivered", {"true", "0"}},
      {"kept", {"-1", "21", text(INT64_MAX), text(INT64_MIN), "5"}},
      {"prunes", {"1", "null"}},
      {"scale", {"null", "\"NaN\"", "true", "1e999"}},
      {"limited", {"0"}},
      {"observed_by", {"\"none\"", "\"order\"", "\"\"", "0", "null", "\"cursor\\u0000\""}},
      {"observed", {"-1", "5", "7", text(kept + 1), text(INT64_MAX)}},
      {"split", {"1"}},
      {"proven", {"-1", "7", text(INT64_MAX)}},
      {"lag_batches", {"-1", "21", text(INT64_MAX)}},
      {"sure", {"-1", "7", text(INT64_MAX)}},
      {"doubt_end", {"-1", "7", text(INT64_MAX)}},
      {"lent", {"1", "null"}},
      {"epochs", {"-1", text(kMost / 20 + 1), text(INT64_MAX)}},
      {"pruned", {"-1", "21", text(INT64_MAX)}},
      {"dropped", {"-1", text(kMost + 1), text(INT64_MAX)}},
      {"non_finite", {"-1", text(kMost + 1), text(INT64_MAX), text(INT64_MIN)}},
      {"known_lag", {"-2", "21", text(INT64_MAX), text(INT64_MIN)}},
      {"known_batch", {"-1", text(INT64_MIN)}}};
  for (const auto& [key, values] : bad) {
    for (const std::string& value : values) {
      CAPTURE(key, value);
      REQUIRE_THAT(complaint(with_figure(bytes, key, value)),
                   ContainsSubstring("load: the state must be whole, got"));
    }
  }
}

TEST_CASE("figures at the ends of their ranges are taken, and sums of them stay in range",
          "[session][state]") {
  Session session(20, config_of(10), 1);
  session.hold_warnings();
  const std::vector<std::int64_t> column(20, 4);
  session.set_column("label", ColumnType::kInt64, column.data());
  constexpr std::int64_t kMost = std::int64_t{1} << 61;
  std::string bytes = saved(ObservedBy::kOrder);
  bytes = with_figure(bytes, "epochs", std::to_string(kMost / 20));
  bytes = with_figure(bytes, "pruned", std::to_string(kMost / 20 * 20));
  bytes = with_figure(bytes, "non_finite", std::to_string(kMost));
  bytes = with_figure(bytes, "dropped", std::to_string(kMost));
  session.deserialize(bytes);
  REQUIRE(session.serialize() == bytes);
  const Statistics statistics = session.statistics();
  REQUIRE(statistics.dropped_total == kMost);
  REQUIRE(statistics.non_finite_total == kMost);
  REQUIRE(statistics.samples_full >= statistics.samples_planned);
  session.begin();
  run_batches(session, 8, [](std::int64_t) { return 1.0f; });
  session.length();
  session.begin();
  REQUIRE(session.statistics().samples_full > 0);
}

TEST_CASE("figures that do not go together are refused", "[session][state]") {
  const std::string order = saved(ObservedBy::kOrder);
  const std::string ids = saved(ObservedBy::kIds);
  const std::string none = saved(ObservedBy::kNone);
  const auto without_plan = [](const std::string& bytes) {
    return resealed(bytes, [](detail::SafeTensors& content) {
      std::string& text = content.metadata["state"];
      const std::size_t begin = text.find("\"plan\":{") + 7;
      text.replace(begin, text.find('}', begin) + 1 - begin, "null");
    });
  };
  REQUIRE_THAT(complaint(without_plan(order)), ContainsSubstring("observed = 6"));
  REQUIRE_THAT(complaint(with_figure(
                   with_figure(with_figure(without_plan(order), "observed", "0"), "proven", "0"),
                   "sure",
                   "0")),
               ContainsSubstring("losses without a plan"));
  REQUIRE_NOTHROW(detail::read_state(without_plan(none)));
  REQUIRE_THAT(complaint(with_figure(without_plan(none), "delivered", "true")),
               ContainsSubstring("delivered and observed"));
  REQUIRE_THAT(complaint(with_figure(none, "observed", "3")), ContainsSubstring("observed = 3"));
  REQUIRE_THAT(complaint(with_figure(none, "observed_by", "\"ids\"")),
               ContainsSubstring("0 losses for"));
  REQUIRE_THAT(complaint(with_figure(ids, "observed_by", "\"cursor\"")),
               ContainsSubstring("losses for 6"));
  REQUIRE_THAT(complaint(with_figure(ids, "observed", "5")), ContainsSubstring("6 losses for 5"));
  REQUIRE_THAT(complaint(resealed_with(order, "\"plan\":{", "\"plan\":[{}],\"x\":{")),
               ContainsSubstring("plan = an array"));
}

TEST_CASE("a fingerprint must be sixteen small hexadecimal digits", "[session][state]") {
  const std::string bytes = saved(ObservedBy::kOrder);
  for (const char* const value : {"\"\"",
                                  "\"0123456789abcde\"",
                                  "\"0123456789abcdef0\"",
                                  "\"0123456789ABCDEF\"",
                                  "\"0123456789abcdeg\"",
                                  "\" 123456789abcdef\"",
                                  "\"0x23456789abcdef\"",
                                  "\"0123456789abcde\\u0000\"",
                                  "\"+123456789abcdef\"",
                                  "12",
                                  "null"}) {
    CAPTURE(value);
    REQUIRE_THAT(complaint(with_figure(bytes, "fingerprint", value)),
                 ContainsSubstring("fingerprint = "));
  }
  REQUIRE_NOTHROW(detail::read_state(with_figure(bytes, "fingerprint", "\"0123456789abcdef\"")));
}

TEST_CASE("a key that is missing or stands twice is refused", "[session][state]") {
  const std::string bytes = saved(ObservedBy::kOrder);
  for (const char* const key :
       {"size",        "rule_version", "config", "epoch",       "pinned",      "plan",
        "kept",        "fingerprint",  "totals", "known_lag",   "known_batch", "observed",
        "observed_by", "split",        "proven", "lag_batches", "lent",        "delivered",
        "limited",     "prunes",       "scale",  "sure",        "doubt_end"}) {
    CAPTURE(key);
    const std::string name = std::string("\"") + key + "\":";
    REQUIRE_THAT(complaint(resealed_with(bytes, name, std::string("\"x") + key + "\":")),
                 ContainsSubstring(std::string("no ") + key));
    REQUIRE_THAT(complaint(resealed_with(bytes, name, name + "0," + name)),
                 ContainsSubstring("load: the state must be whole, got"));
  }
}

TEST_CASE("tensors of a wrong length, type or shape are refused", "[session][state]") {
  const std::string bytes = saved(ObservedBy::kOrder);
  const auto floats = [](std::size_t count) { return std::vector<float>(count, 0.5f); };
  const std::vector<float> few = floats(19);
  const std::vector<float> many = floats(21);
  const std::vector<float> five = floats(5);
  const std::vector<float> seven = floats(7);
  const std::vector<float> nothing;
  REQUIRE_THAT(complaint(with_tensor(bytes, "scores", few)), ContainsSubstring("19 scores for 20"));
  REQUIRE_THAT(complaint(with_tensor(bytes, "scores", many)),
               ContainsSubstring("21 scores for 20"));
  REQUIRE_THAT(complaint(with_tensor(bytes, "staged", five)), ContainsSubstring("5 losses for 6"));
  REQUIRE_THAT(complaint(with_tensor(bytes, "staged", seven)), ContainsSubstring("7 losses for 6"));
  REQUIRE_THAT(complaint(with_tensor(bytes, "staged", nothing)), ContainsSubstring("0 losses for"));
  REQUIRE_THAT(complaint(with_tensor(bytes, "column.label", few)),
               ContainsSubstring("19 values of column label"));
  REQUIRE_THAT(complaint(with_tensor(bytes, "column.label", nothing)),
               ContainsSubstring("0 values of column label"));
  const auto edited = [&](const std::string& name, const auto& edit) {
    return complaint(resealed(bytes, [&](detail::SafeTensors& content) {
      for (detail::TensorView& tensor : content.tensors) {
        if (tensor.name == name) edit(tensor);
      }
    }));
  };
  REQUIRE_THAT(edited("scores", [](auto& tensor) { tensor.dtype = "I32"; }),
               ContainsSubstring("none with a vector scores"));
  REQUIRE_THAT(edited("scores",
                      [](auto& tensor) {
                        tensor.shape = {4, 5};
                      }),
               ContainsSubstring("none with a vector scores"));
  REQUIRE_THAT(edited("staged", [](auto& tensor) { tensor.name = "stage"; }),
               ContainsSubstring("none with a vector staged"));
  REQUIRE_THAT(edited("column.label",
                      [](auto& tensor) {
                        tensor.shape = {4, 5};
                      }),
               ContainsSubstring("a column that is no vector"));
  REQUIRE_THAT(edited("column.label", [](auto& tensor) { tensor.name = "label"; }),
               ContainsSubstring("tensors that no state has"));
}

TEST_CASE("tensors that no state has are refused", "[session][state]") {
  const std::string bytes = saved(ObservedBy::kNone);
  const std::vector<float> data(20, 0.0f);
  for (const char* const name : {"extra", "", "column", "Column.x", "scores2"}) {
    CAPTURE(name);
    REQUIRE_THAT(
        complaint(resealed(bytes,
                           [&](detail::SafeTensors& content) {
                             content.tensors.push_back({name, "F32", {20}, bytes_of(data)});
                           })),
        ContainsSubstring("tensors that no state has"));
  }
}

TEST_CASE("a column that is saved twice is refused", "[session][state]") {
  const std::string bytes = saved(ObservedBy::kNone);
  const std::vector<std::int64_t> data(20, 4);
  const std::string twice = resealed(bytes, [&](detail::SafeTensors& content) {
    content.tensors.push_back({"column.label", "I64", {20}, bytes_of(data)});
  });
  REQUIRE_THROWS_AS(detail::read_state(twice), FileError);
}

TEST_CASE("scores and losses that no run stores are refused, to the bit", "[session][state]") {
  const std::string order = saved(ObservedBy::kOrder);
  const std::string lent = saved(ObservedBy::kOrder, true);
  const std::string ids = saved(ObservedBy::kIds);
  REQUIRE(detail::read_state(lent).figures.lent);
  const auto staged_of = [](const std::string& bytes) {
    return floats_of(detail::read_state(bytes).staged);
  };
  const std::vector<std::uint32_t> never_stored = {
      0x7f800000u, 0xff800000u, 0x7fc00000u, 0x7f800001u, 0xffc00001u, 0xffc00002u, 0x7fffffffu};
  for (const std::uint32_t bits : never_stored) {
    CAPTURE(bits);
    std::vector<float> scores(20, 0.5f);
    scores[19] = bits_float(bits);
    REQUIRE_THAT(complaint(with_tensor(order, "scores", scores)),
                 ContainsSubstring("a non-finite value in scores at 19"));
    for (const std::string& bytes : {order, lent, ids}) {
      std::vector<float> staged = staged_of(bytes);
      staged[3] = bits_float(bits);
      REQUIRE_THAT(complaint(with_tensor(bytes, "staged", staged)),
                   ContainsSubstring("a non-finite value in staged at 3"));
    }
  }
  std::vector<float> scores(20, unseen());
  REQUIRE_THAT(complaint(with_tensor(order, "scores", scores)),
               ContainsSubstring("a non-finite value in scores at 0"));
  std::vector<float> staged(6, 0.5f);
  staged[1] = unseen();
  REQUIRE_THAT(complaint(with_tensor(order, "staged", staged)),
               ContainsSubstring("a non-finite value in staged at 1"));
  REQUIRE_NOTHROW(detail::read_state(with_tensor(lent, "staged", staged)));
}

TEST_CASE("what only the session can check is refused by it, and changes nothing",
          "[session][state]") {
  Session session(20, config_of(10), 1);
  session.hold_warnings();
  const std::vector<std::int64_t> column(20, 4);
  session.set_column("label", ColumnType::kInt64, column.data());
  run_epoch(session, 8);
  const std::string before = session.serialize();
  const std::string bytes = saved(ObservedBy::kOrder);
  const auto refusal = [&](const std::string& forged) {
    REQUIRE_FALSE(forged.empty());
    REQUIRE_NOTHROW(detail::read_state(forged));
    const std::string text = message_of<FileError>([&] { session.deserialize(forged); });
    REQUIRE(session.serialize() == before);
    return text;
  };
  REQUIRE_THAT(refusal(with_figure(bytes, "fingerprint", "\"0123456789abcdef\"")),
               ContainsSubstring("another plan"));
  for (const char* const scale : {"-0.5", "-1e300", "1.0", "1e300", "0.95"}) {
    CAPTURE(scale);
    REQUIRE_THAT(refusal(with_figure(bytes, "scale", scale)), ContainsSubstring("scale = "));
  }
  REQUIRE_THAT(refusal(with_figure(bytes, "prunes", "false")), ContainsSubstring("another plan"));
  REQUIRE_THAT(refusal(with_figure(bytes, "epoch", "2")), ContainsSubstring("another plan"));
  std::vector<float> scores = floats_of(detail::read_state(bytes).scores);
  for (float& score : scores) score = never_observed();
  REQUIRE_THAT(refusal(with_tensor(bytes, "scores", scores)), ContainsSubstring("another plan"));
  session.deserialize(bytes);
  REQUIRE(session.serialize() == bytes);
}

TEST_CASE("a state of another rule version is another run's", "[session][state]") {
  Session session(20, config_of(10), 1);
  const std::vector<std::int64_t> column(20, 4);
  session.set_column("label", ColumnType::kInt64, column.data());
  const std::string forged =
      with_figure(saved(ObservedBy::kNone), "rule_version", std::to_string(kRuleVersion + 1));
  REQUIRE_THAT(message_of<InvalidArgument>([&] { session.deserialize(forged); }),
               ContainsSubstring("rule_version: 3 -> 2"));
}

TEST_CASE("options that may change are told from those that may not", "[session][state]") {
  Config saved_config = config_of(10);
  Config own = saved_config;
  own.epochs = 12;
  own.delta = 0.5;
  own.drop_last = true;
  own.lookahead = true;
  own.seed = 9;
  own.score_ema = 0.5;
  own.warmup = 3;
  own.keep = "exact";
  std::vector<std::string> refused;
  std::vector<std::string> changed;
  detail::compare_configs(saved_config, own, refused, changed);
  const std::vector<std::string> may = {"epochs: 10 -> 12",
                                        "delta: 0.875 -> 0.5",
                                        "drop_last: null -> true",
                                        "lookahead: false -> true"};
  REQUIRE(changed == may);
  REQUIRE(refused.size() == 4);
  refused.clear();
  changed.clear();
  detail::compare_configs(own, own, refused, changed);
  REQUIRE((refused.empty() && changed.empty()));
}
