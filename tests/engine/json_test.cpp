#include <infobatch/config.hpp>
#include <infobatch/detail/json.hpp>
#include <infobatch/detail/json_fields.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/error.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

// JSON as states, files and configs are read and written.

using namespace infobatch;
using namespace infobatch::detail;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;
using Kind = JsonValue::Kind;

namespace {

std::string complaint(const std::string& text, int deepest = 8) {
  return message_of<JsonError>([&] { parse_json(text, deepest); });
}

std::string nested(int depth) {
  const auto brackets = static_cast<std::size_t>(depth);
  return std::string(brackets, '[') + std::string(brackets, ']');
}

/// {"k0":0,"k1":1,...}
std::string object_of(int keys) {
  JsonWriter json;
  json.begin_object();
  for (int i = 0; i < keys; ++i) json.member("k" + std::to_string(i), i);
  return json.end_object().take();
}

double seconds_of(const std::function<void()>& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::uint64_t bits(double value) {
  std::uint64_t word = 0;
  std::memcpy(&word, &value, sizeof word);
  return word;
}

}  // namespace

TEST_CASE("JSON of every kind is read", "[engine][json]") {
  const JsonValue json = parse_json(
      " {\"z\": null, \"b\": [true, false, -3, 4, 0.5, \"t\", {}, []], \"a\": {\"x\": 1}} ", 8);
  REQUIRE(json.is_object());
  REQUIRE(json.members.size() == 3);
  REQUIRE(json.members[0].key == "z");  // in the order of the text
  REQUIRE(json.find("z")->kind == Kind::kNull);
  REQUIRE(json.find("missing") == nullptr);
  REQUIRE(json.find("z")->find("z") == nullptr);
  const std::vector<JsonValue>& items = json.find("b")->items;
  REQUIRE(items.size() == 8);
  REQUIRE(items[0].as<bool>() == true);
  REQUIRE(items[1].as<bool>() == false);
  REQUIRE(items[2].as<std::int64_t>() == -3);
  REQUIRE(items[3].as<std::uint64_t>() == 4u);
  REQUIRE(items[4].as<double>() == 0.5);
  REQUIRE(items[5].as<std::string>() == "t");
  REQUIRE(items[6].is_object());
  REQUIRE(items[7].is_array());
  REQUIRE(json.find("a")->find("x")->as<std::int64_t>() == 1);
  REQUIRE(to_text(json) == "{\"z\":null,\"b\":[true,false,-3,4,0.5,\"t\",{},[]],\"a\":{\"x\":1}}");
  REQUIRE(parse_json("7", 0).as<std::int64_t>() == 7);
}

TEST_CASE("a value is read as no other type than its own", "[engine][json]") {
  const auto value = [](const char* text) { return parse_json(text, 1); };
  REQUIRE_FALSE(value("1.5").as<std::int64_t>());
  REQUIRE_FALSE(value("1.0").as<std::int64_t>());
  REQUIRE_FALSE(value("true").as<std::int64_t>());
  REQUIRE_FALSE(value("true").as<double>());
  REQUIRE_FALSE(value("1").as<bool>());
  REQUIRE_FALSE(value("-1").as<std::uint64_t>());
  REQUIRE_FALSE(value("\"1\"").as<double>());
  REQUIRE_FALSE(value("null").as<std::string>());
  REQUIRE(value("1").as<double>() == 1.0);
  REQUIRE(value("-1").as<double>() == -1.0);
}

TEST_CASE("whole numbers are exact up to 64 bits, and floats beyond", "[engine][json]") {
  const auto value = [](const char* text) { return parse_json(text, 1); };
  REQUIRE(value("-9223372036854775808").as<std::int64_t>() == INT64_MIN);
  REQUIRE(value("9223372036854775807").as<std::int64_t>() == INT64_MAX);
  REQUIRE(value("18446744073709551615").as<std::uint64_t>() == UINT64_MAX);
  REQUIRE_FALSE(value("9223372036854775808").as<std::int64_t>());
  REQUIRE(value("9223372036854775808").as<std::uint64_t>() == std::uint64_t{1} << 63);
  REQUIRE(value("18446744073709551616").kind == Kind::kFloat);
  REQUIRE(value("18446744073709551616").as<double>() == 0x1p64);
  REQUIRE(value("-9223372036854775809").as<double>() == -0x1p63);
  REQUIRE(value("-0").as<std::int64_t>() == 0);
  REQUIRE(value("-0").as<std::uint64_t>() == 0u);
  REQUIRE(bits(*value("-0.0").as<double>()) == bits(-0.0));
  REQUIRE(to_text(value("-9223372036854775808")) == "-9223372036854775808");
  REQUIRE(to_text(value("18446744073709551615")) == "18446744073709551615");
}

TEST_CASE("a number beyond float64 is refused, one below its smallest is 0", "[engine][json]") {
  for (const char* text : {"1e999", "[-1e999]", "{\"a\": 1e309}"}) {
    REQUIRE(complaint(text) == "a number beyond the range of float64");
  }
  REQUIRE(complaint(std::string(400, '9')) == "a number beyond the range of float64");
  REQUIRE(parse_json("1e-999", 1).as<double>() == 0.0);
  REQUIRE(parse_json("1.7976931348623157e308", 1).as<double>() ==
          std::numeric_limits<double>::max());
}

TEST_CASE("depth has a limit that is told", "[engine][json]") {
  REQUIRE(parse_json(nested(8), 8).is_array());
  REQUIRE(complaint(nested(9)) == "JSON of a depth above 8");
  REQUIRE(complaint(nested(1'000'000)) == "JSON of a depth above 8");
  REQUIRE(complaint(std::string(1'000'000, '[')) == "JSON of a depth above 8");
  REQUIRE(complaint("{\"a\":{\"b\":{}}}", 2) == "JSON of a depth above 2");
  REQUIRE(complaint("[]", 0) == "JSON of a depth above 0");
}

TEST_CASE("a reader of all problems finds deeper values empty", "[engine][json]") {
  RepeatedKeys repeated;
  const JsonValue json =
      parse_json("{\"a\": [1, {\"x\": [2], \"x\": 3}, [], 4], \"b\": 5}", 2, repeated);
  REQUIRE(to_text(json) == "{\"a\":[1,{},[],4],\"b\":5}");
  REQUIRE(parse_json("{\"a\":" + nested(1'000'000) + "}", 1, repeated).members.size() == 1);
  REQUIRE(repeated.named.empty());
  REQUIRE_THROWS_AS(parse_json("{\"a\": [[1}", 1, repeated), JsonError);
}

TEST_CASE("a key that stands in an object twice is refused or listed", "[engine][json]") {
  REQUIRE(complaint("{\"a\": 1, \"b\": 2, \"a\": 3}") == "key \"a\" stands there twice");
  REQUIRE(complaint("[{\"x\": {\"\\n\": 1, \"\\u000a\": 3}}]") == "key \"\\n\" stands there twice");
  RepeatedKeys repeated;
  const JsonValue json = parse_json(
      "{\"e\":0,\"d\":1,\"c\":2,\"b\":3,\"a\":4,\"e\":5,\"e\":6,\"b\":7,\"a\":{\"x\":1,\"x\":2},"
      "\"c\":8,\"d\":9}",
      8,
      repeated);
  REQUIRE(repeated.named == std::vector<std::string>{"e", "b", "a"});
  REQUIRE(repeated.more == 2);
  REQUIRE(to_text(json) == "{\"e\":0,\"d\":1,\"c\":2,\"b\":3,\"a\":4}");  // the first counts
  REQUIRE(json.find("b")->as<std::int64_t>() == 3);
}

TEST_CASE("a zero byte is malformed where it stands", "[engine][json]") {
  REQUIRE(complaint(std::string("{}\0", 3)) == "malformed JSON at byte 3");
  REQUIRE(complaint(std::string("{\"a\": 1}\0{}", 11)) == "malformed JSON at byte 9");
  REQUIRE(complaint(std::string("{\0}", 3)) == "malformed JSON at byte 2");
  REQUIRE(complaint(std::string("\"\0\"", 3)) == "malformed JSON at byte 2");
  REQUIRE(parse_json("\"\\u0000\"", 1).text == std::string(1, '\0'));
}

TEST_CASE("malformed JSON is refused with its byte", "[engine][json]") {
  REQUIRE(complaint("") == "malformed JSON at byte 1");
  REQUIRE(complaint("{\"a\": 1,}") == "malformed JSON at byte 9");
  for (const char* text : {"nul",   "[1 2]",     "{1: 2}",   "{\"a\" 1}",   "[1,]",
                           "01",    "1.",        "+1",       ".5",          "[1]]",
                           "\"a",   "\"\n\"",    "'a'",      "\"\\x\"",     "NaN",
                           "inf",   "// a\n1",   "\"\xff\"", "\"\\ud800\"", "\"\xed\xa0\x80\"",
                           "{} {}", "\"\\u12\"", "-",        "1e"}) {
    CAPTURE(text);
    REQUIRE_THAT(complaint(text), ContainsSubstring("malformed JSON at byte "));
  }
}

TEST_CASE("JSON cut short anywhere is refused", "[engine][json]") {
  const std::string whole =
      "{\"a\": [true, null, -1.5e-3, \"\\u00e9\\ud83d\\ude00\\\"\"], \"b\": {\"c\": {}}}";
  REQUIRE(parse_json(whole, 8).is_object());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    REQUIRE_THROWS_AS(parse_json(std::string_view(whole).substr(0, size), 8), JsonError);
  }
}

