#include <infobatch/detail/first_level.hpp>

#include <utility>

namespace infobatch {
namespace detail {

std::vector<Piece> partition(const KeptRuns& kept,
                             const ShuffleArrays& arrays,
                             const Level& level,
                             Team& team) {
  std::vector<std::vector<std::uint32_t>> next(kept.runs.size());
  team.run([&](int thread) {
    const auto t = static_cast<std::size_t>(thread);
    count_parts(level, kept.runs[t].position, kept.runs[t].size, next[t]);
  });
  std::vector<Piece> parts(level.parts());
  std::uint32_t slot = 0;
  for (std::size_t part = 0; part < level.parts(); ++part) {
    const std::uint32_t begin = slot;
    for (std::vector<std::uint32_t>& slots : next) slot += std::exchange(slots[part], slot);
    parts[part] = {arrays.scatter + begin,
                   static_cast<std::int64_t>(slot - begin),
                   static_cast<std::int64_t>(begin)};
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

}  // namespace detail
}  // namespace infobatch
