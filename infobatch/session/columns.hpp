#pragma once

#include <infobatch/card.hpp>
#include <infobatch/column.hpp>
#include <infobatch/detail/buffer.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace infobatch::detail {

/// Bytes of a value.
std::size_t element_size(ColumnType type);
/// Name of the type in a safetensors file: "F32", "I64", ...
const char* dtype_name(ColumnType type);

/// What was never kept has this as the epoch that kept it last.
constexpr std::int32_t kNeverKept = -1;
/// The columns of the record (Config::record).
constexpr const char* kRecordNames[] = {"times_kept", "last_kept"};

/// The per-sample state of a run: the scores, the columns of the policy, the record, and the
/// columns that the user gave. Memory is taken once for each column and never moves.
class Columns {
 public:
  /// A column that the user gave, e.g. `class`.
  struct Own {
    std::string name;
    ColumnType type;
    Buffer<char> values;

    std::string_view bytes() const {
      return {values.data(), static_cast<std::size_t>(values.size())};
    }
  };

  /// @param policy  the columns that the policy keeps, empty at first.
  /// @param source   of the memory of the scores and of these.
  /// @param records  whether there is a record.
  /// @throws std::bad_alloc
  explicit Columns(std::int64_t size,
                   View<ColumnCard> policy = {},
                   const MemorySource& source = {},
                   bool records = false);

  std::int64_t size() const { return scores_.size(); }
  /// [N] scores; a reserved NaN: never observed.
  float* scores() { return scores_.data(); }
  const float* scores() const { return scores_.data(); }

  /// [N] each, in the order of the card; NaN: unknown.
  const std::vector<float*>& policy() const { return policy_; }
  const float* const* policy_data() const { return policy_.data(); }
  View<ColumnCard> policy_cards() const { return cards_; }

  /// A column of the record, by its name.
  struct Record {
    const char* name;
    std::int32_t* values;  ///< [N]
    std::int32_t none;     ///< of a sample that was never kept
  };
  /// [N] each: epochs that kept the sample, and the last of them; none without a record.
  View<Record> record() const { return has_record_ ? View<Record>(record_) : View<Record>(); }

  /// Copies a column. One that is there already takes the new values in place.
  /// @param data    [N] values of `type`.
  /// @param frozen  values may not change any more: only equal ones are taken.
  /// @throws InvalidArgument  a name that is none or the engine's own, an unknown type, another
  /// type
  ///                          than before, no data.
  /// @throws StateError       `frozen`, and the column is new or differs.
  void set(const std::string& name, ColumnType type, const void* data, bool frozen);
  /// nullptr: there is none of that name.
  const Own* find(const std::string& name) const;
  /// In the order of the names.
  const std::deque<Own>& own() const { return own_; }

  /// "score", those of the policy, of the record, then the user's in the order of their names.
  std::vector<std::string> names() const;
  /// The column as others see it, "score" and the policy's included.
  /// @throws InvalidArgument  there is none of that name.
  ColumnView view(const std::string& name) const;

 private:
  Buffer<float> scores_;
  View<ColumnCard> cards_;
  std::deque<Buffer<float>> policy_values_;
  std::vector<float*> policy_;
  Buffer<std::int32_t> times_kept_;
  Buffer<std::int32_t> last_kept_;
  bool has_record_ = false;
  Record record_[2] = {};
  std::deque<Own> own_;
};

}  // namespace infobatch::detail
