#pragma once

#include <infobatch/card.hpp>
#include <infobatch/config.hpp>
#include <infobatch/detail/options.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace infobatch::detail {

/// Where an option lies in a config.
using Field = std::variant<std::int64_t Config::*,
                           std::uint64_t Config::*,
                           double Config::*,
                           bool Config::*,
                           std::string Config::*,
                           std::optional<double> Config::*,
                           std::optional<bool> Config::*,
                           std::vector<double> Config::*>;

/// The field of an option; nullptr: it is a parameter in `params`, or there is none of that name.
const Field* field_of(const std::string& name);

/// Calls visit(option, value) for every option, in the order of the documentation.
template <typename Visit>
void each_option(const Config& config, const Visit& visit) {
  for (const Option* option : all_options()) {
    if (const Field* const field = field_of(option->name)) {
      std::visit([&](auto member) { visit(*option, config.*member); }, *field);
    } else {
      visit(*option, config.number(*option));
    }
  }
}

}  // namespace infobatch::detail
