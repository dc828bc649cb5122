#pragma once

#include <infobatch/config.hpp>
#include <infobatch/session.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace infobatch::detail {

constexpr std::size_t kWarningKinds = 6;

/// The figures that a warning speaks of; what they mean depends on the kind.
struct WarningFigures {
  std::int64_t epoch = 0;
  std::int64_t count = 0;
  std::int64_t of = 0;
  std::int64_t batch = 0;
  double promised = 0.0;
  double got = 0.0;
};

/// Warnings that were found and not delivered yet. Plain figures, put into words when they are
/// taken: finding one allocates nothing, and a copy of all takes a call's findings back.
class Warnings {
 public:
  /// Nothing happens where this kind was found before.
  void found(WarningKind kind, const WarningFigures& figures) noexcept;
  bool pending() const noexcept { return pending_ != 0; }
  bool same_pending(const Warnings& other) const noexcept { return pending_ == other.pending_; }
  /// The text of the next warning, which then counts as delivered. There is one.
  /// @throws std::bad_alloc  it is then still pending.
  std::string take(const Config& config, const Wording& wording, WarningKind* taken = nullptr);

 private:
  std::uint32_t known_ = 0;    // bits by kind: found at some time
  std::uint32_t pending_ = 0;  // found and not taken
  std::array<WarningFigures, kWarningKinds> figures_{};
};

}  // namespace infobatch::detail
