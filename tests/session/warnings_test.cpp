#include <infobatch/detail/atomic_file.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <infobatch/session/warnings.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

// What a run is warned of: once a kind, and without a way to be left half done.

using namespace infobatch;
using Catch::Matchers::ContainsSubstring;

using testing::config_of;
using testing::copy_of;
using testing::run_epoch;
using testing::score_bits;

namespace {

constexpr WarningKind kAllKinds[] = {WarningKind::kNeverPrunes,
                                     WarningKind::kForgotten,
                                     WarningKind::kUnsound,
                                     WarningKind::kNonFinite,
                                     WarningKind::kShortfall,
                                     WarningKind::kNotFlushed};
constexpr const char* kPartOfText[] = {"no epoch of this run leaves samples out",
                                       "no loss came back",
                                       "were dropped",
                                       "were NaN or infinite",
                                       "target_saved: promised",
                                       "cannot flush"};

using Texts = std::vector<std::string>;

Texts take_all(detail::Warnings& warnings) {
  Texts texts;
  while (warnings.pending()) texts.push_back(warnings.take(Config{}, Wording{}));
  return texts;
}

/// All that may be seen of a session without planning.
struct View {
  std::string state;
  std::vector<std::uint32_t> scores;
  std::int64_t epoch;
  std::int64_t position;
  std::int64_t pending;
  double progress;

  explicit View(Session& session)
      : state(session.serialize()),
        scores(score_bits(session)),
        epoch(session.epoch()),
        position(session.position()),
        pending(session.pending()),
        progress(session.progress()) {}
  bool operator==(const View& other) const {
    return state == other.state && scores == other.scores && epoch == other.epoch &&
           position == other.position && pending == other.pending && progress == other.progress;
  }
};

/// A session behind an epoch with a loss that was not finite, so that the next boundary warns.
std::unique_ptr<Session> behind_infinity(double ema = 0.0) {
  Config config = config_of(10);
  config.score_ema = ema;
  auto session = std::make_unique<Session>(40, config, 1);
  session->begin();
  testing::run_batches(*session, 16, [](std::int64_t id) {
    return id == 7 ? std::numeric_limits<float>::infinity() : testing::simulated_loss(id, 0);
  });
  return session;
}

struct Call {
  const char* name;
  std::function<void(Session&)> make;
};

const std::vector<Call>& calls() {
  static const std::vector<Call> all = {{"begin", [](Session& s) { s.begin(); }},
                                        {"set_epoch 1", [](Session& s) { s.set_epoch(1); }},
                                        {"set_epoch 6", [](Session& s) { s.set_epoch(6); }},
                                        {"plan", [](Session& s) { s.plan(); }},
                                        {"length", [](Session& s) { s.length(); }},
                                        {"next", [](Session& s) {
                                           s.next(16);                         // the end
                                           if (s.position() == 40) s.begin();  // and on
                                           s.next(16);
                                         }}};
  return all;
}

}  // namespace

TEST_CASE("every kind of warning is found once and told in a fixed order", "[session][warnings]") {
  detail::Warnings warnings;
  REQUIRE_FALSE(warnings.pending());
  for (std::size_t i = std::size(kAllKinds); i-- > 0;) warnings.found(kAllKinds[i], {});
  for (const WarningKind kind : kAllKinds) warnings.found(kind, {});
  const Texts texts = take_all(warnings);
  REQUIRE(texts.size() == detail::kWarningKinds);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    REQUIRE_THAT(texts[i], ContainsSubstring(kPartOfText[i]));
  }
  for (const WarningKind kind : kAllKinds) warnings.found(kind, {});
  REQUIRE_FALSE(warnings.pending());
}

TEST_CASE("the figures are those of the first finding", "[session][warnings]") {
  detail::Warnings warnings;
  detail::WarningFigures figures;
  figures.epoch = 3;
  figures.count = 17;
  figures.of = 50;
  warnings.found(WarningKind::kUnsound, figures);
  figures.count = 99;
  warnings.found(WarningKind::kUnsound, figures);
  REQUIRE_THAT(warnings.take(Config{}, Wording{}),
               ContainsSubstring("of the 50 samples of epoch 3 the losses of 17 were dropped"));
}

