#pragma once

#include <infobatch/session/columns.hpp>

#include <string>

namespace infobatch::detail {

/// All columns as text: a line of names, `id` first, then a line for each sample. A NaN is an empty
/// cell; other values read back equal to the bit.
/// @throws std::bad_alloc
std::string csv_of(const Columns& columns);

}  // namespace infobatch::detail
