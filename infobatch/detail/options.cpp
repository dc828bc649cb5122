#include <infobatch/detail/config_fields.hpp>
#include <infobatch/detail/json.hpp>
#include <infobatch/detail/options.hpp>
#include <infobatch/detail/policy.hpp>

#include <algorithm>
#include <cstring>

namespace infobatch {
namespace {

using detail::Field;
using detail::JsonWriter;

constexpr double kMost = static_cast<double>(kMaxSize);
constexpr double kMostEpochs = static_cast<double>(kMaxEpochs);

/// An option of every run, and where it lies.
struct Line {
  Option option;
  Field field;
};

constexpr Option may_change(Option option) {
  option.may_change = true;
  return option;
}

constexpr Option one_of(Choices choices, Option option) {
  option.choices = choices;
  return option;
}

constexpr const char* kKeepModes[] = {"bernoulli", "exact", nullptr};
constexpr const char* const* keep_modes() noexcept { return kKeepModes; }

// The table: one line an option. Policies add their own parameters in their cards.
constexpr Line kLines[] = {
    {may_change(
         {"epochs", OptionKind::kInteger, "E: epochs of the whole run", closed(1.0, kMostEpochs)}),
     &Config::epochs},
    {kPruneRatio, &Config::prune_ratio},
    {may_change({"delta",
                 OptionKind::kNumber,
                 "epochs from floor(delta * E) on see every sample",
                 left_open(0.0, 1.0)}),
     &Config::delta},
    {{"warmup",
      OptionKind::kInteger,
      "epochs at the start that see every sample",
      closed(1.0, kMostEpochs)},
     &Config::warmup},
    {{"seed", OptionKind::kNatural, "key of every draw", {}}, &Config::seed},
    {one_of(policy_name_list, {"policy", OptionKind::kText, "the selection rule", {}}),
     &Config::policy},
    {one_of(keep_modes,
            {"keep",
             OptionKind::kText,
             "bernoulli: each candidate on its own; exact: a fixed number of them",
             {}}),
     &Config::keep},
    {{"rescale",
      OptionKind::kBool,
      "whether kept candidates weigh the inverse of their keep probability",
      {}},
     &Config::rescale},
    {{"target_saved",
      OptionKind::kMaybeNumber,
      "fraction of all samples of the run to save; the policy's scale is then solved for",
      right_open(0.0, 1.0)},
     &Config::target_saved},
    {{"max_prune_ratio",
      OptionKind::kNumber,
      "the largest prune ratio that target_saved may lead to",
      open(0.0, 1.0)},
     &Config::max_prune_ratio},
    {kQuantiles, &Config::quantiles},
    {kQuantileKeep, &Config::quantile_keep},
    {{"score_ema",
      OptionKind::kNumber,
      "a: score = a * score + (1 - a) * loss; 0: the last loss",
      right_open(0.0, 1.0)},
     &Config::score_ema},
    {{"whole_batches",
      OptionKind::kInteger,
      "B: plans of pruned epochs are multiples of B samples; 0: of any size",
      closed(0.0, kMost)},
     &Config::whole_batches},
    {may_change({"drop_last",
                 OptionKind::kMaybeBool,
                 "whether the loader drops a last batch that is short",
                 {}}),
     &Config::drop_last},
    {may_change({"lookahead",
                 OptionKind::kBool,
                 "whether the loader may run further ahead later than before the first update",
                 {}}),
     &Config::lookahead},
    {may_change({"record",
                 OptionKind::kBool,
                 "whether columns times_kept and last_kept record what each epoch kept",
                 {}}),
     &Config::record},
};

constexpr const char* kKinds[] = {
    "integer", "natural", "number", "numbers", "bool", "text", "number or null", "bool or null"};
constexpr const char* kFolds[] = {"ema", "variance"};

void write_option(JsonWriter& json, const Option& option) {
  json.begin_object()
      .member("name", option.name)
      .member("kind", kKinds[static_cast<int>(option.kind)])
      .member("meaning", option.meaning)
      .key("default")
      .raw(option_json(Config(), option))
      .key("range");
  if (option.range.bounded) {
    json.begin_object()
        .member("low", option.range.low)
        .member("high", option.range.high)
        .member("low_open", option.range.low_open)
        .member("high_open", option.range.high_open)
        .end_object();
  } else {
    json.null();
  }
  json.key("choices");
  if (option.choices != nullptr) {
    json.begin_array();
    for (const char* const* choice = option.choices(); *choice != nullptr; ++choice) {
      json.value(*choice);
    }
    json.end_array();
  } else {
    json.null();
  }
  json.member("may_change", option.may_change).key("policies");
  bool any = false;
  for (const Policy* policy : policies()) {
    for (const Option* parameter : policy->card.parameters) {
      if (std::strcmp(parameter->name, option.name) != 0) continue;
      if (!any) json.begin_array();
      any = true;
      json.value(policy->card.name);
    }
  }
  any ? json.end_array() : json.null();
  json.end_object();
}

void write_card(JsonWriter& json, const PolicyCard& card) {
  json.begin_object()
      .member("name", card.name)
      .member("summary", card.summary)
      .member("source", card.source)
      .member("prunes", card.prunes)
      .member("needs_scores", card.needs_scores)
      .member("rescales", card.rescales)
      .member("anneals", card.anneals)
      .member("draws", card.draws)
      .key("scale");
  card.scale != nullptr ? json.value(card.scale) : json.null();
  json.key("parameters").begin_array();
  for (const Option* parameter : card.parameters) json.value(parameter->name);
  json.end_array().key("columns").begin_array();
  for (const ColumnCard& column : card.columns) {
    json.begin_object()
        .member("name", column.name)
        .member("fold", kFolds[static_cast<int>(column.fold)])
        .member("weight", column.weight)
        .end_object();
  }
  json.end_array().end_object();
}

}  // namespace

namespace detail {

const Field* field_of(const std::string& name) {
  for (const Line& line : kLines) {
    if (name == line.option.name) return &line.field;
  }
  return nullptr;
}

}  // namespace detail

const std::vector<const Option*>& all_options() {
  static const std::vector<const Option*> all = [] {
    std::vector<const Option*> options;
    for (const Line& line : kLines) options.push_back(&line.option);
    for (const Policy* policy : policies()) {
      for (const Option* parameter : policy->card.parameters) {
        if (detail::field_of(parameter->name) == nullptr) options.push_back(parameter);
      }
    }
    return options;
  }();
  return all;
}

const Option* find_option(const std::string& name) {
  const auto& all = all_options();
  const auto found = std::find_if(
      all.begin(), all.end(), [&](const Option* option) { return name == option->name; });
  return found == all.end() ? nullptr : *found;
}

double number_of(const Config& config, const char* name) {
  if (const Field* const field = detail::field_of(name)) {
    return config.*std::get<double Config::*>(*field);
  }
  return config.number(*find_option(name));
}

std::string option_json(const Config& config, const Option& option) {
  JsonWriter json;
  if (const Field* const field = detail::field_of(option.name)) {
    std::visit([&](auto member) { json.value(config.*member); }, *field);
  } else {
    json.value(config.number(option));
  }
  return json.take();
}

const char* cards_json() {
  static const std::string text = [] {
    JsonWriter json;
    json.begin_object().key("options").begin_array();
    for (const Option* option : all_options()) write_option(json, *option);
    json.end_array().key("policies").begin_array();
    for (const Policy* policy : policies()) write_card(json, policy->card);
    return json.end_array().end_object().take();
  }();
  return text.c_str();
}

}  // namespace infobatch
