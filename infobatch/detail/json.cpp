#include <infobatch/detail/json.hpp>
#include <infobatch/error.hpp>

#include <locale.h>  // NOLINT(modernize-deprecated-headers): newlocale is POSIX
#if defined(__APPLE__)
#include <xlocale.h>
#endif
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>

// nlohmann's parser hands over one token after the other. Its own values are not used: they
// allocate where they must not throw, and look keys up one by one. In its lexer and parser nothing
// that is noexcept allocates: lexer::reset() pushes a character into a buffer that has held one
// before.

namespace infobatch::detail {
namespace {

using Kind = JsonValue::Kind;

// Else a growing vector would copy, and could run out of memory where it had enough.
static_assert(std::is_nothrow_move_constructible_v<JsonValue>);
static_assert(std::is_nothrow_move_constructible_v<JsonMember>);

/// While it lives, this thread reads numbers as in C: the lexer asks the locale for the decimal
/// point, and understands those of one byte.
class NumbersOfC {
 public:
  NumbersOfC() : before_(::uselocale(locale_of_c())) {}
  ~NumbersOfC() { ::uselocale(before_); }
  NumbersOfC(const NumbersOfC&) = delete;
  NumbersOfC& operator=(const NumbersOfC&) = delete;

 private:
  static locale_t locale_of_c() {
    static const locale_t made = [] {
      const locale_t locale = ::newlocale(LC_ALL_MASK, "C", locale_t{});
      if (locale == locale_t{}) throw std::bad_alloc();
      return locale;
    }();
    return made;
  }
  locale_t before_;
};

/// Builds the value from the parser's calls; a call that returns false ends the parsing.
class Builder {
 public:
  Builder(int deepest, RepeatedKeys* repeated)
      : deepest_(static_cast<std::size_t>(std::max(deepest, 0))), repeated_(repeated) {}

  bool null() { return scalar(JsonValue{}); }
  bool boolean(bool truth) {
    JsonValue value;
    value.kind = Kind::kBool;
    value.truth = truth;
    return scalar(std::move(value));
  }
  bool number_integer(std::int64_t number) {
    if (number >= 0) return number_unsigned(static_cast<std::uint64_t>(number));  // -0
    JsonValue value;
    value.kind = Kind::kInteger;
    value.integer = number;
    return scalar(std::move(value));
  }
  bool number_unsigned(std::uint64_t number) {
    JsonValue value;
    value.kind = Kind::kUnsigned;
    value.natural = number;
    return scalar(std::move(value));
  }
  bool number_float(double number, const std::string& /*text*/) {
    JsonValue value;
    value.kind = Kind::kFloat;
    value.real = number;
    return scalar(std::move(value));
  }
  bool string(std::string& text) {
    if (left_out_ > 0) return true;
    JsonValue value;
    value.kind = Kind::kString;
    value.text = text;
    return scalar(std::move(value));
  }
  bool binary(const std::vector<std::uint8_t>& /*bytes*/) { return false; }  // not in a text

  bool start_object(std::size_t /*size*/) { return start(Kind::kObject); }
  bool start_array(std::size_t /*size*/) { return start(Kind::kArray); }
  bool end_array() { return end(); }
  bool end_object() { return end(); }
  bool key(std::string& text) {
    if (left_out_ == 0) open_.back().key = text;
    return true;
  }

  bool parse_error(std::size_t byte,
                   const std::string& /*token*/,
                   const nlohmann::detail::exception& error) {
    constexpr int kNumberOverflow = 406;
    problem_ = error.id == kNumberOverflow ? "a number beyond the range of float64"
                                           : message("malformed JSON at byte ", byte);
    return false;
  }

  /// Empty where there is none.
  const std::string& problem() const { return problem_; }
  JsonValue take() { return std::move(root_); }

 private:
  struct Open {
    JsonValue value;
    std::string key;  // of the next member
  };

  bool scalar(JsonValue&& value) {
    if (left_out_ == 0) place(std::move(value));
    return true;
  }

  void place(JsonValue&& value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Open& outer = open_.back(); outer.value.is_object()) {
      outer.value.members.push_back({std::move(outer.key), std::move(value)});
    } else {
      outer.value.items.push_back(std::move(value));
    }
  }

  bool start(Kind kind) {
    if (left_out_ > 0) {
      ++left_out_;
      return true;
    }
    JsonValue value;
    value.kind = kind;
    if (open_.size() < deepest_) {
      open_.push_back({std::move(value), std::string()});
      return true;
    }
    if (repeated_ == nullptr) {
      problem_ = message("JSON of a depth above ", deepest_);
      return false;
    }
    place(std::move(value));
    ++left_out_;
    return true;
  }

  bool end() {
    if (left_out_ > 0) {
      --left_out_;
      return true;
    }
    JsonValue value = std::move(open_.back().value);
    open_.pop_back();
    if (value.is_object() && !order(value)) return false;
    place(std::move(value));
    return true;
  }

