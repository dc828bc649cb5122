#include <infobatch/detail/safetensors.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/reseal.hpp>
#include <tests/support/run.hpp>

#include <cmath>
#include <cstdint>
#include <string>

// What the fuzzing programs found (tests/fuzz), reduced.

using namespace infobatch;
using namespace infobatch::testing;

TEST_CASE("a handler may observe by ids while set_epoch leaves an epoch that was never planned",
          "[engine][fuzzed]") {
  Session session(12, config_of(2), 1);  // never prunes: the first plan warns
  int calls = 0;
  session.set_warning_handler([&](const std::string&) {
    const float loss = 0.5f;
    const std::int64_t id = 3;
    float weight = 0.0f;
    session.observe_ids(&loss, &id, 1, &weight);
    REQUIRE(weight == 1.0f);
    REQUIRE(session.position() == 1);
    ++calls;
  });
  session.set_epoch(1);
  REQUIRE(calls == 1);
  REQUIRE(session.epoch() == 1);
  REQUIRE(session.scores()[3] == 0.5f);
}

TEST_CASE("a handler may ask for weights while set_epoch leaves an epoch that was never planned",
          "[engine][fuzzed]") {
  Session session(12, config_of(2), 1);
  int calls = 0;
  session.set_warning_handler([&](const std::string&) {
    const std::int64_t ids[] = {3, 12};
    float weights[] = {0.0f, 0.0f};
    REQUIRE_THROWS_AS(session.weights(ids, 2, weights), IndexError);
    REQUIRE_FALSE(session.statistics().planned);
    session.weights(ids, 1, weights);
    REQUIRE(weights[0] == 1.0f);
    REQUIRE(session.statistics().planned);
    REQUIRE(session.statistics().epoch == 0);
    REQUIRE(session.position() == 0);
    ++calls;
  });
  session.set_epoch(1);
  REQUIRE(calls == 1);
  REQUIRE(session.epoch() == 1);
  REQUIRE(session.length() == 12);
  REQUIRE(session.statistics().samples_full == 12);
}

TEST_CASE("a state with the largest totals there may be goes on to states that are read again",
          "[engine][fuzzed]") {
  Session session(20, config_of(10), 1);
  session.set_warning_handler([](const std::string&) {});
  run_epoch(session, 8);
  detail::SafeTensors file;
  const std::string whole = session.serialize();
  file = detail::read_safetensors(whole);
  std::string& state = file.metadata["state"];
  const std::size_t totals = state.find("\"totals\":");
  REQUIRE(totals != std::string::npos);
  state.replace(totals,
                std::string::npos,
                "\"totals\":{\"epochs\":115292150460684697,\"pruned\":2305843009213693940,"
                "\"non_finite\":2305843009213693952,\"dropped\":2305843009213693952,"
                "\"known_lag\":-1,\"known_batch\":0}}");
  session.deserialize(reseal(detail::write_safetensors(file)));
  for (int epoch = 1; epoch < 4; ++epoch) {
    session.begin();
    run_batches(session, 8, [](std::int64_t) { return std::nanf(""); });
    const std::string saved = session.serialize();
    session.deserialize(saved);
    REQUIRE(session.serialize() == saved);
  }
}

TEST_CASE("more non-finite losses than an epoch observed are refused in a state",
          "[engine][fuzzed]") {
  Session session(20, config_of(10), 1);
  run_epoch(session, 8);
  const std::string whole = session.serialize();
  detail::SafeTensors file = detail::read_safetensors(whole);
  std::string& state = file.metadata["state"];
  const std::string key = "\"non_finite\":0,\"lent\"";
  REQUIRE(state.find(key) != std::string::npos);
  state.replace(state.find(key), key.size(), "\"non_finite\":21,\"lent\"");
  REQUIRE_THROWS_AS(session.deserialize(reseal(detail::write_safetensors(file))), FileError);
}

TEST_CASE("a state that prunes where its run never does is refused", "[engine][fuzzed]") {
  Config config = config_of(10);
  config.policy = GENERATE("full", "infobatch");
  config.warmup = 3;
  Session session(20, config, 1);
  session.set_warning_handler([](const std::string&) {});
  run_epoch(session, 8);
  session.begin();
  detail::SafeTensors file;
  const std::string whole = session.serialize();
  file = detail::read_safetensors(whole);
  std::string& state = file.metadata["state"];
  const std::string key = "\"prunes\":false";
  REQUIRE(state.find(key) != std::string::npos);
  state.replace(state.find(key), key.size(), "\"prunes\":true");
  REQUIRE_THAT(
      message_of<FileError>([&] { session.deserialize(reseal(detail::write_safetensors(file))); }),
      Catch::Matchers::ContainsSubstring("samples left out of epoch 1, which has them all"));
}
