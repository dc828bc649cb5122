#pragma once

#include <cstdint>

namespace infobatch {
namespace detail {

/// Fisher-Yates of the bucket whose first item has the position `base`, by the draws of
/// swap_index() (shuffle.hpp). Item is std::uint32_t or std::uint64_t.
template <typename Item>
void shuffle_bucket(
    Item* items, std::int64_t size, std::int64_t base, std::uint64_t seed, std::uint32_t epoch);

}  // namespace detail
}  // namespace infobatch