TEST_CASE("a changed byte in JSON is refused, or read as other JSON", "[engine][json][slow]") {
  const std::string whole = "{\"a\":[true,null,-1.5e-3,\"\\u00e9\\\"x\"],\"b\":{\"c\":[12,{}]}}";
  std::mt19937 random(3);
  for (int trial = 0; trial < 20000; ++trial) {
    std::string text = whole;
    for (unsigned flips = static_cast<unsigned>(1 + random() % 3); flips > 0; --flips) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    try {
      const JsonValue json = parse_json(text, 8);
      REQUIRE(parse_json(to_text(json), 8) == json);
    } catch (const JsonError&) {
    }
  }
}

TEST_CASE("texts are escaped as JSON asks and read back", "[engine][json]") {
  std::string all;
  for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
  all += "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
  const std::string written = JsonWriter().value(all).take();
  REQUIRE(parse_json(written, 1).text == all);
  REQUIRE_THAT(written, ContainsSubstring("\\u0000\\u0001"));
  REQUIRE_THAT(written, ContainsSubstring("\\b\\t\\n\\u000b\\f\\r\\u000e"));
  REQUIRE_THAT(written, ContainsSubstring("!\\\"#") && ContainsSubstring("[\\\\]"));
  REQUIRE(parse_json("\"\\u00e9\\u20ac\\uD83D\\uDE00\\/\"", 1).text ==
          "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80/");
}

