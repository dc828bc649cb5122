#include <infobatch/c_api.h>
#include <infobatch/card.hpp>
#include <infobatch/detail/json.hpp>
#include <infobatch/detail/options.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cstring>
#include <set>
#include <string>
#include <vector>

// The table of options: what it lists is what configs, JSON and the C interface know.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;
using detail::JsonValue;

namespace {

/// Another value than the default, as JSON.
std::string other_value(const Option& option) {
  const std::string name = option.name;
  if (option.choices != nullptr) {
    return "\"" + std::string(option.choices()[1]) + "\"";
  }
  if (name == "quantiles") return "[0.25,0.5]";
  if (name == "quantile_keep") return "[0.75,0.875]";
  switch (option.kind) {
    case OptionKind::kInteger:
    case OptionKind::kNatural:
      return "9";
    case OptionKind::kBool:
      return option_json(Config(), option) == "true" ? "false" : "true";
    case OptionKind::kMaybeBool:
      return "true";
    default:
      return "0.375";
  }
}

}  // namespace

TEST_CASE("every option: set by name, it is in the JSON, which reads back", "[engine][options]") {
  std::set<std::string> names;
  for (const Option* option : all_options()) {
    CAPTURE(option->name);
    REQUIRE(names.insert(option->name).second);
    REQUIRE(find_option(option->name) == option);
    const std::string text = "{\"" + std::string(option->name) + "\":" + other_value(*option) + "}";
    Config config;
    config.set_json(text);
    REQUIRE(config != Config());
    REQUIRE(option_json(config, *option) == other_value(*option));
    Config again;
    again.set_json(config.to_json());
    REQUIRE(again == config);
    Config inside;
    inside.set_json("{\"params\":" + text + "}");
    REQUIRE(inside == config);
    // The parameter of a policy that is at its default is no difference.
    config.set_json("{\"" + std::string(option->name) + "\":" + option_json(Config(), *option) +
                    "}");
    REQUIRE(config == Config());
  }
}

TEST_CASE("every option that is a number or a text says which values it has", "[engine][options]") {
  for (const Option* option : all_options()) {
    CAPTURE(option->name);
    const OptionKind kind = option->kind;
    REQUIRE((kind == OptionKind::kText) == (option->choices != nullptr));
    const bool number = kind == OptionKind::kInteger || kind == OptionKind::kNumber ||
                        kind == OptionKind::kNumbers || kind == OptionKind::kMaybeNumber;
    REQUIRE(number == option->range.bounded);
  }
}

TEST_CASE("every option with choices takes them and nothing else", "[engine][options]") {
  for (const Option* option : all_options()) {
    if (option->choices == nullptr) continue;
    CAPTURE(option->name);
    Config config = config_of(20);
    for (const char* const* choice = option->choices(); *choice != nullptr; ++choice) {
      REQUIRE(config.set(option->name, *choice).problems().empty());
    }
    REQUIRE(config.set(option->name, "").problems().size() == 1);
    REQUIRE_THAT(config.set(option->name, "none of them").problems()[0],
                 ContainsSubstring(std::string(option->name) + " must be one of ") &&
                     ContainsSubstring(", " + std::string(option->choices()[1])) &&
                     ContainsSubstring("; got \"none of them\""));
  }
}

