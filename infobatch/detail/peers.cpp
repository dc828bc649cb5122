#include <infobatch/detail/peers.hpp>
#include <infobatch/error.hpp>

#include <algorithm>
#include <string>
#include <type_traits>

namespace infobatch::detail {

static_assert(std::is_trivially_copyable_v<ScoreSum>, "it travels as the bytes that it is");

ScoreSum Peers::total(const ScoreSum& own) const {
  ScoreSum all;
  for (const ScoreSum& part : gather(&own, 1)) all.merge(part);
  return all;
}

void Peers::add_up(std::int64_t* values, std::size_t count) const {
  const std::vector<std::int64_t> all = gather(values, count);
  std::fill_n(values, count, 0);
  for (std::size_t i = 0; i < all.size(); ++i) values[i % count] += all[i];
}

DrawWindow Peers::all_of(const DrawWindow& own) const {
  // Lists of different lengths: the lengths first, then as much from each as the longest has.
  const std::int64_t head[] = {own.below, static_cast<std::int64_t>(own.inside.size())};
  const std::vector<std::int64_t> heads = gather(head, 2);
  DrawWindow all;
  std::size_t longest = 0;
  for (std::size_t rank = 0; 2 * rank < heads.size(); ++rank) {
    all.below += heads[2 * rank];
    longest = std::max(longest, static_cast<std::size_t>(heads[2 * rank + 1]));
  }
  if (longest == 0) return all;
  std::vector<std::uint64_t> padded(2 * longest);
  for (std::size_t i = 0; i < own.inside.size(); ++i) {
    padded[2 * i] = own.inside[i].first;
    padded[2 * i + 1] = static_cast<std::uint64_t>(own.inside[i].second);
  }
  const std::vector<std::uint64_t> lists = gather(padded.data(), padded.size());
  for (std::size_t rank = 0; 2 * rank < heads.size(); ++rank) {
    const std::uint64_t* const list = lists.data() + rank * padded.size();
    for (std::int64_t i = 0; i < heads[2 * rank + 1]; ++i) {
      all.inside.emplace_back(list[2 * i], static_cast<std::int64_t>(list[2 * i + 1]));
    }
  }
  return all;
}

void check_ranges(const std::vector<RangeReport>& reports) {
  std::string wrong;
  const auto note = [&](std::size_t rank, const std::string& text) {
    wrong += message(wrong.empty() ? "" : "; ", "rank ", rank, ": ", text);
  };
  const RangeReport& first = reports.front();
  std::int64_t next = 0;
  for (std::size_t rank = 0; rank < reports.size(); ++rank) {
    const RangeReport& own = reports[rank];
    if (own.rule_version != first.rule_version) note(rank, "another version of the rules");
    if (own.config != first.config) note(rank, "other options");
    if (own.total != first.total) note(rank, message("a table of ", own.total, " samples"));
    if (own.first != next) note(rank, message("begins at ", own.first, ", not at ", next));
    next = own.first + own.size;
  }
  if (next != first.total) {
    note(reports.size() - 1, message("ends at ", next, ", not at ", first.total));
  }
  if (!wrong.empty()) {
    throw StateError(
        "set_range: the ranges of all ranks must be one table of one run, one behind the other, "
        "got " +
        wrong);
  }
}

}  // namespace infobatch::detail