TEST_CASE("text that is no UTF-8 is written with the replacement character", "[engine][json]") {
  const std::string mark = "\xef\xbf\xbd";
  const auto written = [](const std::string& text) { return JsonWriter().value(text).take(); };
  REQUIRE(written("a\xff"
                  "b") == "\"a" + mark + "b\"");
  REQUIRE(written("\xc3") == "\"" + mark + "\"");
  REQUIRE(written("\xc3\"") == "\"" + mark + "\\\"\"");
  REQUIRE(written("\xc0\xaf") == "\"" + mark + mark + "\"");                        // overlong
  REQUIRE(written("\xed\xa0\x80") == "\"" + mark + mark + mark + "\"");             // a surrogate
  REQUIRE(written("\xf4\x90\x80\x80") == "\"" + mark + mark + mark + mark + "\"");  // beyond
  std::mt19937 random(4);
  for (int trial = 0; trial < 20000; ++trial) {
    std::string text(1 + random() % 6, '\0');
    for (char& c : text)
      c = static_cast<char>(random() % 4 == 0 ? random() % 128 : 128 + random() % 128);
    REQUIRE_NOTHROW(parse_json(written(text), 1));
  }
}

TEST_CASE("doubles are written so that they read back to the bit", "[engine][json][slow]") {
  const auto written = [](double value) { return JsonWriter().value(value).take(); };
  REQUIRE(written(1.0) == "1.0");
  REQUIRE(written(-0.0) == "-0.0");
  REQUIRE(written(0.1) == "0.1");
  REQUIRE(written(1e22) == "1e+22");
  REQUIRE(written(1.5f) == "1.5");
  REQUIRE(written(std::numeric_limits<double>::infinity()) == "null");
  REQUIRE(written(std::numeric_limits<double>::quiet_NaN()) == "null");
  std::mt19937_64 random(5);
  const auto check = [&](double value) {
    const JsonValue json = parse_json(written(value), 1);
    REQUIRE(json.kind == Kind::kFloat);
    REQUIRE(bits(json.real) == bits(value));
  };
  for (const double value : {0.0, -0.0, 5e-324, -2.2250738585072014e-308, 1.7976931348623157e308}) {
    check(value);
  }
  for (int trial = 0; trial < 100000; ++trial) {
    const std::uint64_t word = random();
    double value = 0;
    std::memcpy(&value, &word, sizeof value);
    if (std::isfinite(value)) check(value);
    check(std::ldexp(static_cast<double>(word % 1000000), static_cast<int>(word >> 60) - 8));
  }
}

