#include <infobatch/config.hpp>
#include <infobatch/detail/annealing.hpp>
#include <infobatch/error.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string refusal(const std::string& json) {
  return message_of<InvalidArgument>([&] { Config::from_json(json); });
}

}  // namespace

TEST_CASE("a config survives JSON to the bit", "[engine][config]") {
  Config config = config_of(123, 0.1 + 0.2);
  config.delta = 1.0 / 3.0;
  config.warmup = 5;
  config.seed = std::numeric_limits<std::uint64_t>::max();
  config.policy = "infobatch_quantile";
  config.keep = "exact";
  config.rescale = false;
  config.target_saved = 0.1;
  config.max_prune_ratio = 0.7 + 1e-16;
  config.quantiles = {1e-9, 0.1 + 0.2, 1.0 - 1e-9};
  config.quantile_keep = {1.0, 2.0 / 3.0, 0.5};
  config.score_ema = 5e-324;
  REQUIRE(Config::from_json(config.to_json()) == config);
  REQUIRE(Config::from_json(config.to_json()).to_json() == config.to_json());
  config.target_saved.reset();
  REQUIRE(Config::from_json(config.to_json()) == config);
  for (int i = 0; i < 200; ++i) {
    config.prune_ratio = uniform(7, static_cast<std::uint64_t>(i));
    REQUIRE(Config::from_json(config.to_json()) == config);
  }
}

TEST_CASE("missing keys keep their defaults", "[engine][config]") {
  REQUIRE(Config::from_json("{}") == Config());
  Config config;
  config.epochs = 90;
  REQUIRE(Config::from_json("{\"epochs\": 90}") == config);
  REQUIRE(Config::from_json("{\"prune_ratio\": 0}").prune_ratio == 0.0);  // an integer is a number
}

TEST_CASE("every field counts in the comparison", "[engine][config]") {
  const std::vector<std::string> others = {"{\"epochs\":2}",
                                           "{\"prune_ratio\":0.4}",
                                           "{\"delta\":0.5}",
                                           "{\"warmup\":2}",
                                           "{\"seed\":1}",
                                           "{\"policy\":\"full\"}",
                                           "{\"keep\":\"exact\"}",
                                           "{\"rescale\":false}",
                                           "{\"target_saved\":0.0}",
                                           "{\"max_prune_ratio\":0.8}",
                                           "{\"quantiles\":[0.3,0.85]}",
                                           "{\"quantile_keep\":[0.25,0.6]}",
                                           "{\"score_ema\":0.5}"};
  for (const std::string& json : others) {
    const Config other = Config::from_json(json);
    REQUIRE(other != Config());
    for (const std::string& again : others) {
      REQUIRE((Config::from_json(again) == other) == (again == json));
    }
  }
}

TEST_CASE("JSON of the wrong kind is refused, all problems at once", "[engine][config]") {
  REQUIRE_THAT(refusal("nonsense"),
               ContainsSubstring("Config::from_json: the text must be a JSON "
                                 "object, got malformed JSON"));
  REQUIRE_THAT(refusal("[1]"), ContainsSubstring("got array"));
  REQUIRE_THAT(refusal("{\"epochs\": 10,}"), ContainsSubstring("malformed"));
  REQUIRE_THAT(refusal("{\"epoch\": 10}"), ContainsSubstring("unknown key \"epoch\""));
  REQUIRE_THAT(refusal("{\"epochs\": 1.5}"),
               ContainsSubstring("epochs must be an integer of 64 bits, got 1.5"));
  REQUIRE_THAT(refusal("{\"epochs\": true}"), ContainsSubstring("got true"));
  REQUIRE_THAT(refusal("{\"epochs\": 18446744073709551615}"),
               ContainsSubstring("epochs must be an integer of 64 bits"));
  REQUIRE_THAT(refusal("{\"seed\": -1}"),
               ContainsSubstring("seed must be an integer in [0, 2^64), got -1"));
  REQUIRE_THAT(refusal("{\"rescale\": 1}"), ContainsSubstring("rescale must be true or false"));
  REQUIRE_THAT(refusal("{\"policy\": 3}"), ContainsSubstring("policy must be a string"));
  REQUIRE_THAT(refusal("{\"quantiles\": [0.1, \"x\"]}"),
               ContainsSubstring("quantiles must be an array of numbers"));
  REQUIRE_THAT(refusal("{\"target_saved\": \"x\"}"),
               ContainsSubstring("target_saved must be a number"));
  const std::string all = refusal("{\"a\": 1, \"epochs\": 0, \"keep\": [], \"delta\": 7}");
  for (const char* part : {"unknown key \"a\"",
                           "epochs must be in",
                           "keep must be a string",
                           "delta must be in (0, 1], got 7"}) {
    REQUIRE_THAT(all, ContainsSubstring(part));
  }
}