TEST_CASE("every option with a range: its ends, and what lies beyond", "[engine][options]") {
  for (const Option* option : all_options()) {
    if (!option->range.bounded || std::strcmp(option->name, "epochs") == 0) continue;
    CAPTURE(option->name);
    const auto problem = [&](double value) {
      Config config = config_of(20);
      if (std::strcmp(option->name, "whole_batches") == 0) config.keep = "exact";
      switch (option->kind) {
        case OptionKind::kInteger:
          config.set(option->name, static_cast<std::int64_t>(value));
          break;
        case OptionKind::kNumbers:
          config.quantiles = {0.5};
          config.quantile_keep = {0.5};
          config.set(option->name, std::vector<double>{value});
          break;
        default:
          config.set(option->name, value);
      }
      for (const std::string& found : config.problems()) {
        if (found.compare(0, std::strlen(option->name), option->name) == 0) return found;
      }
      return std::string();
    };
    const OptionRange& range = option->range;
    REQUIRE(problem(range.low).empty() == !range.low_open);
    REQUIRE(problem(range.high + 1.0) != "");
    REQUIRE(problem(range.low - 1.0) != "");
    if (std::strcmp(option->name, "target_saved") != 0) {
      REQUIRE(problem(range.high).empty() == !range.high_open);
    }
    REQUIRE_THAT(problem(range.high + 1.0), ContainsSubstring(" must be in "));
  }
}

TEST_CASE("options: an integer may be of any type", "[engine][options]") {
  Config config;
  REQUIRE(config.set("epochs", 7LL).epochs == 7);
  REQUIRE(config.set("epochs", 8u).epochs == 8);
  REQUIRE(config.set("epochs", short{9}).epochs == 9);
  REQUIRE(config.set("seed", 18446744073709551615ull).seed == 18446744073709551615u);
}

TEST_CASE("set refuses what nobody has, by name", "[engine][options]") {
  Config config;
  const Config before = config;
  REQUIRE_THAT(message_of<InvalidArgument>([&] { config.set("no_such", 1); }),
               ContainsSubstring("Config::set: an option must be one of epochs, prune_ratio,") &&
                   ContainsSubstring("ucb_c") && ContainsSubstring("got \"no_such\""));
  REQUIRE_THAT(message_of<InvalidArgument>([&] { config.set("ucb_c", "much"); }),
               ContainsSubstring("Config::set: ucb_c must be a number, got \"much\""));
  REQUIRE_THAT(message_of<InvalidArgument>([&] { config.set("epochs", 1.5); }),
               ContainsSubstring("epochs must be an integer of 64 bits, got 1.5"));
  REQUIRE_THAT(
      message_of<InvalidArgument>([&] { config.set_json("{\"epochs\": 9, \"nobody\": 1}"); }),
      ContainsSubstring("Config::set_json: unknown key \"nobody\""));
  REQUIRE_THAT(message_of<InvalidArgument>(
                   [&] { config.set_json("{\"ucb_c\": 1, \"params\": {\"ucb_c\": 2}}"); }),
               ContainsSubstring("key \"ucb_c\" stands there twice"));
  REQUIRE_THAT(message_of<InvalidArgument>([&] { config.set_json("{\"params\": 3}"); }),
               ContainsSubstring("params must be an object, got 3"));
  REQUIRE(config == before);
  config.params["prune_ratio"] = 0.5;
  REQUIRE_THAT(config.problems()[0],
               ContainsSubstring("params: no policy has a parameter \"prune_ratio\""));
}

TEST_CASE("what a target can reach is told unless what it depends on is wrong",
          "[engine][options]") {
  const auto told = [](const char* policy, const char* broken, double value) {
    Config config = config_of(40);
    config.policy = policy;
    config.target_saved = 0.9;
    config.set(broken, value);
    for (const std::string& problem : config.problems()) {
      if (problem.find("target_saved must be at most") == 0) return true;
    }
    return false;
  };
  REQUIRE(told("infobatch", "prune_ratio", 2.0));  // which it replaces
  REQUIRE(told("infobatch", "orderdp_pool", 2.0));
  REQUIRE_FALSE(told("orderdp", "orderdp_pool", 2.0));
  REQUIRE_FALSE(told("infobatch", "max_prune_ratio", 2.0));
  REQUIRE_FALSE(told("infobatch", "delta", 2.0));
}

