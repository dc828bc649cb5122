#pragma once

// The barriers of a block. All its threads must come, to the same one: stricter than the hardware,
// which counts threads that have ended as having arrived.

namespace sim::detail {
struct Votes {
  int nonzero;  ///< threads whose predicate was not zero
  int threads;
};
Votes meet_block(int predicate, const char* file, int line);
}  // namespace sim::detail

// The file and line of the caller, for messages.
#define INFOBATCH_SIM_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(INFOBATCH_SIM_CALLER) { (void)sim::detail::meet_block(0, file, line); }
inline int __syncthreads_count(int predicate, INFOBATCH_SIM_CALLER) {
  return sim::detail::meet_block(predicate, file, line).nonzero;
}
inline int __syncthreads_or(int predicate, INFOBATCH_SIM_CALLER) {
  return sim::detail::meet_block(predicate, file, line).nonzero != 0 ? 1 : 0;
}
inline int __syncthreads_and(int predicate, INFOBATCH_SIM_CALLER) {
  const sim::detail::Votes votes = sim::detail::meet_block(predicate, file, line);
  return votes.nonzero == votes.threads ? 1 : 0;
}
