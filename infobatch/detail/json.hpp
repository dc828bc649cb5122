#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace infobatch::detail {

/// A text is no JSON, or not the JSON that is needed: a few words such as "malformed JSON at byte
/// 12", for the message of whoever reads it.
class JsonError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct JsonMember;

/// A JSON value. Destruction and moves never allocate, and recurse as deep as the value is.
struct JsonValue {
  enum class Kind : std::uint8_t {
    kNull,
    kBool,
    kInteger,   ///< below zero, in `integer`
    kUnsigned,  ///< a whole number from zero on, in `natural`
    kFloat,     ///< with a point or an exponent, or beyond 64 bits; finite
    kString,
    kArray,
    kObject,
  };

  Kind kind = Kind::kNull;
  union {
    std::uint64_t natural = 0;
    std::int64_t integer;
    double real;
    bool truth;
  };
  std::string text;                 ///< of a string
  std::vector<JsonValue> items;     ///< of an array
  std::vector<JsonMember> members;  ///< of an object, as they stood in the text; keys differ
  std::vector<std::size_t> by_key;  ///< the members' indices, in the order of their keys

  bool is_array() const { return kind == Kind::kArray; }
  bool is_object() const { return kind == Kind::kObject; }
  bool is_number() const;

  /// The value of a member, nullptr where there is none or this is no object. O(log members).
  const JsonValue* find(std::string_view key) const;

  /// The value as a T, empty where it is of another kind or does not fit: bool, std::int64_t,
  /// std::uint64_t, double (any number), std::string. 1.5 is no integer, and true no number.
  template <typename T>
  std::optional<T> as() const;

  /// Equal in kind and value; members in any order.
  bool operator==(const JsonValue& other) const;
  bool operator!=(const JsonValue& other) const { return !(*this == other); }
};

struct JsonMember {
  std::string key;
  JsonValue value;
};

template <>
std::optional<bool> JsonValue::as() const;
template <>
std::optional<std::int64_t> JsonValue::as() const;
template <>
std::optional<std::uint64_t> JsonValue::as() const;
template <>
std::optional<double> JsonValue::as() const;
template <>
std::optional<std::string> JsonValue::as() const;

/// Keys that stand in an object more than once.
struct RepeatedKeys {
  static constexpr std::size_t kMostNamed = 3;
  std::vector<std::string> named;  ///< the first of them, as in the text
  std::size_t more = 0;            ///< how many there are beside these
};

/// Reads a whole text. Whatever locale is set, and in O(n log n) for n bytes.
/// @param deepest  how many arrays and objects may lie in one another
/// @throws JsonError       the text is malformed (a zero byte is, too), a number is beyond the
/// range
///                         of float64, a key stands in an object twice, or it is too deep.
/// @throws std::bad_alloc  there is no memory for it.
JsonValue parse_json(std::string_view text, int deepest);

/// The same for a reader that lists all problems of a text at once: what lies deeper is left out,
/// so that arrays and objects there are empty; of keys that stand in one object twice, the first
/// counts, and those of the outermost object are added to `repeated`.
JsonValue parse_json(std::string_view text, int deepest, RepeatedKeys& repeated);

/// "null", "boolean", "number", "string", "array" or "object".
const char* kind_name(const JsonValue& value);

/// The value for a message: arrays and objects by their kind, as they may be of any size ("an
/// array"), others as JSON of at most 80 characters.
std::string in_quotes(const JsonValue& value);

/// The text for a message: as a JSON string of at most 80 characters.
std::string in_quotes(std::string_view text);

/// Writes JSON without white space. Calls follow the text, from left to right:
/// `JsonWriter().begin_object().key("a").value(1).end_object().take()` is {"a":1}.
class JsonWriter {
 public:
  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view name);

  JsonWriter& null();
  /// Bytes that are no UTF-8 become U+FFFD.
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  /// Doubles are written so that they read back equal to the bit; what is not finite as null.
  template <typename T, typename = std::enable_if_t<std::is_arithmetic_v<T>>>
  JsonWriter& value(T number) {
    if constexpr (std::is_same_v<T, bool>) return write_bool(number);
    if constexpr (std::is_floating_point_v<T>) return write_double(static_cast<double>(number));
    if constexpr (std::is_signed_v<T>) return write_integer(static_cast<std::int64_t>(number));
    return write_natural(static_cast<std::uint64_t>(number));
  }
  template <typename T>
  JsonWriter& value(const std::optional<T>& content) {
    return content ? value(*content) : null();
  }
  template <typename T>
  JsonWriter& value(const std::vector<T>& list) {
    begin_array();
    for (const T& item : list) value(item);
    return end_array();
  }
  /// Recurses as deep as the value is.
  JsonWriter& value(const JsonValue& content);
  /// JSON text as it is.
  JsonWriter& raw(std::string_view json);

  template <typename T>
  JsonWriter& member(std::string_view name, const T& content) {
    return key(name).value(content);
  }

  const std::string& text() const { return text_; }
  std::string take() { return std::move(text_); }

 private:
  JsonWriter& open(char bracket);
  JsonWriter& close(char bracket);
  JsonWriter& write_bool(bool truth);
  JsonWriter& write_integer(std::int64_t number);
  JsonWriter& write_natural(std::uint64_t number);
  JsonWriter& write_double(double number);
  void separate();
  void quote(std::string_view text);

  std::string text_;
};

/// The value as JSON text.
inline std::string to_text(const JsonValue& value) { return JsonWriter().value(value).take(); }

}  // namespace infobatch::detail