  /// Fills the object's `by_key` and takes out keys that were there before.
  bool order(JsonValue& object) {
    std::vector<JsonMember>& members = object.members;
    const auto fill = [&] {
      object.by_key.resize(members.size());
      for (std::size_t i = 0; i < members.size(); ++i) object.by_key[i] = i;
      std::sort(
          object.by_key.begin(), object.by_key.end(), [&](std::size_t first, std::size_t second) {
            const int compared = members[first].key.compare(members[second].key);
            return compared != 0 ? compared < 0 : first < second;
          });
    };
    fill();
    std::vector<bool> again;        // members whose key was there before
    std::vector<std::size_t> once;  // the first of these of each key
    for (std::size_t i = 1; i < members.size(); ++i) {
      const std::size_t at = object.by_key[i];
      const std::size_t before = object.by_key[i - 1];
      if (members[at].key != members[before].key) continue;
      again.resize(members.size());
      if (!again[before]) once.push_back(at);
      again[at] = true;
    }
    if (once.empty()) return true;
    std::sort(once.begin(), once.end());
    if (repeated_ == nullptr) {
      problem_ = message("key ", in_quotes(members[once.front()].key), " stands there twice");
      return false;
    }
    if (open_.empty()) {
      const std::size_t named = std::min(once.size(), RepeatedKeys::kMostNamed);
      for (std::size_t i = 0; i < named; ++i) repeated_->named.push_back(members[once[i]].key);
      repeated_->more += once.size() - named;
    }
    std::size_t kept = 0;
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (again[i]) continue;
      if (kept != i) members[kept] = std::move(members[i]);
      ++kept;
    }
    members.resize(kept);
    fill();
    return true;
  }

  std::size_t deepest_;
  RepeatedKeys* repeated_;
  std::vector<Open> open_;
  std::size_t left_out_ = 0;  // how many arrays and objects are open below the deepest
  JsonValue root_;
  std::string problem_;
};

JsonValue parse(std::string_view text, int deepest, RepeatedKeys* repeated) {
  Builder builder(deepest, repeated);
  {
    const NumbersOfC numbers_of_c;
    nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &builder);
  }
  if (!builder.problem().empty()) throw JsonError(builder.problem());
  // The parser takes a zero byte for the end of the text, and what follows would go unread.
  const std::size_t zero = text.find('\0');
  if (zero != std::string_view::npos) {
    throw JsonError(message("malformed JSON at byte ", zero + 1));
  }
  return builder.take();
}

