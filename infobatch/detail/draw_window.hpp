#pragma once

#include <infobatch/detail/draw_cut.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace infobatch {
namespace detail {

/// (64-bit draw, sample id): the order in which samples are drawn.
using Draw = std::pair<std::uint64_t, std::int64_t>;

/// The draws from `low` to `high`, both included, of the members, and how many lie below them.
struct DrawWindow {
  std::int64_t below = 0;
  std::vector<Draw> inside;
};

/// The cut that exactly `wanted` of the `members` lie before.
///
/// It is sought in a window of draws around its expectation, ten deviations to each side; a window
/// that misses it is widened. So the window only decides the cost, never the result.
/// @param find  (low, high, last) -> the cut, where it lies in the window from `low` to `high`,
/// both
///              included; last: there is no wider one.
template <typename Find>
DrawCut seek_cut(std::int64_t members, std::int64_t wanted, const Find& find) {
  if (wanted <= 0) return {};
  if (wanted >= members) return DrawCut::all();
  const double n = static_cast<double>(members);
  const double expected = static_cast<double>(wanted) / n;
  double reach = 10.0 * std::sqrt(expected * (1.0 - expected) / n) + 10.0 / n;
  for (;; reach *= 8.0) {
    const double from = std::max(expected - reach, 0.0);
    const double to = expected + reach;
    const auto low = static_cast<std::uint64_t>(std::ldexp(from, 64));
    const std::uint64_t high =
        to < 1.0 ? static_cast<std::uint64_t>(std::ldexp(to, 64)) : ~std::uint64_t{0};
    const std::optional<DrawCut> cut = find(low, high, from <= 0.0 && to >= 1.0);
    if (cut) return *cut;
  }
}

/// The same where one process has all members.
/// @param draws_between  (low, high) -> DrawWindow of the members.
template <typename DrawsBetween>
DrawCut smallest_draws(std::int64_t members,
                       std::int64_t wanted,
                       const DrawsBetween& draws_between) {
  const auto find = [&](std::uint64_t low, std::uint64_t high, bool) -> std::optional<DrawCut> {
    DrawWindow window = draws_between(low, high);
    const std::int64_t rank = wanted - window.below;
    if (rank < 0 || rank >= static_cast<std::int64_t>(window.inside.size())) return std::nullopt;
    std::nth_element(window.inside.begin(), window.inside.begin() + rank, window.inside.end());
    const Draw& first_behind = window.inside[static_cast<std::size_t>(rank)];
    return DrawCut{first_behind.first, first_behind.second};
  };
  return seek_cut(members, wanted, find);
}

}  // namespace detail
}  // namespace infobatch
