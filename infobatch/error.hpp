#pragma once

#include <infobatch/export.h>

#include <charconv>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace infobatch {

/// An argument or a configuration breaks a documented rule. Nothing was changed.
class INFOBATCH_API InvalidArgument : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// A sample id lies outside the data set or outside the plan. Nothing was changed.
class INFOBATCH_API IndexError : public std::out_of_range {
 public:
  using std::out_of_range::out_of_range;
};

/// A call does not fit the state of the session, e.g. a second `update` on one batch.
class INFOBATCH_API StateError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A file cannot be read or written, or its content does not fit.
class INFOBATCH_API FileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

/// Appends a number in the form of printf's %g in the C locale, whatever locale is set, with as
/// many digits as it takes to tell the value from its neighbours, so that what was refused never
/// reads like what is allowed.
INFOBATCH_API void append_number(std::string& out, double value);
INFOBATCH_API void append_number(std::string& out, float value);

/// Appends one part of a message: text, a character, a number; a bool as 0 or 1, an enum as its
/// integer.
template <typename Part>
void append(std::string& out, const Part& part) {
  if constexpr (std::is_same_v<Part, bool>) {
    out += part ? '1' : '0';
  } else if constexpr (std::is_same_v<Part, char>) {
    out += part;
  } else if constexpr (std::is_enum_v<Part>) {
    append(out, static_cast<std::underlying_type_t<Part>>(part));
  } else if constexpr (std::is_integral_v<Part>) {
    char text[24];  // 20 digits and a sign
    out.append(text, std::to_chars(text, text + sizeof text, part).ptr);
  } else if constexpr (std::is_floating_point_v<Part>) {
    append_number(out, part);
  } else {
    out += std::string_view(part);
  }
}

/// Joins the parts of a message: `message("update: got ", n, " losses")`. Numbers do not follow the
/// locale.
template <typename... Parts>
std::string message(const Parts&... parts) {
  std::string out;
  (append(out, parts), ...);
  return out;
}

/// The items with `separator` between them.
template <typename Items>
std::string join(const Items& items, const char* separator) {
  std::string text;
  const char* before = "";
  for (const auto& item : items) {
    text += before;
    text += item;
    before = separator;
  }
  return text;
}

}  // namespace detail
}  // namespace infobatch
