#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>
#include <infobatch/session/columns.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

// The per-sample state: the scores, and the columns that a user gives.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;
using detail::Columns;

namespace {

constexpr ColumnType kAllTypes[] = {ColumnType::kFloat32,
                                    ColumnType::kFloat64,
                                    ColumnType::kFloat16,
                                    ColumnType::kBFloat16,
                                    ColumnType::kInt8,
                                    ColumnType::kInt16,
                                    ColumnType::kInt32,
                                    ColumnType::kInt64,
                                    ColumnType::kUInt8,
                                    ColumnType::kUInt16,
                                    ColumnType::kUInt32,
                                    ColumnType::kUInt64};
constexpr std::size_t kSizes[] = {4, 8, 2, 2, 1, 2, 4, 8, 1, 2, 4, 8};

/// Bytes without any structure: among them NaNs of every payload, infinities, denormals.
std::string odd_bytes(std::size_t count, std::uint64_t seed) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) {
    const double draw = uniform(seed, i);
    bytes += draw < 0.3 ? '\xff' : draw < 0.4 ? '\x7f' : static_cast<char>(int(draw * 4096.0));
  }
  return bytes;
}

std::string_view bytes_of(const ColumnView& view) {
  const std::size_t each = kSizes[static_cast<std::size_t>(view.type)];
  return {static_cast<const char*>(view.data), static_cast<std::size_t>(view.size) * each};
}

const std::vector<float> kZeros(10, 0.0f);

}  // namespace

TEST_CASE("scores begin as never observed", "[session][columns]") {
  const std::int64_t size = GENERATE(0, 1, 1000);
  Columns columns(size);
  REQUIRE(columns.size() == size);
  for (std::int64_t i = 0; i < size; ++i) {
    REQUIRE(float_bits(columns.scores()[i]) == kNeverObservedBits);
  }
  const ColumnView view = columns.view("score");
  REQUIRE(view.name == "score");
  REQUIRE(view.type == ColumnType::kFloat32);
  REQUIRE(view.size == size);
  REQUIRE(view.data == columns.scores());
}

TEST_CASE("a column of any type keeps every bit pattern", "[session][columns]") {
  for (std::size_t type = 0; type < std::size(kAllTypes); ++type) {
    for (const std::int64_t size : {0, 1, 63, 500}) {
      CAPTURE(type, size);
      REQUIRE(detail::element_size(kAllTypes[type]) == kSizes[type]);
      const std::string values = odd_bytes(kSizes[type] * static_cast<std::size_t>(size), type);
      Columns columns(size);
      columns.set("x", kAllTypes[type], values.data(), false);
      const ColumnView view = columns.view("x");
      REQUIRE(view.type == kAllTypes[type]);
      REQUIRE(view.size == size);
      REQUIRE(bytes_of(view) == values);
      // NaNs are equal to themselves here: the same values may be given again at any time.
      columns.set("x", kAllTypes[type], values.data(), true);
    }
  }
}

TEST_CASE("column names are short words of small letters", "[session][columns]") {
  Columns columns(10);
  const auto set = [&](const std::string& name) {
    columns.set(name, ColumnType::kFloat32, kZeros.data(), false);
  };
  for (const std::string& name : {std::string("a"),
                                  std::string("_"),
                                  std::string("_9"),
                                  std::string("class_2"),
                                  std::string("scores"),
                                  std::string("staged"),
                                  std::string(64, 'z')}) {
    CAPTURE(name);
    REQUIRE_NOTHROW(set(name));
    REQUIRE(columns.find(name) != nullptr);
  }
  const std::size_t count = columns.own().size();
  for (const std::string& name : {std::string(),
                                  std::string("score"),
                                  std::string("9a"),
                                  std::string("A"),
                                  std::string("a b"),
                                  std::string("a.b"),
                                  std::string("a-b"),
                                  std::string("a\0b", 3),
                                  std::string("\xc3\xa4"),
                                  std::string("a\n"),
                                  std::string(65, 'z'),
                                  std::string(100000, 'z')}) {
    CAPTURE(name.substr(0, 80));
    const std::string text = message_of<InvalidArgument>([&] { set(name); });
    REQUIRE_THAT(text, ContainsSubstring("set_column: name must be"));
    REQUIRE(text.size() < 400);
    REQUIRE(columns.find(name) == nullptr);
  }
  REQUIRE(columns.own().size() == count);
}

