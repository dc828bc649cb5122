#pragma once

#include <infobatch/export.h>

#include <cstdint>

namespace infobatch {

/// A constant array, borrowed.
template <typename T>
struct View {
  const T* data = nullptr;
  int size = 0;

  constexpr View() = default;
  template <int N>
  constexpr View(const T (&array)[N]) : data(array), size(N) {}  // NOLINT: as an array decays
  constexpr const T* begin() const { return data; }
  constexpr const T* end() const { return data + size; }
  constexpr const T& operator[](int i) const { return data[i]; }
};

/// What an option takes.
enum class OptionKind : std::int32_t {
  kInteger,  ///< 64 bits
  kNatural,  ///< 64 bits from zero on
  kNumber,   ///< float64
  kNumbers,  ///< a list of these
  kBool,
  kText,
  kMaybeNumber,  ///< a number, or none
  kMaybeBool,    ///< true, false, or not declared
};

/// The values that an option may have where it is a number, or a list of them.
struct OptionRange {
  double low = 0.0;
  double high = 0.0;
  bool low_open = false;   ///< `low` itself is no value of it
  bool high_open = false;  ///< nor is `high`
  bool bounded = false;    ///< false: any value
};

constexpr OptionRange closed(double low, double high) { return {low, high, false, false, true}; }
constexpr OptionRange right_open(double low, double high) { return {low, high, false, true, true}; }
constexpr OptionRange left_open(double low, double high) { return {low, high, true, false, true}; }
constexpr OptionRange open(double low, double high) { return {low, high, true, true, true}; }

/// Names that an option takes, a nullptr behind the last.
using Choices = const char* const* (*)() noexcept;

/// One line of the table of options: what JSON, the C ABI, the bindings, the documentation and the
/// tests know of an option.
struct Option {
  const char* name;
  OptionKind kind;
  const char* meaning;
  OptionRange range;  ///< of each number
  /// The default of a policy's own parameter; the others' are those of `Config`.
  double default_value = 0.0;
  bool may_change = false;    ///< whether a saved run may go on with another value
  Choices choices = nullptr;  ///< of a text
};

/// How a column follows the losses: at the boundary of an epoch the loss of each sample that it saw
/// is folded into it. A loss that is not finite makes the value unknown (NaN).
enum class FoldKind : std::int32_t {
  kEma,       ///< a * old + (1 - a) * loss; the first loss as it is
  kVariance,  ///< a * old + (1 - a) * (loss - mean)^2, with the column before it, an ema, as the
              ///< mean before this loss; 0 for the first loss
};

/// A column of float32 that a policy keeps of each sample, beside the score.
struct ColumnCard {
  const char* name;
  FoldKind fold;
  const char* weight;  ///< the parameter that is 1 - a: the weight of the newest loss
};

/// What there is to know of a policy, as data.
struct PolicyCard {
  const char* name;     ///< in `Config::policy`
  const char* summary;  ///< one sentence
  const char* source;
  bool prunes;        ///< whether it ever leaves a sample out
  bool needs_scores;  ///< whether it reads them (else it prunes even where none is known yet)
  bool rescales;      ///< whether what it keeps of a class stands for the class, so that the
                      ///< expected update stays that of all samples
  bool anneals;       ///< whether its authors end with epochs of all samples; `delta` does it
  bool draws;         ///< whether `keep` and `whole_batches` apply: classes are kept in part
  /// The parameter that is the rule's scale, for which a fixed budget solves; nullptr: a factor on
  /// all that the rule leaves out, 1 without a budget.
  const char* scale;
  View<const Option*> parameters;
  View<ColumnCard> columns;
};

/// Options, policies and their cards as JSON:
/// {"options": [{"name", "kind", "default", "range", "choices", "meaning", "policies",
///  "may_change"}, ...],
///  "policies": [{"name", "summary", "source", "prunes", "rescales", ..., "parameters",
///  "columns": [{"name", "fold", "weight"}, ...]}, ...]}. Lives for ever.
/// @throws std::bad_alloc
INFOBATCH_API const char* cards_json();

}  // namespace infobatch