/// Bytes of the UTF-8 sequence at the beginning of `text`; 0 where there is none.
std::size_t sequence(std::string_view text) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const auto continued = [&](std::size_t i) { return byte(i) >> 6 == 2; };
  const unsigned first = byte(0);
  const unsigned second = byte(1);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return continued(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const bool overlong = first == 0xe0 && second < 0xa0;
    const bool surrogate = first == 0xed && second > 0x9f;
    return continued(1) && continued(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const bool overlong = first == 0xf0 && second < 0x90;
    const bool beyond = first == 0xf4 && second > 0x8f;
    return continued(1) && continued(2) && continued(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

constexpr std::size_t kLongestShown = 80;

/// Cut to what a message shows, between two characters of UTF-8.
std::string cut(std::string text, bool longer) {
  if (text.size() <= kLongestShown && !longer) return text;
  std::size_t size = std::min(text.size(), kLongestShown);
  while (size > 0 && size < text.size() && (static_cast<unsigned char>(text[size]) >> 6) == 2) {
    --size;
  }
  text.resize(size);
  return text + "...";
}

}  // namespace

JsonValue parse_json(std::string_view text, int deepest) { return parse(text, deepest, nullptr); }

JsonValue parse_json(std::string_view text, int deepest, RepeatedKeys& repeated) {
  return parse(text, deepest, &repeated);
}

bool JsonValue::is_number() const {
  return kind == Kind::kInteger || kind == Kind::kUnsigned || kind == Kind::kFloat;
}

const JsonValue* JsonValue::find(std::string_view key) const {
  const auto at =
      std::lower_bound(by_key.begin(), by_key.end(), key, [&](std::size_t i, std::string_view k) {
        return members[i].key < k;
      });
  return at != by_key.end() && members[*at].key == key ? &members[*at].value : nullptr;
}

template <>
std::optional<bool> JsonValue::as() const {
  if (kind != Kind::kBool) return std::nullopt;
  return truth;
}

template <>
std::optional<std::int64_t> JsonValue::as() const {
  if (kind == Kind::kInteger) return integer;
  if (kind != Kind::kUnsigned || natural > std::uint64_t{INT64_MAX}) return std::nullopt;
  return static_cast<std::int64_t>(natural);
}

template <>
std::optional<std::uint64_t> JsonValue::as() const {
  if (kind != Kind::kUnsigned) return std::nullopt;
  return natural;
}

template <>
std::optional<double> JsonValue::as() const {
  if (kind == Kind::kInteger) return static_cast<double>(integer);
  if (kind == Kind::kUnsigned) return static_cast<double>(natural);
  if (kind != Kind::kFloat) return std::nullopt;
  return real;
}

template <>
std::optional<std::string> JsonValue::as() const {
  if (kind != Kind::kString) return std::nullopt;
  return text;
}

bool JsonValue::operator==(const JsonValue& other) const {
  if (kind != other.kind) return false;
  switch (kind) {
    case Kind::kNull:
      return true;
    case Kind::kBool:
      return truth == other.truth;
    case Kind::kInteger:
      return integer == other.integer;
    case Kind::kUnsigned:
      return natural == other.natural;
    case Kind::kFloat:
      return real == other.real;
    case Kind::kString:
      return text == other.text;
    case Kind::kArray:
      return items == other.items;
    case Kind::kObject:
      break;
  }
  return members.size() == other.members.size() &&
         std::all_of(members.begin(), members.end(), [&](const JsonMember& member) {
           const JsonValue* counterpart = other.find(member.key);
           return counterpart != nullptr && member.value == *counterpart;
         });
}

const char* kind_name(const JsonValue& value) {
  switch (value.kind) {
    case Kind::kNull:
      return "null";
    case Kind::kBool:
      return "boolean";
    case Kind::kString:
      return "string";
    case Kind::kArray:
      return "array";
    case Kind::kObject:
      return "object";
    case Kind::kInteger:
    case Kind::kUnsigned:
    case Kind::kFloat:
      break;
  }
  return "number";
}

std::string in_quotes(const JsonValue& value) {
  if (value.is_array() || value.is_object()) return std::string("an ") + kind_name(value);
  return value.kind == Kind::kString ? in_quotes(value.text) : to_text(value);
}

std::string in_quotes(std::string_view text) {
  const std::string_view begin = text.substr(0, kLongestShown + 4);  // with one character to spare
  return cut(JsonWriter().value(begin).take(), begin.size() < text.size());
}

JsonWriter& JsonWriter::key(std::string_view name) {
  separate();
  quote(name);
  text_ += ':';
  return *this;
}

JsonWriter& JsonWriter::null() { return raw("null"); }

JsonWriter& JsonWriter::value(std::string_view text) {
  separate();
  quote(text);
  return *this;
}

JsonWriter& JsonWriter::value(const JsonValue& content) {
  switch (content.kind) {
    case Kind::kNull:
      return null();
    case Kind::kBool:
      return write_bool(content.truth);
    case Kind::kInteger:
      return write_integer(content.integer);
    case Kind::kUnsigned:
      return write_natural(content.natural);
    case Kind::kFloat:
      return write_double(content.real);
    case Kind::kString:
      return value(content.text);
    case Kind::kArray:
      return value(content.items);
    case Kind::kObject:
      break;
  }
  begin_object();
  for (const JsonMember& member : content.members) key(member.key).value(member.value);
  return end_object();
}

JsonWriter& JsonWriter::raw(std::string_view json) {
  separate();
  text_ += json;
  return *this;
}

JsonWriter& JsonWriter::open(char bracket) {
  separate();
  text_ += bracket;
  return *this;
}

JsonWriter& JsonWriter::close(char bracket) {
  text_ += bracket;
  return *this;
}

JsonWriter& JsonWriter::write_bool(bool truth) { return raw(truth ? "true" : "false"); }

JsonWriter& JsonWriter::write_integer(std::int64_t number) {
  separate();
  append(text_, number);
  return *this;
}

JsonWriter& JsonWriter::write_natural(std::uint64_t number) {
  separate();
  append(text_, number);
  return *this;
}

JsonWriter& JsonWriter::write_double(double number) {
  if (!std::isfinite(number)) return null();
  char digits[32];
  const auto* const end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  const std::string_view shortest(digits, static_cast<std::size_t>(end - digits));
  raw(shortest);
  if (shortest.find_first_of(".e") == std::string_view::npos) text_ += ".0";
  return *this;
}

/// A comma where something stands before.
void JsonWriter::separate() {
  if (text_.empty()) return;
  const char last = text_.back();
  if (last != '{' && last != '[' && last != ':') text_ += ',';
}

void JsonWriter::quote(std::string_view text) {
  constexpr const char* kHex = "0123456789abcdef";
  text_ += '"';
  std::size_t done = 0;
  const auto copy_to = [&](std::size_t i) {
    text_.append(text.data() + done, i - done);
    done = i + 1;
  };
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80) {
      const std::size_t size = sequence(text.substr(i, 4));
      if (size == 0) {
        copy_to(i);
        text_ += "\xef\xbf\xbd";
      }
      i += std::max<std::size_t>(size, 1);
      continue;
    }
    if (byte < 0x20 || c == '"' || c == '\\') {
      copy_to(i);
      constexpr std::string_view kNamed = "\"\\\b\f\n\r\t";
      constexpr std::string_view kLetters = "\"\\bfnrt";
      const std::size_t at = kNamed.find(c);
      text_ += '\\';
      if (at != std::string_view::npos) {
        text_ += kLetters[at];
      } else {
        text_ += "u00";
        text_ += kHex[byte >> 4];
        text_ += kHex[byte & 15];
      }
    }
    ++i;
  }
  copy_to(text.size());
  text_ += '"';
}

}  // namespace infobatch::detail
