#pragma once

#include <samplers/detail/store_meeting.hpp>

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

namespace infobatch::detail {

/// Collectives of a process group; its ranks meet in a store.
class GroupExchange : public Exchange {
 public:
  GroupExchange(c10::intrusive_ptr<c10d::ProcessGroup> group,
                c10::intrusive_ptr<c10d::Store> store,
                const ExchangeOptions& options);

  void meet(const std::string& what) override { meeting_.meet(what); }
  void fail(const std::string& what, const std::string& why) override { meeting_.fail(what, why); }
  void gather(const void* own, std::int64_t bytes, void* all, const std::string& what) override;
  void largest(std::int32_t* values, std::int64_t count, const std::string& what) override;

 private:
  template <typename Start>
  void run(const std::string& what, const Start& start);
  void finish(c10d::Work& work);
  RankError broken(const std::string& what, const std::exception& error);

  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  c10::Device device_;
  StoreMeeting meeting_;
};

}  // namespace infobatch::detail