TEST_CASE("warnings speak the words of the binding", "[session][warnings]") {
  detail::Warnings warnings;
  detail::WarningFigures figures;
  figures.batch = 64;
  figures.of = 50;
  warnings.found(WarningKind::kForgotten, figures);
  Wording wording;
  wording.update = "third_line()";
  const std::string text = warnings.take(Config{}, wording);
  REQUIRE_THAT(text, ContainsSubstring("call third_line() after"));
  REQUIRE_THAT(text, ContainsSubstring("drop_last with a batch of 64"));
}

TEST_CASE("a session speaks the words that were set last", "[session][warnings]") {
  Session session(50, testing::config_of(10), 1, {"a()", "a(ids)", "", "c()"});
  session.hold_warnings();
  session.begin();
  session.next(64);
  session.begin();  // nothing came back: the warning waits
  Wording words = session.wording();
  REQUIRE(words.update == "a()");
  REQUIRE(words.discard == "c()");
  words.update = "b()";
  words.update_by_ids = "b(ids)";
  session.set_wording(words);
  std::string text;
  REQUIRE(session.next_warning(&text));
  REQUIRE_THAT(text, ContainsSubstring("call b() after"));
  const float losses[2] = {0.0f, 0.0f};
  text = testing::message_of<StateError>([&] { session.observe(losses, 2); });
  REQUIRE_THAT(text, ContainsSubstring("or pass the ids, b(ids)"));
  REQUIRE(session.wording().discard == "c()");
}

TEST_CASE("a copy takes findings back", "[session][warnings]") {
  detail::Warnings warnings;
  warnings.found(WarningKind::kNonFinite, {});
  const detail::Warnings before = warnings;
  warnings.found(WarningKind::kShortfall, {});
  REQUIRE_FALSE(warnings.same_pending(before));
  warnings = before;
  REQUIRE(warnings.same_pending(before));
  REQUIRE(take_all(warnings).size() == 1);
  warnings.found(WarningKind::kShortfall, {});  // it was never found
  REQUIRE(take_all(warnings).size() == 1);
}

TEST_CASE("a session warns of a kind once", "[session][warnings]") {
  const auto session = behind_infinity();
  const testing::Warnings warnings(*session);
  for (int epoch = 1; epoch < 5; ++epoch) {
    session->begin();
    testing::run_batches(
        *session, 16, [](std::int64_t) { return std::numeric_limits<float>::quiet_NaN(); });
  }
  session->begin();
  REQUIRE(warnings.all().size() == 1);
  REQUIRE(warnings.count("1 losses of epoch 0 were NaN or infinite") == 1);
}

TEST_CASE("warnings that are held wait in their order, and a handler takes over again",
          "[session][warnings]") {
  const auto session = behind_infinity();
  session->hold_warnings();
  std::string text = "untouched";
  REQUIRE_FALSE(session->next_warning(&text));
  REQUIRE(text == "untouched");
  session->begin();
  session->next(40);
  session->begin();  // nothing came back
  REQUIRE(session->next_warning(&text));
  REQUIRE_THAT(text, ContainsSubstring("no loss came back"));
  Texts told;
  session->set_warning_handler([&](const std::string& t) { told.push_back(t); });
  REQUIRE(told.empty());  // told by the next call that may tell
  session->length();
  REQUIRE(told.size() == 1);
  REQUIRE_THAT(told[0], ContainsSubstring("NaN or infinite"));
  REQUIRE_FALSE(session->next_warning(&text));
  REQUIRE_THROWS_AS(session->next_warning(nullptr), InvalidArgument);
}

TEST_CASE("a handler may call the session", "[session][warnings]") {
  for (const Call& call : calls()) {
    for (const Call& inner : calls()) {
      CAPTURE(call.name, inner.name);
      const auto session = behind_infinity();
      int told = 0;
      session->set_warning_handler([&](const std::string&) {
        ++told;
        session->statistics();
        session->length();
        session->serialize();
        inner.make(*session);
      });
      call.make(*session);
      REQUIRE(told >= 1);  // the two may find something of their own
      // Whatever the two did, the session is sound: it trains on, and its state can be loaded.
      session->set_epoch(8);
      run_epoch(*session, 16);
      Session resumed(40, config_of(10), 1);
      resumed.hold_warnings();
      resumed.deserialize(session->serialize());
      REQUIRE(resumed.serialize() == session->serialize());
    }
  }
}