TEST_CASE("equal JSON is equal in any order of its members", "[engine][json]") {
  const auto json = [](const char* text) { return parse_json(text, 8); };
  REQUIRE(json("{\"a\":1,\"b\":[1,2]}") == json("{\"b\":[1,2],\"a\":1}"));
  REQUIRE(json("{\"a\":1}") != json("{\"a\":1,\"b\":2}"));
  REQUIRE(json("{\"a\":1}") != json("{\"b\":1}"));
  REQUIRE(json("[1,2]") != json("[2,1]"));
  REQUIRE(json("1") != json("1.0"));
  REQUIRE(json("true") != json("false"));
}

TEST_CASE("a value in a message is short", "[engine][json]") {
  REQUIRE(in_quotes(parse_json("[1]", 8)) == "an array");
  REQUIRE(in_quotes(parse_json("{}", 8)) == "an object");
  REQUIRE(in_quotes(parse_json("1.50", 8)) == "1.5");
  REQUIRE(in_quotes(parse_json("null", 8)) == "null");
  REQUIRE(in_quotes("a\"b") == "\"a\\\"b\"");
  REQUIRE(in_quotes(std::string(78, 'x')) == "\"" + std::string(78, 'x') + "\"");
  REQUIRE(in_quotes(std::string(79, 'x')) == "\"" + std::string(79, 'x') + "...");
  REQUIRE(in_quotes(std::string(1'000'000, '\n')).size() <= 83);
  std::string accents;
  for (int i = 0; i < 50; ++i) accents += "\xc3\xa9";
  REQUIRE(in_quotes(accents) == "\"" + accents.substr(0, 78) + "...");  // no half character
}

TEST_CASE("fields that are missing or of another kind are named", "[engine][json]") {
  const JsonValue json = parse_json("{\"n\": 5, \"x\": 1.5, \"o\": {}, \"big\": 1e2}", 8);
  const auto told = [&](const std::function<void()>& call) { return message_of<JsonError>(call); };
  REQUIRE(get<std::int64_t>(json, "n") == 5);
  REQUIRE(get<double>(json, "n") == 5.0);
  REQUIRE(get_count(json, "n", 5) == 5);
  REQUIRE(get_object(json, "o").members.empty());
  REQUIRE(told([&] { get<bool>(json, "b"); }) == "no b");
  REQUIRE(told([&] { get<std::int64_t>(json, "x"); }) == "x = 1.5");
  REQUIRE(told([&] { get<std::int64_t>(json, "big"); }) == "big = 100.0");
  REQUIRE(told([&] { get<std::string>(json, "o"); }) == "o = an object");
  REQUIRE(told([&] { get_object(json, "n"); }) == "n = 5");
  REQUIRE(told([&] { get_count(json, "n", 4); }) == "n = 5");
  REQUIRE(told([&] { get_value(json, "v"); }) == "no v");
}

