#include <infobatch/session/csv.hpp>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace infobatch::detail {
namespace {

template <typename T>
T value_at(const void* data, std::int64_t index) {
  T value;
  std::memcpy(
      &value, static_cast<const char*>(data) + index * std::int64_t{sizeof value}, sizeof value);
  return value;
}

template <typename T>
void append_number(std::string& text, T value) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(value)) return;
  }
  char digits[48];
  text.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

/// The float16 with these bits.
float half_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const auto fraction = static_cast<float>(bits & 1023);
  const float sign = (bits & 0x8000) != 0 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction != 0.0f ? std::nanf("") : sign * HUGE_VALF;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024.0f + fraction, exponent - 25);
}

float bfloat_value(std::uint16_t bits) {
  const std::uint32_t wide = std::uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

void append_value(std::string& text, const ColumnView& column, std::int64_t index) {
  const void* const data = column.data;
  switch (column.type) {
    case ColumnType::kFloat32:
      return append_number(text, value_at<float>(data, index));
    case ColumnType::kFloat64:
      return append_number(text, value_at<double>(data, index));
    case ColumnType::kFloat16:
      return append_number(text, half_value(value_at<std::uint16_t>(data, index)));
    case ColumnType::kBFloat16:
      return append_number(text, bfloat_value(value_at<std::uint16_t>(data, index)));
    case ColumnType::kInt8:
      return append_number(text, int{value_at<std::int8_t>(data, index)});
    case ColumnType::kInt16:
      return append_number(text, value_at<std::int16_t>(data, index));
    case ColumnType::kInt32:
      return append_number(text, value_at<std::int32_t>(data, index));
    case ColumnType::kInt64:
      return append_number(text, value_at<std::int64_t>(data, index));
    case ColumnType::kUInt8:
      return append_number(text, unsigned{value_at<std::uint8_t>(data, index)});
    case ColumnType::kUInt16:
      return append_number(text, value_at<std::uint16_t>(data, index));
    case ColumnType::kUInt32:
      return append_number(text, value_at<std::uint32_t>(data, index));
    case ColumnType::kUInt64:
      return append_number(text, value_at<std::uint64_t>(data, index));
  }
}

}  // namespace

std::string csv_of(const Columns& columns) {
  std::vector<ColumnView> views;
  std::string text = "id";
  for (const std::string& name : columns.names()) {
    views.push_back(columns.view(name));
    text += ',' + name;
  }
  text += '\n';
  for (std::int64_t id = 0; id < columns.size(); ++id) {
    append_number(text, id);
    for (const ColumnView& view : views) {
      text += ',';
      append_value(text, view, id);
    }
    text += '\n';
  }
  return text;
}

}  // namespace infobatch::detail
