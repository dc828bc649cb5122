#pragma once

#include <cstdint>

// What this process may use of the machine: control groups (containers, batch systems) grant less
// than is there. Read from /proc and /sys; what cannot be read limits nothing. `root` stands before
// these paths, for tests.

namespace infobatch::detail {

/// Processors' worth of time that the control groups of this process grant, rounded up: the least
/// quota / period of its own group and of those above it; at least 1. INT_MAX without a quota.
int cpu_quota(const char* root = "") noexcept;

/// An amount of memory and who sets it.
struct MemoryLimit {
  std::int64_t bytes;
  const char* source;  ///< "the machine" or "the control group"
};

/// Memory that this process may use: what the machine has, or less where its control group, or one
/// above that, has a limit. 2^63 - 1 where nobody tells.
MemoryLimit memory_limit(const char* root = "") noexcept;

}  // namespace infobatch::detail
