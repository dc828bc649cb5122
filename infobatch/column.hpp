#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace infobatch {

/// Type of the values of a column.
enum class ColumnType : std::int32_t {
  kFloat32 = 0,
  kFloat64 = 1,
  kFloat16 = 2,
  kBFloat16 = 3,
  kInt8 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kUInt8 = 8,
  kUInt16 = 9,
  kUInt32 = 10,
  kUInt64 = 11,
};

/// A column of the per-sample state as it lies in memory. The memory never moves while the session
/// lives.
struct ColumnView {
  std::string name;
  ColumnType type = ColumnType::kFloat32;
  const void* data = nullptr;  ///< [N] values
  std::int64_t size = 0;       ///< N
};

}  // namespace infobatch