TEST_CASE("an object of 100,000 keys is read in time proportional to its size",
          "[engine][json][timing]") {
  const std::string text = object_of(100'000);
  REQUIRE(text.size() > 1'000'000);
  JsonValue json;
  REQUIRE(seconds_of([&] { json = parse_json(text, 1); }) < 5.0);
  REQUIRE(json.members.size() == 100'000);
  REQUIRE(seconds_of([&] {
            for (const JsonMember& member : json.members) {
              if (json.find(member.key) != &member.value) throw JsonError(member.key);
            }
          }) < 5.0);
}

TEST_CASE("unknown keys beyond a few are counted", "[engine][config][timing]") {
  std::string refusal;
  const std::string text = object_of(100'000);
  REQUIRE(seconds_of([&] {
            refusal = message_of<InvalidArgument>([&] { Config::from_json(text); });
          }) < 5.0);
  REQUIRE(
      refusal ==
      "Config::from_json: unknown key \"k0\"; unknown key \"k1\"; unknown key \"k2\"; and 99997 "
      "more unknown keys");
  std::string twice = text;
  twice.back() = ',';
  twice += text.substr(1);
  REQUIRE(seconds_of([&] {
            refusal = message_of<InvalidArgument>([&] { Config::from_json(twice); });
          }) < 5.0);
  REQUIRE_THAT(refusal,
               ContainsSubstring("key \"k2\" stands there twice; and 99997 more keys that "
                                 "stand there twice; unknown key \"k0\""));
  REQUIRE(refusal.size() < 2000);
  refusal = message_of<InvalidArgument>(
      [&] { Config::from_json("{\"" + std::string(100'000, 'x') + "\": 1, \"a\\u0000\": 2}"); });
  REQUIRE(refusal.size() < 300);
  REQUIRE_THAT(refusal, ContainsSubstring("unknown key \"a\\u0000\""));
  REQUIRE_THAT(
      message_of<InvalidArgument>([] { Config::from_json("{\"d\":1,\"c\":1,\"b\":1,\"a\":1}"); }),
      ContainsSubstring("\"d\"; unknown key \"c\"; unknown key \"b\"; and 1 more unknown key"));
}

TEST_CASE("a config of long texts and lists is refused in a short line", "[engine][config]") {
  const std::string words = JsonWriter().value(std::string(100'000, 'x')).take();
  const std::string ratios = JsonWriter().value(std::vector<double>(100'000, 7.0)).take();
  const std::string refusal = message_of<InvalidArgument>([&] {
    Config::from_json("{\"policy\":" + words + ",\"keep\":" + words + ",\"whole_batches\":8" +
                      ",\"quantiles\":" + ratios + ",\"quantile_keep\":" + ratios + "}");
  });
  REQUIRE(refusal.size() < 2000);
  for (const char* name : {"policy must", "keep must", "quantiles must", "quantile_keep must"}) {
    REQUIRE_THAT(refusal, ContainsSubstring(name));
  }
  REQUIRE_THAT(message_of<InvalidArgument>([] { Config::from_json("{\"keep\":\"a\\u0000b\"}"); }),
               ContainsSubstring("keep must be one of bernoulli, exact; got \"a\\u0000b\""));
}

TEST_CASE("the problems of a config given as JSON are listed", "[engine][config]") {
  const auto problems = [](const std::string& text) { return config_problems(text); };
  REQUIRE(problems("{}").empty());
  REQUIRE(problems(Config().to_json()).empty());
  REQUIRE(problems("{") ==
          std::vector<std::string>{"the text must be a JSON object, got malformed JSON at byte 2"});
  REQUIRE(problems("[]") == std::vector<std::string>{"the text must be a JSON object, got array"});
  REQUIRE(problems("{\"epochs\": 0, \"x\": 1, \"keep\": 7, \"policy\": \"\\ud83d\\ude00\"}") ==
          std::vector<std::string>{"keep must be a string, got 7",
                                   "unknown key \"x\"",
                                   "epochs must be in [1, 4294967295], got 0",
                                   "policy must be one of " + detail::join(policy_names(), ", ") +
                                       "; got \"\xf0\x9f\x98\x80\""});
}
