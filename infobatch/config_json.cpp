#include <infobatch/config.hpp>
#include <infobatch/detail/float_environment.hpp>
#include <infobatch/detail/json.hpp>
#include <infobatch/error.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace infobatch {
namespace {

using detail::JsonValue;
using detail::message;

constexpr int kDeepest = 2;  // the object and the lists in it
constexpr std::size_t kMostNamed = 3;

/// Sets the field where the value fits it; 1.5 and true fit no integer.
template <typename T>
bool read(const JsonValue& json, T& out) {
  std::optional<T> content = json.as<T>();
  if (!content) return false;
  out = *std::move(content);
  return true;
}

template <typename T>
bool read(const JsonValue& json, std::optional<T>& out) {
  if (json.kind == JsonValue::Kind::kNull) {
    out.reset();
    return true;
  }
  T content{};
  if (!read(json, content)) return false;
  out = content;
  return true;
}

bool read(const JsonValue& json, std::vector<double>& out) {
  if (!json.is_array()) return false;
  std::vector<double> content(json.items.size());
  for (std::size_t i = 0; i < content.size(); ++i) {
    if (!read(json.items[i], content[i])) return false;
  }
  out = std::move(content);
  return true;
}

/// What a field takes, in words.
const char* kind_of(const std::string&) { return "a string"; }
const char* kind_of(const std::vector<double>&) { return "an array of numbers"; }

template <typename T>
const char* kind_of(const T&) {
  if (std::is_same_v<T, bool>) return "true or false";
  if (std::is_floating_point_v<T>) return "a number";
  return std::is_signed_v<T> ? "an integer of 64 bits" : "an integer in [0, 2^64)";
}

template <typename T>
const char* kind_of(const std::optional<T>&) {
  return kind_of(T{});
}

/// Calls `visit(name, field)` for every field, in the order of the declaration.
template <typename ConfigType, typename Visit>
void each_field(ConfigType& config, Visit visit) {
  visit("epochs", config.epochs);
  visit("prune_ratio", config.prune_ratio);
  visit("delta", config.delta);
  visit("warmup", config.warmup);
  visit("seed", config.seed);
  visit("policy", config.policy);
  visit("keep", config.keep);
  visit("rescale", config.rescale);
  visit("target_saved", config.target_saved);
  visit("max_prune_ratio", config.max_prune_ratio);
  visit("quantiles", config.quantiles);
  visit("quantile_keep", config.quantile_keep);
  visit("score_ema", config.score_ema);
  visit("whole_batches", config.whole_batches);
  visit("drop_last", config.drop_last);
  visit("lookahead", config.lookahead);
}

/// Adds what is wrong with the keys of the config, the first few by name.
template <typename Named>
void tell(const std::vector<std::string>& keys,
          std::size_t more,
          const Named& named,
          const char* others,
          std::vector<std::string>& found) {
  for (const std::string& key : keys) found.push_back(named(detail::shown(key)));
  if (more > 0) found.push_back(message("and ", more, " more ", others));
}

/// Reads the config and returns all its problems.
std::vector<std::string> read_config(const std::string& text, Config& config) {
  std::vector<std::string> found;
  detail::RepeatedKeys repeated;
  JsonValue json;
  std::string got;
  try {
    json = detail::parse_json(text, kDeepest, repeated);
    if (!json.is_object()) got = detail::kind_name(json);
  } catch (const detail::JsonError& error) {
    got = error.what();
  }
  if (!got.empty()) return {"the text must be a JSON object, got " + got};

  tell(
      repeated.named,
      repeated.more,
      [](const std::string& key) { return message("key ", key, " stands there twice"); },
      "keys that stand there twice",
      found);
  std::vector<std::string_view> names;
  each_field(config, [&](const char* name, auto& field) {
    names.push_back(name);
    const JsonValue* value = json.find(name);
    if (value != nullptr && !read(*value, field)) {
      found.push_back(message(name, " must be ", kind_of(field), ", got ", detail::shown(*value)));
    }
  });
  std::sort(names.begin(), names.end());
  std::vector<std::string> unknown;
  std::size_t more = 0;
  for (const detail::JsonMember& member : json.members) {
    if (std::binary_search(names.begin(), names.end(), std::string_view(member.key))) continue;
    if (unknown.size() < kMostNamed) {
      unknown.push_back(member.key);
    } else {
      ++more;
    }
  }
  tell(
      unknown,
      more,
      [](const std::string& key) { return "unknown key " + key; },
      more == 1 ? "unknown key" : "unknown keys",
      found);
  for (std::string& problem : config.problems()) found.push_back(std::move(problem));
  return found;
}

}  // namespace

std::string Config::to_json() const {
  detail::JsonWriter json;
  json.begin_object();
  each_field(*this, [&](const char* name, const auto& field) { json.member(name, field); });
  return json.end_object().take();
}

Config Config::from_json(const std::string& text) {
  const detail::DefaultFloatEnvironment float_environment;
  Config config;
  const std::vector<std::string> found = read_config(text, config);
  if (!found.empty()) {
    throw InvalidArgument("Config::from_json: " + detail::join(found, "; "));
  }
  return config;
}

std::vector<std::string> config_problems(const std::string& config_json) {
  const detail::DefaultFloatEnvironment float_environment;
  Config config;
  return read_config(config_json, config);
}

}  // namespace infobatch