TEST_CASE("a handler may replace itself or take the session's warnings away",
          "[session][warnings]") {
  const auto session = behind_infinity();
  int told = 0;
  session->set_warning_handler([&](const std::string&) {
    ++told;
    session->set_warning_handler([&](const std::string&) { told += 100; });
    session->hold_warnings();
  });
  session->length();
  REQUIRE(told == 1);
}

TEST_CASE("where a handler throws, the call has changed nothing and can be made again",
          "[session][warnings]") {
  const double ema = GENERATE(0.0, 0.5);
  for (const Call& call : calls()) {
    CAPTURE(call.name);
    const auto calm = behind_infinity(ema);
    const testing::Warnings warnings(*calm);
    call.make(*calm);
    REQUIRE(warnings.all().size() == 1);

    const auto session = behind_infinity(ema);
    session->set_warning_handler([](const std::string&) { throw std::runtime_error("no"); });
    const View before(*session);
    REQUIRE_THROWS_WITH(call.make(*session), "no");
    REQUIRE(View(*session) == before);
    call.make(*session);  // the warning counts as delivered
    REQUIRE(View(*session) == View(*calm));
    REQUIRE(copy_of(session->plan()) == copy_of(calm->plan()));
  }
}

TEST_CASE("set_epoch that fails behind a look leaves the epoch that was looked at",
          "[session][warnings]") {
  Config config = config_of(10);
  config.target_saved = 0.4;
  const bool looked = GENERATE(true, false);
  const auto make = [&] {
    auto session = std::make_unique<Session>(40, config, 1);
    session->begin();
    testing::run_batches(*session, 16, [](std::int64_t) { return 1.0f; });  // no candidate, ever
    if (looked) session->length();
    return session;
  };
  const auto calm = make();
  const auto session = make();
  const testing::Warnings warnings(*calm);
  session->set_warning_handler([](const std::string&) { throw std::runtime_error("no"); });
  const View before(*session);
  REQUIRE_THROWS_WITH(session->set_epoch(8), "no");
  REQUIRE(View(*session) == before);
  REQUIRE(session->epoch() == 1);
  REQUIRE(session->plan()->epoch() == 1);
  session->begin();
  calm->begin();
  REQUIRE(warnings.all().empty());
  REQUIRE(View(*session) == View(*calm));
  REQUIRE(session->plan()->epoch() == 1);
}

TEST_CASE("a handler that loads a state and throws leaves the state that it loaded",
          "[session][warnings]") {
  Config config = config_of(10);
  config.target_saved = 0.4;
  Session session(40, config, 1);
  const std::string fresh = session.serialize();
  session.begin();
  testing::run_batches(session, 16, [](std::int64_t) { return 1.0f; });
  session.length();
  session.set_warning_handler([&](const std::string&) {
    session.deserialize(fresh);
    throw std::runtime_error("no");
  });
  REQUIRE_THROWS_WITH(session.set_epoch(8), "no");
  REQUIRE(session.serialize() == fresh);
  REQUIRE(session.epoch() == 0);
  REQUIRE(session.plan()->epoch() == 0);
}

TEST_CASE("save warns once of a file system that cannot flush, and the file is there",
          "[session][warnings]") {
  struct Flush {  // NOLINT: restores the call
    decltype(detail::file_calls().flush) before = detail::file_calls().flush;
    ~Flush() { detail::file_calls().flush = before; }
  } const restored;
  detail::file_calls().flush = [](int) {
    errno = EINVAL;
    return -1;
  };
  const std::string path = "infobatch_warnings_test.state";
  Session session(10, config_of(5), 1);
  int told = 0;
  session.set_warning_handler([&](const std::string& text) {
    REQUIRE_THAT(text, ContainsSubstring("cannot flush"));
    ++told;
    session.statistics();
    throw std::runtime_error("no");
  });
  const View before(session);
  REQUIRE_THROWS_WITH(session.save(path), "no");
  REQUIRE(View(session) == before);
  session.save(path);
  session.save(path);
  REQUIRE(told == 1);
  session.load(path);
  REQUIRE(View(session) == before);
  std::remove(path.c_str());
}
