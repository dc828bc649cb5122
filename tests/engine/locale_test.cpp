#include <infobatch/config.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <clocale>
#include <cmath>
#include <cstdint>
#include <limits>
#include <locale>
#include <string>

// Messages, configs and states are the same under every locale.

using namespace infobatch;
using namespace infobatch::testing;
using detail::message;

namespace {

/// 1234567.5 is 1.234.567,5.
class GroupedNumbers : public std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};

/// While it lives, C++ streams group digits, and C writes numbers as in the locale of that name
/// where the machine has it.
class ForeignLocale {
 public:
  explicit ForeignLocale(const char* name) : before_c_(std::setlocale(LC_ALL, nullptr)) {
    before_ = std::locale::global(std::locale(std::locale::classic(), new GroupedNumbers));
    std::setlocale(LC_ALL, name);
  }
  ~ForeignLocale() {
    std::locale::global(before_);
    std::setlocale(LC_ALL, before_c_.c_str());
  }
  ForeignLocale(const ForeignLocale&) = delete;
  ForeignLocale& operator=(const ForeignLocale&) = delete;

 private:
  std::string before_c_;
  std::locale before_;
};

struct Texts {
  std::string numbers;
  std::string refusal;
  std::string config;
  std::string state;
};

Texts texts_of_a_run() {
  Texts texts;
  texts.numbers =
      message(1234567, ' ', std::int64_t{INT64_MIN}, ' ', UINT64_MAX, ' ', 1234.5, ' ', 0.25f);
  texts.refusal = message_of<InvalidArgument>([] {
    Config::from_json("{\"epochs\": 5000000000, \"prune_ratio\": 1.25, \"delta\": 1234567}");
  });
  Config config = config_of(1234567, 0.1 + 0.2);
  config.delta = 1.0 / 3.0;
  config.seed = UINT64_MAX;
  config.quantiles = {1e-9, 0.75};
  texts.config = config.to_json();
  REQUIRE(Config::from_json(texts.config) == config);
  Session session(2000, config, 1);
  session.set_warning_handler([](const std::string&) {});
  run_epoch(session, 300);
  session.begin();
  texts.state = session.serialize();
  Session other(2000, config, 1);
  other.set_warning_handler([](const std::string&) {});
  other.deserialize(texts.state);
  REQUIRE(other.serialize() == texts.state);
  return texts;
}

}  // namespace

TEST_CASE("no text follows the locale", "[engine][locale]") {
  const Texts own = texts_of_a_run();
  const char* name = GENERATE("de_DE.UTF-8",  // 0,5
                              "fr_FR.UTF-8",
                              "ps_AF.UTF-8");  // a decimal point of two bytes
  CAPTURE(name);
  Texts foreign;
  {
    const ForeignLocale locale(name);
    foreign = texts_of_a_run();
  }
  REQUIRE(own.numbers == "1234567 -9223372036854775808 18446744073709551615 1234.5 0.25");
  REQUIRE(foreign.numbers == own.numbers);
  REQUIRE(foreign.refusal == own.refusal);
  REQUIRE(foreign.config == own.config);
  REQUIRE(foreign.state == own.state);
}

TEST_CASE("a message joins parts of every type", "[engine][message]") {
  const std::string text = "text";
  const char* pointer = "pointer";
  REQUIRE(message("array ", text, ' ', pointer, ' ', std::string_view("view")) ==
          "array text pointer view");
  REQUIRE(message(true, false, 'c', std::uint8_t{65}, std::int8_t{-1}) == "10c65-1");
  enum Small : std::uint8_t { kTwo = 2 };
  REQUIRE(message(kTwo, std::int16_t{-7}, std::size_t{8}) == "2-78");
  REQUIRE(message() == "");
}

TEST_CASE("numbers in messages have the digits that tell them apart", "[engine][message]") {
  REQUIRE(message(0.5) == "0.5");
  REQUIRE(message(0.0) == "0");
  REQUIRE(message(-0.0) == "-0");
  REQUIRE(message(1e6) == "1e+06");
  REQUIRE(message(999999.0) == "999999");
  REQUIRE(message(1234567.0) == "1234567");
  REQUIRE(message(0.1f) == "0.1");
  REQUIRE(message(std::nextafter(0.1f, 1.0f)) == "0.10000001");
  REQUIRE(message(std::nextafter(1.0, 2.0)) == "1.0000000000000002");
  REQUIRE(message(5e-324) == "4.94066e-324");
  REQUIRE(message(std::numeric_limits<double>::max()) == "1.7976931348623157e+308");
  REQUIRE(message(std::numeric_limits<double>::infinity()) == "inf");
  REQUIRE(message(-std::numeric_limits<double>::infinity()) == "-inf");
  REQUIRE(message(std::numeric_limits<double>::quiet_NaN()) == "nan");
}
