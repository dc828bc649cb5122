#include <infobatch/config.hpp>
#include <infobatch/error.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace infobatch {
namespace {

using Json = nlohmann::ordered_json;

void read(const Json& json, double& out) { out = json.get<double>(); }
void read(const Json& json, bool& out) { out = json.get<bool>(); }
void read(const Json& json, std::string& out) { out = json.get<std::string>(); }
void read(const Json& json, std::vector<double>& out) { out = json.get<std::vector<double>>(); }
void read(const Json& json, std::optional<double>& out) {
  if (json.is_null()) {
    out.reset();
  } else {
    out = json.get<double>();
  }
}

void read(const Json& json, std::optional<bool>& out) {
  if (json.is_null()) {
    out.reset();
  } else {
    out = json.get<bool>();
  }
}

/// What kind of JSON value a field accepts; nlohmann would turn 1.5 into 1 and true into 1.
bool fits(const Json& json, const std::int64_t&) {
  return json.is_number_integer() &&
         !(json.is_number_unsigned() && json.get<std::uint64_t>() > std::uint64_t{INT64_MAX});
}
bool fits(const Json& json, const std::uint64_t&) { return json.is_number_unsigned(); }
bool fits(const Json& json, const double&) { return json.is_number(); }
bool fits(const Json& json, const bool&) { return json.is_boolean(); }
bool fits(const Json& json, const std::string&) { return json.is_string(); }
bool fits(const Json& json, const std::optional<double>&) {
  return json.is_null() || json.is_number();
}
bool fits(const Json& json, const std::optional<bool>&) {
  return json.is_null() || json.is_boolean();
}
bool fits(const Json& json, const std::vector<double>&) {
  if (!json.is_array()) return false;
  for (const Json& item : json) {
    if (!item.is_number()) return false;
  }
  return true;
}
void read(const Json& json, std::int64_t& out) { out = json.get<std::int64_t>(); }
void read(const Json& json, std::uint64_t& out) { out = json.get<std::uint64_t>(); }

/// The value in a message: containers by their kind, as they may be of any size and depth.
std::string shown(const Json& json) {
  if (json.is_structured()) return std::string("an ") + json.type_name();
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  constexpr std::size_t kLongest = 80;
  if (text.size() > kLongest) text.replace(kLongest, std::string::npos, "...");
  return text;
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

template <typename T>
Json to_value(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}
template <typename T>
Json to_value(const T& value) {
  return Json(value);
}

/// The object in `text`; keys that it names twice are added to `found`.
Json parse_object(const std::string& text, std::vector<std::string>& found) {
  std::set<std::string> seen;
  const auto note_key = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth == 1 && event == Json::parse_event_t::key && !seen.insert(parsed).second) {
      found.push_back(detail::message("key ", shown(parsed), " stands there twice"));
    }
    return true;
  };
  std::string problem;
  const std::size_t zero = text.find('\0');
  try {
    Json json = Json::parse(text, note_key);
    // The parser takes a zero byte for the end of the text.
    if (json.is_object() && zero == std::string::npos) return json;
    problem = zero == std::string::npos ? json.type_name()
                                        : detail::message("malformed JSON at byte ", zero + 1);
  } catch (const Json::out_of_range&) {
    problem = "a number beyond the range of float64";
  } catch (const Json::parse_error& error) {
    problem = detail::message("malformed JSON at byte ", error.byte);
  }
  throw InvalidArgument("Config::from_json: the text must be a JSON object, got " + problem);
}

}  // namespace

std::string Config::to_json() const {
  Json json = Json::object();
  each_field(*this, [&](const char* name, const auto& field) { json[name] = to_value(field); });
  return json.dump();
}

Config Config::from_json(const std::string& text) {
  std::vector<std::string> found;
  const Json json = parse_object(text, found);
  Config config;
  std::size_t known = 0;
  std::map<std::string, bool> names;
  each_field(config, [&](const char* name, auto& field) {
    names[name] = true;
    const auto it = json.find(name);
    if (it == json.end()) return;
    ++known;
    if (fits(*it, field)) {
      read(*it, field);
    } else {
      found.push_back(detail::message(name, " has the wrong type, got ", shown(*it)));
    }
  });
  if (known != json.size()) {
    for (const auto& item : json.items()) {
      if (names.count(item.key()) == 0) {
        found.push_back(detail::message("unknown key \"", item.key(), "\""));
      }
    }
  }
  for (std::string& problem : config.problems()) found.push_back(std::move(problem));
  if (!found.empty()) {
    throw InvalidArgument("Config::from_json: " + detail::join(found, "; "));
  }
  return config;
}

}  // namespace infobatch
