#pragma once

#include <cstdint>

namespace infobatch::fuzz {

/// What a byte of an input of calls_fuzzer asks for, modulo kCalls.
enum class Call : std::uint8_t {
  kBegin,
  kNext,         ///< a batch of the loader's size
  kNextOther,    ///< a batch of any size
  kNextRows,     ///< some rows
  kObserve,      ///< the losses of the oldest batch that is out
  kObserveSome,  ///< those of some rows
  kObserveTooMany,
  kUpdate,  ///< observe with a reduction
  kAdvance,
  kAdvanceAndWrite,  ///< the losses go into the lent array
  kStage,
  kObserveIds,       ///< the oldest batch that is out, by ids
  kObserveAnyIds,    ///< ids of the plan, in any order, some twice
  kObserveBadIds,    ///< an id that is outside
  kStageWholeEpoch,  ///< losses by position, some unseen
  kSetEpoch,
  kLength,
  kPlan,
  kDiscard,
  kReload,  ///< the state into this session and into a new one
  kDropLast,
  kColumn,
  kStatistics,
  kArrays,
  kBad,      ///< arguments that no call takes
  kEpoch,    ///< a whole epoch, nothing lost
  kWeights,  ///< weights of ids of the plan, or of any
  kCalls,
};

/// The first bytes of an input: the run, the number of samples, the batch, how warnings are taken,
/// whether the loader loses rows.
constexpr int kHead = 5;

}  // namespace infobatch::fuzz