TEST_CASE("columns are listed in the order of their names", "[session][columns]") {
  Session session(10, config_of(3), 1);
  for (const char* const name : {"m", "z", "a", "_", "b2", "b10"}) {
    session.set_column(name, ColumnType::kFloat32, kZeros.data());
  }
  const std::vector<std::string> sorted = {"score", "_", "a", "b10", "b2", "m", "z"};
  REQUIRE(session.column_names() == sorted);
  REQUIRE_THAT(message_of<InvalidArgument>([&] { session.column("n"); }),
               ContainsSubstring("one of score, _, a, b10, b2, m, z; got \"n\""));
}

TEST_CASE("a column keeps its type, and takes new values in place", "[session][columns]") {
  Columns columns(4);
  const std::vector<std::int32_t> first = {1, 2, 3, 4};
  const std::vector<std::int32_t> second = {5, 6, 7, 8};
  columns.set("x", ColumnType::kInt32, first.data(), false);
  const void* const place = columns.view("x").data;
  columns.set("x", ColumnType::kInt32, second.data(), false);
  REQUIRE(columns.view("x").data == place);
  REQUIRE(std::memcmp(place, second.data(), sizeof(std::int32_t) * 4) == 0);
  REQUIRE_THAT(message_of<InvalidArgument>(
                   [&] { columns.set("x", ColumnType::kUInt32, second.data(), false); }),
               ContainsSubstring("column x must keep its type I32, got U32"));
  for (const int type : {-1, 12, INT32_MAX, INT32_MIN}) {
    REQUIRE_THAT(message_of<InvalidArgument>([&] {
                   columns.set("y", static_cast<ColumnType>(type), second.data(), false);
                 }),
                 ContainsSubstring("type must be one of ColumnType, got " + std::to_string(type)));
  }
  REQUIRE_THAT(
      message_of<InvalidArgument>([&] { columns.set("x", ColumnType::kInt32, nullptr, false); }),
      ContainsSubstring("data must not be null"));
  REQUIRE(std::memcmp(place, second.data(), sizeof(std::int32_t) * 4) == 0);
  REQUIRE(columns.own().size() == 1);
}

TEST_CASE("the user's memory is copied", "[session][columns]") {
  Columns columns(2);
  std::vector<std::int16_t> values = {1, 2};
  columns.set("x", ColumnType::kInt16, values.data(), false);
  values = {3, 4};
  const std::vector<std::int16_t> kept = {1, 2};
  REQUIRE(std::memcmp(columns.view("x").data, kept.data(), sizeof(std::int16_t) * 2) == 0);
}

TEST_CASE("frozen columns take equal values alone", "[session][columns]") {
  Columns columns(3);
  const std::vector<float> values = {0.0f, 1.0f, bits_float(0x7fc12345u)};
  columns.set("x", ColumnType::kFloat32, values.data(), false);
  REQUIRE_NOTHROW(columns.set("x", ColumnType::kFloat32, values.data(), true));
  for (const std::vector<float>& other :
       {std::vector<float>{-0.0f, 1.0f, bits_float(0x7fc12345u)},
        std::vector<float>{0.0f, 1.0f, bits_float(0x7fc12346u)}}) {
    REQUIRE_THAT(
        message_of<StateError>([&] { columns.set("x", ColumnType::kFloat32, other.data(), true); }),
        ContainsSubstring("before the first epoch begins, got other values"));
    REQUIRE(std::memcmp(columns.view("x").data, values.data(), sizeof(float) * 3) == 0);
  }
  REQUIRE_THAT(
      message_of<StateError>([&] { columns.set("y", ColumnType::kFloat32, values.data(), true); }),
      ContainsSubstring("got a new column"));
  REQUIRE(columns.find("y") == nullptr);
}

TEST_CASE("columns of an empty data set need no data", "[session][columns]") {
  Session session(0, config_of(3), 1);
  session.hold_warnings();
  session.set_column("x", ColumnType::kFloat64, nullptr);
  REQUIRE(session.column("x").size == 0);
  session.begin();
  session.set_column("x", ColumnType::kFloat64, nullptr);
  REQUIRE_THROWS_AS(session.set_column("y", ColumnType::kFloat64, nullptr), StateError);
  REQUIRE_THROWS_AS(session.set_column("x", ColumnType::kInt64, nullptr), InvalidArgument);
  const std::string state = session.serialize();
  Session other(0, config_of(3), 1);
  other.hold_warnings();
  REQUIRE_THROWS_AS(other.deserialize(state), InvalidArgument);
  other.set_column("x", ColumnType::kFloat64, nullptr);
  other.deserialize(state);
  REQUIRE(other.serialize() == state);
}

