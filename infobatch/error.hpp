#pragma once

#include <infobatch/export.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <string>

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

template <typename Part>
void append(std::ostream& out, const Part& part) {
  out << part;
}

/// With as many digits as it takes to tell the value from its neighbours, so that what was refused
/// never reads like what is allowed.
inline void append(std::ostream& out, double value) {
  char text[32];
  for (int digits = 6; digits <= 17; ++digits) {
    std::snprintf(text, sizeof(text), "%.*g", digits, value);
    if (std::strtod(text, nullptr) == value) break;
  }
  out << text;
}

/// Joins the parts of a message: `message("update: got ", n, " losses")`.
template <typename... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream out;
  (append(out, parts), ...);
  return out.str();
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