TEST_CASE("JSON that says a thing twice or not at all is refused", "[engine][config]") {
  REQUIRE_THAT(refusal("{\"epochs\": 5, \"epochs\": 50}"),
               ContainsSubstring("key \"epochs\" stands there twice"));
  REQUIRE_THAT(
      refusal("{\"epochs\": 0, \"x\": {\"a\": 1, \"a\": 1}, \"x\": 2}"),
      ContainsSubstring("key \"x\" stands there twice") && ContainsSubstring("epochs must be"));
  REQUIRE_THAT(refusal("{\"epochs\": 5, \"delta\": 1e999}"),
               ContainsSubstring("a number beyond the range of float64"));
  REQUIRE_THAT(refusal(std::string("{\"epochs\": 5}\0{}", 16)),
               ContainsSubstring("malformed JSON at byte 14"));
  REQUIRE_THAT(refusal("{\"epochs\": 5, \"delta\": 1e-10}"),
               ContainsSubstring("delta must be in (0, 1], got 1e-10, which is 0 billionths"));
}

TEST_CASE("a share to save that cannot be reached is told beside other problems",
          "[engine][config]") {
  REQUIRE_THAT(refusal("{\"epochs\": 40, \"target_saved\": 0.9, \"keep\": \"x\", "
                       "\"prune_ratio\": 2, \"score_ema\": 3}"),
               ContainsSubstring("target_saved must be at most 0.765") &&
                   ContainsSubstring("prune_ratio must be") && ContainsSubstring("keep must be") &&
                   ContainsSubstring("score_ema must be"));
}

TEST_CASE("a wrong value of any depth or length is refused in a short line", "[engine][config]") {
  const std::string deep =
      "{\"epochs\": " + std::string(100000, '[') + std::string(100000, ']') + "}";
  const std::string text = refusal(deep);
  REQUIRE_THAT(text, ContainsSubstring("epochs must be an integer of 64 bits, got an array"));
  REQUIRE(text.size() < 200);
  const std::string long_text = refusal("{\"epochs\": \"" + std::string(100000, 'x') + "\"}");
  REQUIRE_THAT(long_text, ContainsSubstring("epochs must be an integer of 64 bits, got \"xxx"));
  REQUIRE(long_text.size() < 300);
}

TEST_CASE("a refused value is shown with the digits that tell it from what is allowed",
          "[engine][config]") {
  REQUIRE_THAT(refusal("{\"epochs\": 9, \"prune_ratio\": 1.0000000001}"),
               ContainsSubstring("got 1.0000000001"));
  REQUIRE_THAT(refusal("{\"epochs\": 9, \"delta\": 1.5}"), ContainsSubstring("got 1.5"));
  REQUIRE(detail::message("x = ", 0.1, ", ", 1.0, ", ", 0.1 + 0.2) ==
          "x = 0.1, 1, 0.30000000000000004");
}

TEST_CASE("shares are cut down in integers", "[engine][config]") {
  REQUIRE(floor_fraction(billionths(0.29), 100) == 29);
  REQUIRE(floor_fraction(billionths(0.57), 100) == 57);
  REQUIRE(floor_fraction(billionths(1.0), 123) == 123);
  REQUIRE(floor_fraction(billionths(0.0), 123) == 0);
  REQUIRE(floor_fraction(billionths(0.999999999), 1000000000) == 999999999);
  const std::int64_t large = std::int64_t{1} << 62;
  REQUIRE(floor_fraction(billionths(1.0), large) == large);
  REQUIRE(floor_fraction(billionths(0.5), large) == large / 2);
}
