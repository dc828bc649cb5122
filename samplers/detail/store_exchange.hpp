#pragma once

#include <samplers/detail/store_meeting.hpp>

namespace infobatch::detail {

/// Every rank puts its bytes into the store and takes those of the others, a piece after the other.
class StoreExchange : public Exchange {
 public:
  /// Bytes of a piece: what a TCPStore takes at once has a limit (8 MiB in torch 2.11).
  static constexpr std::int64_t kPiece = std::int64_t{4} << 20;

  StoreExchange(c10::intrusive_ptr<c10d::Store> store,
                int rank,
                int size,
                const ExchangeOptions& options)
      : Exchange(rank, size), meeting_(std::move(store), rank, size, options) {}

  void meet(const std::string& what) override;
  void fail(const std::string& what, const std::string& why) override;
  void gather(const void* own, std::int64_t bytes, void* all, const std::string& what) override;
  void largest(std::int32_t* values, std::int64_t count, const std::string& what) override;

 private:
  template <typename Take>
  void pass_on(const void* own, std::int64_t bytes, const std::string& what, const Take& take);
  std::vector<std::uint8_t> receive(const std::string& piece, int rank, const std::string& what);
  RankError lost(const std::string& piece, const std::string& what);

  StoreMeeting meeting_;
  std::int64_t sent_ = 0;  // pieces since the last meeting
};

}  // namespace infobatch::detail
