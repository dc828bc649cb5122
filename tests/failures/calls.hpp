#pragma once

#include <tests/failures/world.hpp>

#include <vector>

namespace infobatch::testing {

/// A call of the C interface as it is tried: it takes no memory of its own.
struct Call {
  const char* function;  ///< as ib_last_error() names it
  const char* variant;
  ib_status (*make)(World& world);
  void (*prepare)(World& world) = nullptr;  ///< more than the situation has
  void (*look)(World& world) = nullptr;     ///< what it returned goes into the trace
  bool large = false;                       ///< tried with large sessions, too
};

/// Every call that takes a session.
const std::vector<Call>& session_calls();

}  // namespace infobatch::testing
