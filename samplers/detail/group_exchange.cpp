#include <infobatch/error.hpp>
#include <samplers/detail/group_exchange.hpp>

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

namespace infobatch::detail {
namespace {

/// How long ranks have to say that they are there, where a collective failed.
constexpr std::chrono::milliseconds kRollCall = std::chrono::seconds(3);

/// Where the group's collectives take their tensors: the CPU where it can.
c10::Device device_of_group(const c10d::ProcessGroup& group) {
  const std::vector<c10::Device> devices = group.getDeviceTypes();
  const auto is_cpu = [](c10::Device device) { return device.is_cpu(); };
  if (devices.empty() || std::any_of(devices.begin(), devices.end(), is_cpu)) return c10::kCPU;
  return devices.front();
}

}  // namespace

GroupExchange::GroupExchange(c10::intrusive_ptr<c10d::ProcessGroup> group,
                             c10::intrusive_ptr<c10d::Store> store,
                             const ExchangeOptions& options)
    : Exchange(group->getRank(), group->getSize()),
      group_(std::move(group)),
      device_(device_of_group(*group_)),
      meeting_(std::move(store), rank(), size(), options) {}

void GroupExchange::gather(const void* own,
                           std::int64_t bytes,
                           void* all,
                           const std::string& what) {
  if (bytes == 0) return;
  // Tensors of their own: a collective that failed may still use them behind this call.
  at::Tensor sent = at::empty({bytes}, at::kByte);
  std::memcpy(sent.mutable_data_ptr(), own, static_cast<std::size_t>(bytes));
  sent = sent.to(device_);
  at::Tensor found = at::empty({size() * bytes}, sent.options());
  run(what, [&] { return group_->_allgather_base(found, sent); });
  const at::Tensor host = found.cpu();
  std::memcpy(all, host.const_data_ptr(), static_cast<std::size_t>(size() * bytes));
}

void GroupExchange::largest(std::int32_t* values, std::int64_t count, const std::string& what) {
  if (count == 0) return;
  const auto bytes = static_cast<std::size_t>(count) * sizeof *values;
  at::Tensor own = at::empty({count}, at::kInt);
  std::memcpy(own.mutable_data_ptr(), values, bytes);
  std::vector<at::Tensor> tensors = {own.to(device_)};
  c10d::AllreduceOptions reduces;
  reduces.reduceOp = c10d::ReduceOp::MAX;
  run(what, [&] { return group_->allreduce(tensors, reduces); });
  const at::Tensor host = tensors[0].cpu();
  std::memcpy(values, host.const_data_ptr(), bytes);
}

template <typename Start>
void GroupExchange::run(const std::string& what, const Start& start) {
  try {
    finish(*start());
  } catch (const std::exception& error) {
    throw broken(what, error);
  }
}

/// Waits for a collective, and for one that another rank has seen to fail no longer than that.
void GroupExchange::finish(c10d::Work& work) {
  const Clock::time_point deadline = Clock::now() + meeting_.timeout();
  const std::string failed = meeting_.key("broken");
  Pause pause;
  while (!work.isCompleted()) {
    TORCH_CHECK(Clock::now() <= deadline,
                "not within the timeout of ",
                static_cast<double>(meeting_.timeout().count()) / 1000.0,
                " seconds");
    if (pause.is_longest()) {
      TORCH_CHECK(!meeting_.store().check({failed}), meeting_.store().get_to_str(failed));
    }
    pause.wait();
  }
  work.wait(meeting_.timeout());
}

/// A collective failed although all ranks had come: who is still there says so in the store.
RankError GroupExchange::broken(const std::string& what, const std::exception& error) {
  const std::string rule = message(what, ": the exchange failed (", words_of(error), ')');
  const auto deadline = Clock::now() + std::min(meeting_.timeout(), kRollCall);
  std::vector<int> missing;
  for (int other = 0; other < size(); ++other) missing.push_back(other);
  const auto is_alive = [&](int other) {
    return meeting_.store().check({meeting_.key(message("alive/", other))});
  };
  try {
    meeting_.store().set(meeting_.key("broken"), words_of(error));
    meeting_.store().set(meeting_.key(message("alive/", rank())), std::string("1"));
    Pause pause;
    while (!missing.empty() && Clock::now() < deadline) {
      missing.erase(std::remove_if(missing.begin(), missing.end(), is_alive), missing.end());
      pause.wait();
    }
  } catch (const std::exception& lost) {
    return meeting_.no_store(what, lost);
  }
  if (missing.empty()) return RankError(rule + ", and all ranks are there", {});
  return RankError(message(rule, ": ", rank_numbers(missing), " went away in the midst of it"),
                   missing);
}

}  // namespace infobatch::detail
