#pragma once

#include <cstdint>

namespace infobatch {
namespace detail {

/// Fisher-Yates of the bucket whose first item has the position `base`, by the draws of
/// swap_index() (shuffle.hpp). std::uint32_t is std::uint32_t or std::uint64_t.
void shuffle_bucket(std::uint32_t* items,
                    std::int64_t size,
                    std::int64_t base,
                    std::uint64_t seed,
                    std::uint32_t epoch);

}  // namespace detail
}  // namespace infobatch