TEST_CASE("a parameter of a policy is part of the run", "[engine][options]") {
  Config config = config_of(10);
  config.policy = "ucb";
  Session session(50, config, 1);
  const std::string state = session.serialize();
  config.set("ucb_c", 2.0);
  Session other(50, config, 1);
  REQUIRE_THAT(message_of<InvalidArgument>([&] { other.deserialize(state); }),
               ContainsSubstring("ucb_c: 1.0 -> 2.0"));
}

TEST_CASE("the cards as JSON list every option and policy", "[engine][options]") {
  REQUIRE(std::string(ib_cards_json()) == cards_json());
  const JsonValue cards = detail::parse_json(cards_json(), 8);
  const JsonValue& options = *cards.find("options");
  REQUIRE(options.items.size() == all_options().size());
  for (std::size_t i = 0; i < options.items.size(); ++i) {
    REQUIRE(options.items[i].find("name")->text == all_options()[i]->name);
    REQUIRE(to_text(*options.items[i].find("default")) == option_json(Config(), *all_options()[i]));
    REQUIRE_FALSE(options.items[i].find("meaning")->text.empty());
    const OptionRange& range = all_options()[i]->range;
    const JsonValue& bounds = *options.items[i].find("range");
    REQUIRE(bounds.is_object() == range.bounded);
    if (range.bounded) {
      REQUIRE(bounds.find("low")->as<double>() == range.low);
      REQUIRE(bounds.find("high")->as<double>() == range.high);
    }
    const JsonValue& choices = *options.items[i].find("choices");
    REQUIRE(choices.is_array() == (all_options()[i]->choices != nullptr));
    for (std::size_t c = 0; c < choices.items.size(); ++c) {
      REQUIRE(choices.items[c].text == all_options()[i]->choices()[c]);
    }
  }
  const JsonValue& listed = *cards.find("policies");
  REQUIRE(listed.items.size() == policies().size());
  for (std::size_t i = 0; i < policies().size(); ++i) {
    const PolicyCard& card = policies()[i]->card;
    REQUIRE(listed.items[i].find("name")->text == card.name);
    REQUIRE_FALSE(listed.items[i].find("source")->text.empty());
    for (const JsonValue& parameter : listed.items[i].find("parameters")->items) {
      REQUIRE(find_option(parameter.text) != nullptr);
    }
    REQUIRE(listed.items[i].find("columns")->items.size() == std::size_t(card.columns.size));
    for (int c = 0; c < card.columns.size; ++c) {
      const JsonValue& column = listed.items[i].find("columns")->items[std::size_t(c)];
      REQUIRE(column.find("name")->text == card.columns[c].name);
      REQUIRE(column.find("fold")->text ==
              (card.columns[c].fold == FoldKind::kEma ? "ema" : "variance"));
      REQUIRE(column.find("weight")->text == card.columns[c].weight);
      REQUIRE(find_option(card.columns[c].weight) != nullptr);
    }
  }
}

TEST_CASE("params_json of the C interface sets any option, and wins", "[engine][options]") {
  ib_config config;
  ib_config_init(&config, sizeof config);
  config.epochs = 30;
  config.params_json = "{\"policy\": \"ucb\", \"ucb_c\": 2.5, \"prune_ratio\": 0.25}";
  ib_session* session = nullptr;
  REQUIRE(ib_session_create(10, &config, 1, &session) == IB_OK);
  const char* json = nullptr;
  REQUIRE(ib_session_config_json(session, &json) == IB_OK);
  const Config read = Config::from_json(json);
  REQUIRE(read.policy == "ucb");
  REQUIRE(read.params.at("ucb_c") == 2.5);
  REQUIRE(read.prune_ratio == 0.25);
  REQUIRE(read.epochs == 30);
  ib_session_destroy(session);
  config.params_json = "{\"nobody\": 1}";
  REQUIRE(ib_session_create(10, &config, 1, &session) == IB_INVALID_ARGUMENT);
  REQUIRE_THAT(ib_last_error(), ContainsSubstring("unknown key \"nobody\""));
}