TEST_CASE("columns may change until the first epoch begins", "[session][columns]") {
  Session session(4, config_of(5), 1);
  session.hold_warnings();
  const std::vector<std::int8_t> one = {1, 1, 1, 1};
  const std::vector<std::int8_t> two = {2, 2, 2, 2};
  session.set_column("x", ColumnType::kInt8, one.data());
  REQUIRE(session.length() == 4);  // planned, not begun
  session.set_column("x", ColumnType::kInt8, two.data());
  session.begin();
  session.set_column("x", ColumnType::kInt8, two.data());
  REQUIRE_THROWS_AS(session.set_column("x", ColumnType::kInt8, one.data()), StateError);
  run_batches(session, 2, [](std::int64_t) { return 1.0f; });
  session.length();
  REQUIRE_THROWS_AS(session.set_column("y", ColumnType::kInt8, one.data()), StateError);
  session.set_column("x", ColumnType::kInt8, two.data());
}

TEST_CASE("no column ever moves while the session lives", "[session][columns]") {
  constexpr std::int64_t kSize = 3000;
  Session session(kSize, config_of(6), 2);
  session.hold_warnings();
  const float* const scores = session.scores();
  const std::string values = odd_bytes(kSize * 2, 9);
  session.set_column("m", ColumnType::kInt16, values.data());
  const void* const place = session.column("m").data;
  const auto unmoved = [&] {
    REQUIRE(session.scores() == scores);
    REQUIRE(session.column("score").data == scores);
    REQUIRE(session.column("m").data == place);
    REQUIRE(std::memcmp(place, values.data(), values.size()) == 0);
  };
  for (int i = 0; i < 40; ++i) {  // others, before and behind it
    session.set_column("a" + std::to_string(i), ColumnType::kInt16, values.data());
    session.set_column("z" + std::to_string(i), ColumnType::kInt16, values.data());
    unmoved();
  }
  const std::string at_start = session.serialize();
  run_epoch(session, 256);
  unmoved();
  session.length();  // a look
  unmoved();
  session.begin();
  unmoved();
  session.set_epoch(4);
  unmoved();
  session.deserialize(at_start);
  unmoved();
  REQUIRE(session.serialize() == at_start);
}

TEST_CASE("columns are part of the state and must be equal on load", "[session][columns]") {
  const std::int64_t size = 6;
  const std::vector<float> values = {0.0f, -0.0f, 1.0f, bits_float(0x7f800001u), 3.0f, 4.0f};
  const auto make = [&](const std::vector<std::string>& names) {
    auto session = std::make_unique<Session>(size, config_of(4), 1);
    session->hold_warnings();
    for (const std::string& name : names) {
      session->set_column(name, ColumnType::kFloat32, values.data());
    }
    return session;
  };
  const auto saver = make({"b", "a"});
  run_epoch(*saver, 4);
  const std::string state = saver->serialize();
  const auto refusal = [&](Session& session) {
    const std::string before = session.serialize();
    const std::string text = message_of<InvalidArgument>([&] { session.deserialize(state); });
    REQUIRE(session.serialize() == before);
    return text;
  };

  const auto same = make({"a", "b"});
  same->deserialize(state);
  REQUIRE(same->serialize() == state);
  REQUIRE(bytes_of(same->column("a")) == bytes_of(saver->column("a")));

  REQUIRE_THAT(refusal(*make({"a"})), ContainsSubstring("column b: saved -> not set"));
  REQUIRE_THAT(refusal(*make({"a", "b", "c"})), ContainsSubstring("column c: not saved -> set"));
  const auto typed = make({"a"});
  typed->set_column("b", ColumnType::kInt32, values.data());
  REQUIRE_THAT(refusal(*typed), ContainsSubstring("column b: F32 -> I32"));
  const auto valued = make({"a"});
  std::vector<float> other = values;
  other[1] = 0.0f;  // equal in arithmetic, another value
  valued->set_column("b", ColumnType::kFloat32, other.data());
  REQUIRE_THAT(refusal(*valued), ContainsSubstring("column b: other values"));
  const auto all = make({"c"});
  all->set_column("a", ColumnType::kInt32, values.data());
  const std::string text = refusal(*all);
  for (const char* const part :
       {"column a: F32 -> I32", "column b: saved", "column c: not saved"}) {
    REQUIRE_THAT(text, ContainsSubstring(part));
  }
}
