#include <infobatch/detail/peers.hpp>
#include <infobatch/error.hpp>

#include <algorithm>
#include <cstring>
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
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::int64_t& sum = values[i % count];
    if (all[i] < 0 || all[i] > range_.total - sum) refuse_counts();
    sum += all[i];
  }
}

void Peers::gather_bytes(const void* own, std::size_t bytes, void* all) const {
  try {
    gather_(own, bytes, all);
  } catch (...) {
    failure_ = std::current_exception();
    throw StateError("gather: failed");  // of a kind that every table takes
  }
  const char* const place = static_cast<const char*>(all) + bytes * std::size_t(range_.rank);
  if (bytes > 0 && std::memcmp(place, own, bytes) != 0) {
    refuse(message(
        "the bytes of all ranks in their order, got others than its own in the place of rank ",
        range_.rank));
  }
}

void Peers::refuse(const std::string& rule) const {
  const std::string text = "gather: must return " + rule;
  failure_ = std::make_exception_ptr(StateError(text));
  throw StateError(text);
}

void Peers::refuse_counts() const { refuse("what all ranks gave, got counts that cannot be"); }

void Peers::meet(std::int64_t epoch) const {
  const std::vector<std::int64_t> all = gather(&epoch, 1);
  std::string wrong;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    wrong += message(wrong.empty() ? "" : ", ", "rank ", rank, ": epoch ", all[rank]);
  }
  if (!wrong.empty()) {
    throw StateError(message("plan: the ranges of a table must plan the same epoch, got ",
                             wrong,
                             ", rank 0: epoch ",
                             all[0]));
  }
}

DrawCut Peers::draw_at(std::int64_t rank,
                       std::uint64_t low,
                       std::uint64_t high,
                       std::vector<Draw> own) const {
  constexpr std::uint64_t kParts = 64;
  while (low < high) {
    const std::uint64_t width = (high - low) / kParts + 1;
    std::int64_t counts[kParts] = {};
    for (const Draw& draw : own) ++counts[(draw.first - low) / width];
    add_up(counts, kParts);
    std::uint64_t part = 0;
    while (part < kParts && rank >= counts[part]) rank -= counts[part++];
    if (part == kParts || rank < 0) refuse_counts();
    low += part * width;
    high = high - low < width ? high : low + (width - 1);
    const auto outside = [&](const Draw& draw) { return draw.first < low || draw.first > high; };
    own.erase(std::remove_if(own.begin(), own.end(), outside), own.end());
    if (counts[part] > 1) continue;
    return one_of_all(own.empty() ? nullptr : own.data(), low, high);
  }
  // Equal draws: by id, and so by rank first.
  const auto mine = static_cast<std::int64_t>(own.size());
  const std::vector<std::int64_t> all = gather(&mine, 1);
  std::size_t owner = 0;
  while (owner < all.size() && rank >= all[owner]) rank -= all[owner++];
  if (owner == all.size() || rank < 0) refuse_counts();
  const bool is_owner = owner == static_cast<std::size_t>(range_.rank);
  if (is_owner && rank >= mine) refuse_counts();
  std::sort(own.begin(), own.end());
  return one_of_all(is_owner ? &own[static_cast<std::size_t>(rank)] : nullptr, low, high);
}

DrawCut Peers::one_of_all(const Draw* own, std::uint64_t low, std::uint64_t high) const {
  struct Told {
    std::int64_t has = 0;
    std::int64_t id = 0;
    std::uint64_t draw = 0;
  };
  const Told mine = own != nullptr ? Told{1, own->second, own->first} : Told{};
  const std::vector<Told> all = gather(&mine, 1);
  const auto has = [](const Told& told) { return told.has == 1; };
  const auto found = std::find_if(all.begin(), all.end(), has);
  const auto may_be = [](const Told& told) { return told.has == 0 || told.has == 1; };
  if (!std::all_of(all.begin(), all.end(), may_be) || found == all.end() ||
      std::count_if(all.begin(), all.end(), has) != 1 || found->draw < low || found->draw > high ||
      found->id < 0 || found->id >= range_.total) {
    refuse_counts();
  }
  return {found->draw, found->id};
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
    const bool fits =
        own.first >= 0 && own.size >= 0 && own.first <= kMaxTable && own.size <= kMaxSize;
    if (!fits) note(rank, "a range that cannot be");
    next = fits ? own.first + own.size : 0;
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
