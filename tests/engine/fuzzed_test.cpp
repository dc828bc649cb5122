#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

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
