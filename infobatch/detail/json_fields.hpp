#pragma once

#include <infobatch/detail/json.hpp>
#include <infobatch/error.hpp>

#include <cstdint>
#include <optional>
#include <utility>

// The members that a reader of a JSON object needs. What is missing or of another kind is told as
// JsonError, "no KEY" or "KEY = value", for the reader's own message.

namespace infobatch::detail {

/// A member of any kind.
inline const JsonValue& get_value(const JsonValue& object, const char* key) {
  const JsonValue* value = object.find(key);
  if (value == nullptr) throw JsonError(message("no ", key));
  return *value;
}

/// A member of one of the types of JsonValue::as.
template <typename T>
T get(const JsonValue& object, const char* key) {
  const JsonValue& value = get_value(object, key);
  std::optional<T> content = value.as<T>();
  if (!content) throw JsonError(message(key, " = ", in_quotes(value)));
  return *std::move(content);
}

/// A member that is an object.
inline const JsonValue& get_object(const JsonValue& object, const char* key) {
  const JsonValue& value = get_value(object, key);
  if (!value.is_object()) throw JsonError(message(key, " = ", in_quotes(value)));
  return value;
}

/// A whole number in [0, largest].
inline std::int64_t get_count(const JsonValue& object, const char* key, std::int64_t largest) {
  const auto count = get<std::int64_t>(object, key);
  if (count < 0 || count > largest) throw JsonError(message(key, " = ", count));
  return count;
}

}  // namespace infobatch::detail
