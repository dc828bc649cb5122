#include <infobatch/config.hpp>
#include <infobatch/detail/config_fields.hpp>
#include <infobatch/detail/float_environment.hpp>
#include <infobatch/detail/json.hpp>
#include <infobatch/detail/options.hpp>
#include <infobatch/error.hpp>

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace infobatch {
namespace {

using detail::JsonValue;
using detail::message;

constexpr int kDeepest = 3;  // the object, params in it, and a list in these
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

/// Sets an option from a value. False: it is of another kind.
bool assign(Config& config, const Option& option, const JsonValue& value) {
  if (const detail::Field* const field = detail::field_of(option.name)) {
    return std::visit([&](auto member) { return read(value, config.*member); }, *field);
  }
  double number = 0.0;
  if (!read(value, number)) return false;
  config.params[option.name] = number;
  return true;
}

/// What an option takes, in words.
const char* kind_of(const Option& option) {
  const detail::Field* const field = detail::field_of(option.name);
  if (field == nullptr) return kind_of(0.0);
  static const Config config;
  return std::visit([](auto member) { return kind_of(config.*member); }, *field);
}

/// Adds what is wrong with the keys of the config, the first few by name.
template <typename Named>
void tell(const std::vector<std::string>& keys,
          std::size_t more,
          const Named& named,
          const char* others,
          std::vector<std::string>& found) {
  for (const std::string& key : keys) found.push_back(named(detail::in_quotes(key)));
  if (more > 0) found.push_back(message("and ", more, " more ", others));
}

/// Sets the options of an object, and notes those that nobody has.
class OptionReader {
 public:
  OptionReader(Config& config, std::vector<std::string>& found) : config_(config), found_(found) {}

  void read(const JsonValue& object) {
    for (const detail::JsonMember& member : object.members) {
      if (&object == outer_ && member.key == kParams) continue;
      const Option* const option = find_option(member.key);
      if (option == nullptr) {
        if (unknown_.size() < kMostNamed) {
          unknown_.push_back(member.key);
        } else {
          ++more_;
        }
      } else if (!set_.insert(option).second) {
        found_.push_back(message("key ", detail::in_quotes(member.key), " stands there twice"));
      } else if (!assign(config_, *option, member.value)) {
        found_.push_back(message(option->name,
                                 " must be ",
                                 kind_of(*option),
                                 ", got ",
                                 detail::in_quotes(member.value)));
      }
    }
  }

  /// An object with the options beside one another, and more of them in "params".
  void read_all(const JsonValue& object) {
    outer_ = &object;
    read(object);
    if (const JsonValue* const params = object.find(kParams)) {
      if (params->is_object()) {
        read(*params);
      } else {
        found_.push_back(message("params must be an object, got ", detail::in_quotes(*params)));
      }
    }
    tell(
        unknown_,
        more_,
        [](const std::string& key) { return "unknown key " + key; },
        more_ == 1 ? "unknown key" : "unknown keys",
        found_);
  }

 private:
  static constexpr const char* kParams = "params";

  Config& config_;
  std::vector<std::string>& found_;
  const JsonValue* outer_ = nullptr;
  std::set<const Option*> set_;
  std::vector<std::string> unknown_;
  std::size_t more_ = 0;
};

/// Sets the options that the text names, and returns what is wrong with it.
std::vector<std::string> read_options(const std::string& text, Config& config) {
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
  OptionReader(config, found).read_all(json);
  return found;
}

/// Reads the config and returns all its problems.
std::vector<std::string> read_config(const std::string& text, Config& config) {
  std::vector<std::string> found = read_options(text, config);
  if (found.size() == 1 && found[0].compare(0, 8, "the text") == 0) return found;
  for (std::string& problem : config.problems()) found.push_back(std::move(problem));
  return found;
}

template <typename T>
std::string json_of(const T& value) {
  return detail::JsonWriter().value(value).take();
}

}  // namespace

std::string Config::to_json() const {
  detail::JsonWriter json;
  json.begin_object();
  for (const Option* option : all_options()) {
    if (detail::field_of(option->name) != nullptr) {
      json.key(option->name).raw(option_json(*this, *option));
    }
  }
  if (!params.empty()) {
    json.key("params").begin_object();
    for (const auto& [name, value] : params) json.member(name, value);
    json.end_object();
  }
  return json.end_object().take();
}

OptionValue::OptionValue(bool value) : json_(json_of(value)) {}
OptionValue::OptionValue(int value) : json_(json_of(value)) {}
OptionValue::OptionValue(std::int64_t value) : json_(json_of(value)) {}
OptionValue::OptionValue(std::uint64_t value) : json_(json_of(value)) {}
OptionValue::OptionValue(double value) : json_(json_of(value)) {}
OptionValue::OptionValue(const char* value) : json_(json_of(value)) {}
OptionValue::OptionValue(const std::string& value) : json_(json_of(value)) {}
OptionValue::OptionValue(const std::vector<double>& value) : json_(json_of(value)) {}
OptionValue::OptionValue(std::nullopt_t) : json_("null") {}

Config& Config::set(const std::string& name, const OptionValue& value) {
  const detail::DefaultFloatEnvironment float_environment;
  const Option* const option = find_option(name);
  if (option == nullptr) {
    std::vector<std::string> names;
    for (const Option* known : all_options()) names.emplace_back(known->name);
    throw InvalidArgument(message("Config::set: an option must be one of ",
                                  detail::join(names, ", "),
                                  "; got ",
                                  detail::in_quotes(name)));
  }
  const JsonValue json = detail::parse_json(value.json(), kDeepest);
  if (!assign(*this, *option, json)) {
    throw InvalidArgument(message(
        "Config::set: ", name, " must be ", kind_of(*option), ", got ", detail::in_quotes(json)));
  }
  return *this;
}

Config& Config::set_json(const std::string& text) {
  const detail::DefaultFloatEnvironment float_environment;
  Config changed = *this;
  const std::vector<std::string> found = read_options(text, changed);
  if (!found.empty()) throw InvalidArgument("Config::set_json: " + detail::join(found, "; "));
  return *this = std::move(changed);
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
