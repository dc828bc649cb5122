#include <infobatch/detail/first_level.hpp>

#include <algorithm>
#include <utility>

namespace infobatch {
namespace detail {
namespace {

// Level 1: from the runs into arrays.scatter; returns the parts.
std::vector<Pieces> partition_runs(const KeptRuns& kept,
                                   const ShuffleArrays& arrays,
                                   const Level& level,
                                   Team& team) {
  std::vector<std::vector<std::uint32_t>> next(kept.runs.size());
  team.run([&](int thread) {
    const auto t = static_cast<std::size_t>(thread);
    count_parts(level, kept.runs[t].position, kept.runs[t].size, next[t]);
  });
  std::vector<Pieces> parts(level.parts());
  std::uint32_t slot = 0;
  for (std::size_t part = 0; part < level.parts(); ++part) {
    const std::uint32_t begin = slot;
    for (std::vector<std::uint32_t>& slots : next) slot += std::exchange(slots[part], slot);
    parts[part] = {{arrays.scatter + begin,
                    static_cast<std::int64_t>(slot - begin),
                    static_cast<std::int64_t>(begin)}};
  }
  team.run([&](int thread) {
    const auto t = static_cast<std::size_t>(thread);
    scatter(level,
            kept.runs[t].position,
            arrays.kept + kept.runs[t].begin,
            kept.runs[t].size,
            next[t].data(),
            arrays.scatter);
  });
  return parts;
}

// Level 1 without counting: into the memory of arrays.ids, which has two slots for each item. The
// items of a part go to the middle of the place where, judged by the average, its ids will be; a
// margin at both ends stands for how far that place may move. So the ids of a part overwrite no
// items but its own. `slots` are the slots of a part, margins included.
struct Rooms {
  double slots;
  double margin;
  double kept;

  // Where the items of the run go that begins at this position of the kept list.
  std::uint32_t begin(std::size_t part, std::int64_t position) const {
    const double used = slots - 2 * margin;
    return static_cast<std::uint32_t>(static_cast<double>(part) * slots + margin +
                                      used * static_cast<double>(position) / kept);
  }
};

// Whether rooms are worth trying: they exist, and hold what is to be expected.
bool rooms_suffice(const Rooms& rooms,
                   const KeptRuns& kept,
                   const Level& level,
                   const ShuffleConstants& constants) {
  constexpr std::int64_t kLeastPart = 256;  // an average that no part outgrows two times
  constexpr std::int64_t kMostKept = (std::int64_t{1} << 31) - 1;  // two slots an item, of 32 bits
  if (kept.size < constants.roomy_from || kept.size > kMostKept) return false;
  if (kept.size >> level.bits < kLeastPart) return false;
  if (2 * rooms.margin >= rooms.slots) return false;
  return std::all_of(kept.runs.begin(), kept.runs.end(), [&](const KeptRuns::Run& run) {
    const std::int64_t room = std::int64_t{rooms.begin(0, run.position + run.size)} -
                              std::int64_t{rooms.begin(0, run.position)};
    return room > room_for((run.size >> level.bits) + 1, constants.room_deviations);
  });
}

// Empty where a part outgrew its room; the kept items are then as they were.
std::vector<Pieces> partition_into_rooms(const KeptRuns& kept,
                                         const ShuffleArrays& arrays,
                                         const Level& level,
                                         Team& team,
                                         const ShuffleConstants& constants) {
  const auto size = static_cast<double>(kept.size);
  const Rooms rooms{2 * size / static_cast<double>(level.parts()),
                    constants.room_deviations * std::sqrt(size),
                    size};
  if (!rooms_suffice(rooms, kept, level, constants)) return {};
  auto* const slots = reinterpret_cast<std::uint32_t*>(arrays.ids);
  std::vector<std::vector<std::uint32_t>> ends(kept.runs.size());
  team.run([&](int thread) {
    const auto t = static_cast<std::size_t>(thread);
    ends[t].resize(level.parts());
    for (std::size_t part = 0; part < level.parts(); ++part) {
      ends[t][part] = rooms.begin(part, kept.runs[t].position);
    }
    scatter(level,
            kept.runs[t].position,
            arrays.kept + kept.runs[t].begin,
            kept.runs[t].size,
            ends[t].data(),
            slots);
  });

  std::vector<Pieces> parts(level.parts());
  std::int64_t position = 0;
  for (std::size_t part = 0; part < level.parts(); ++part) {
    const std::int64_t first = 2 * position;
    std::int64_t last = first;
    for (std::size_t t = 0; t < kept.runs.size(); ++t) {
      const KeptRuns::Run& run = kept.runs[t];
      const std::uint32_t begin = rooms.begin(part, run.position);
      if (ends[t][part] > rooms.begin(part, run.position + run.size)) return {};
      if (begin < first) return {};
      last = ends[t][part];
      parts[part].push_back({slots + begin, last - begin, position});
      position += last - begin;
    }
    if (last > 2 * position) return {};
  }
  return parts;
}

}  // namespace

std::vector<Pieces> partition(const KeptRuns& kept,
                              const ShuffleArrays& arrays,
                              const Level& level,
                              bool two_levels,
                              Team& team,
                              const ShuffleConstants& constants) {
  // With one level the items are shuffled where they lie, which has to be one piece.
  if (two_levels) {
    auto parts = partition_into_rooms(kept, arrays, level, team, constants);
    if (!parts.empty()) return parts;
  }
  if (arrays.kept != arrays.scatter) return partition_runs(kept, arrays, level, team);
  ShuffleArrays moved = arrays;
  moved.kept = reinterpret_cast<std::uint32_t*>(arrays.ids);
  team.run([&](int thread) {
    const KeptRuns::Run& run = kept.runs[static_cast<std::size_t>(thread)];
    std::copy_n(arrays.kept + run.begin, run.size, moved.kept + run.begin);
  });
  return partition_runs(kept, moved, level, team);
}

}  // namespace detail
}  // namespace infobatch
