#pragma once

#include <infobatch/column.hpp>
#include <infobatch/config.hpp>
#include <infobatch/detail/planner.hpp>
#include <infobatch/session.hpp>
#include <infobatch/session/soundness.hpp>
#include <infobatch/session/totals.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace infobatch::detail {

/// The figures of a saved state: all but the tensors. What belongs to a session's memory or threads
/// is not among them; of the loader only what soundness needs to know of it.
struct StateFigures {
  std::int64_t size = 0;
  int rule_version = kRuleVersion;
  Config config;
  std::int64_t epoch = 0;
  bool pinned = false;     ///< set_epoch was called and its iteration has not begun
  bool delivered = false;  ///< nothing of the epoch was observed, and it is over

  /// The running plan; empty where its iteration has not begun.
  struct PlanFigures {
    std::int64_t kept = 0;
    EpochChoice choice;
    std::uint64_t fingerprint = 0;
    int ranks = 1;  ///< whose batches Config::whole_batches made whole
  };
  std::optional<PlanFigures> plan;

  /// A state that is only one rank's part: figures of the loader and staged losses are by row of
  /// its share, dealt behind the first `origin` samples.
  struct PartFigures {
    Ranks ranks;
    std::int64_t origin = 0;
  };
  std::optional<PartFigures> part;

  /// Where a state of one range of a larger table lies in it.
  struct RangeFigures {
    std::int64_t first = 0;
    std::int64_t total = 0;
  };
  std::optional<RangeFigures> range;

  ObservedBy by = ObservedBy::kNone;
  std::int64_t observed = 0;
  bool split = false;
  std::int64_t row_batch = 0;  ///< rows of a batch, of an epoch delivered row by row; 0: not known
  std::int64_t proven = 0;
  std::int64_t lag_batches = 0;  ///< unproven
  std::int64_t sure = 0;         ///< would enter the scores if the epoch were closed now
  std::int64_t doubt_end = 0;    ///< but for [proven, doubt_end)
  std::int64_t non_finite = 0;   ///< of the running epoch
  bool lent = false;             ///< its losses are judged at the boundary
  Totals totals;
};

/// A tensor of a state: its bytes as they lie in memory, and what has to be changed in the copy
/// that goes into the file.
struct StateTensor {
  std::string name;
  std::string dtype;
  std::int64_t count = 0;
  std::string_view bytes;
  std::function<void(char* copy)> patch;  ///< may be empty; must not throw
};

/// A state as the bytes of a safetensors file. The tensors are `scores`, `staged`,
/// `policy.<name>`, `record.<name>` and `column.<name>`; of a part observed by ids `positions`,
/// too: of the whole plan, by row of the share, -1 for padding.
/// @throws std::bad_alloc
std::string write_state(const StateFigures& figures, const std::vector<StateTensor>& tensors);

/// A column of a state, its values borrowed.
struct StateColumn {
  std::string name;
  std::string dtype;
  std::string_view bytes;
  std::int64_t count = 0;
};

/// The one of this name; nullptr: there is none.
const StateColumn* find_column(const std::vector<StateColumn>& columns, std::string_view name);

/// What `read_state` found; borrows the bytes.
struct StateContent {
  StateFigures figures;
  std::string_view scores;           ///< float32
  std::string_view staged;           ///< float32
  std::string_view positions;        ///< int64; of a part observed by ids
  std::vector<StateColumn> columns;  ///< that the user gave
  std::vector<StateColumn> policy;   ///< of the policy, float32
  std::vector<StateColumn> record;   ///< of the record, int32: both or none
};

/// Reads what `write_state` wrote, and checks all that can be checked without the session: figures
/// in their ranges and in agreement with one another and with the tensors.
/// @throws FileError        no such state, or a damaged one.
/// @throws InvalidArgument  a state of another schema; options that break their rules.
StateContent read_state(std::string_view bytes);

/// The state of a whole run, put together.
struct JoinedParts {
  StateFigures figures;
  std::vector<float> staged;
  const StateContent* with_scores = nullptr;  ///< the part that has scores; nullptr: none
};

/// The state of the whole run from the parts of all ranks, in any order.
/// @throws InvalidArgument  parts are missing, or of other runs or steps.
JoinedParts join_parts(const std::vector<StateContent>& parts);

/// Every option that differs, as "name: saved -> own", in two lists.
void compare_configs(const Config& saved,
                     const Config& own,
                     std::vector<std::string>& refused,
                     std::vector<std::string>& changed);

/// Throws FileError: "load: the state must be whole, got <what>".
[[noreturn]] void damaged(const std::string& what);

}  // namespace infobatch::detail
