#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session/columns.hpp>

#include <algorithm>
#include <cstring>
#include <utility>

namespace infobatch::detail {
namespace {

struct TypeInfo {
  const char* dtype;
  std::size_t size;
};

constexpr TypeInfo kTypes[] = {{"F32", 4},
                               {"F64", 8},
                               {"F16", 2},
                               {"BF16", 2},
                               {"I8", 1},
                               {"I16", 2},
                               {"I32", 4},
                               {"I64", 8},
                               {"U8", 1},
                               {"U16", 2},
                               {"U32", 4},
                               {"U64", 8}};
constexpr std::size_t kMostNamed = 64;  // characters of a name

bool known(ColumnType type) {
  const auto number = static_cast<std::int32_t>(type);
  return number >= 0 && number < static_cast<std::int32_t>(std::size(kTypes));
}

const TypeInfo& info(ColumnType type) { return kTypes[static_cast<std::size_t>(type)]; }

/// a-z, 0-9 and _, not a digit first: a name that is the same in every language and file.
bool well_formed(const std::string& name) {
  if (name.empty() || name.size() > kMostNamed || (name[0] >= '0' && name[0] <= '9')) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

}  // namespace

std::size_t element_size(ColumnType type) { return info(type).size; }
const char* dtype_name(ColumnType type) { return known(type) ? info(type).dtype : "no type"; }

Columns::Columns(std::int64_t size,
                 View<ColumnCard> policy,
                 const MemorySource& source,
                 bool records)
    : scores_(size, source), cards_(policy) {
  std::fill(scores_.begin(), scores_.end(), never_observed());
  for (int c = 0; c < policy.size; ++c) {
    Buffer<float>& values = policy_values_.emplace_back(size, source);
    std::fill(values.begin(), values.end(), never_observed());
    policy_.push_back(values.data());
  }
  if (!records) return;
  times_kept_ = Buffer<std::int32_t>(size);
  last_kept_ = Buffer<std::int32_t>(size);
  std::fill(times_kept_.begin(), times_kept_.end(), 0);
  std::fill(last_kept_.begin(), last_kept_.end(), kNeverKept);
  has_record_ = true;
  record_[0] = {kRecordNames[0], times_kept_.data(), 0};
  record_[1] = {kRecordNames[1], last_kept_.data(), kNeverKept};
}

std::vector<std::string> Columns::names() const {
  std::vector<std::string> names = {"score"};
  for (const ColumnCard& card : cards_) names.emplace_back(card.name);
  for (const Record& record : record()) names.emplace_back(record.name);
  for (const Own& own : own_) names.push_back(own.name);
  return names;
}

void Columns::set(const std::string& name, ColumnType type, const void* data, bool frozen) {
  if (!well_formed(name) || name == "score" || name == "id") {
    throw InvalidArgument(message("set_column: name must be 1 to ",
                                  kMostNamed,
                                  " characters of a-z, 0-9 and _, no digit first, and not \"id\" or"
                                  " \"score\", which are the engine's; got \"",
                                  name.substr(0, 2 * kMostNamed),
                                  "\""));
  }
  for (const ColumnCard& card : cards_) {
    if (name != card.name) continue;
    throw InvalidArgument(
        message("set_column: name must not be that of a column of the policy, got \"", name, "\""));
  }
  for (const char* const reserved : kRecordNames) {
    if (name != reserved) continue;
    throw InvalidArgument(
        message("set_column: name must not be that of the engine's record, got \"", name, "\""));
  }
  if (!known(type)) {
    throw InvalidArgument(message("set_column: type must be one of ColumnType, got ",
                                  static_cast<std::int32_t>(type)));
  }
  if (data == nullptr && size() > 0) {
    throw InvalidArgument("set_column: data must not be null, got null");
  }
  const auto bytes = static_cast<std::size_t>(size()) * element_size(type);
  auto place =
      std::lower_bound(own_.begin(), own_.end(), name, [](const Own& own, const auto& key) {
        return own.name < key;
      });
  const bool present = place != own_.end() && place->name == name;
  if (present && place->type != type) {
    throw InvalidArgument(message("set_column: column ",
                                  name,
                                  " must keep its type ",
                                  dtype_name(place->type),
                                  ", got ",
                                  dtype_name(type)));
  }
  const bool equal = present && (bytes == 0 || std::memcmp(place->values.data(), data, bytes) == 0);
  if (equal) return;
  if (frozen) {
    throw StateError(message("set_column: column ",
                             name,
                             " must be set before the first epoch begins, got ",
                             present ? "other values" : "a new column",
                             " in a run that has begun"));
  }
  if (!present) {
    Own fresh{name, type, Buffer<char>(static_cast<std::int64_t>(bytes))};
    if (bytes > 0) std::memcpy(fresh.values.data(), data, bytes);
    own_.insert(place, std::move(fresh));
  } else if (bytes > 0) {
    std::memcpy(place->values.data(), data, bytes);
  }
}

const Columns::Own* Columns::find(const std::string& name) const {
  for (const Own& own : own_) {
    if (own.name == name) return &own;
  }
  return nullptr;
}

ColumnView Columns::view(const std::string& name) const {
  if (name == "score") return {name, ColumnType::kFloat32, scores(), size()};
  for (int c = 0; c < cards_.size; ++c) {
    if (name == cards_[c].name) {
      return {name, ColumnType::kFloat32, policy_[static_cast<std::size_t>(c)], size()};
    }
  }
  for (const Record& record : record()) {
    if (name == record.name) return {name, ColumnType::kInt32, record.values, size()};
  }
  const Own* own = find(name);
  if (own == nullptr) {
    throw InvalidArgument(message(
        "column: name must be one of ", join(names(), ", "), "; got \"", name.substr(0, 64), "\""));
  }
  return {name, own->type, own->values.data(), size()};
}

}  // namespace infobatch::detail
