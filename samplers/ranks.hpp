#pragma once

/// Ranks: several processes train one run, each on its share, and exchange losses between epochs.
///
///     #include <torch/csrc/distributed/c10d/TCPStore.hpp>
///     auto store = c10::make_intrusive<c10d::TCPStore>("10.0.0.1", options);  // in every process
///     infobatch::InfoBatch ib(dataset_size,
///                             infobatch::Options(/*epochs=*/200)
///                                 .ranks(infobatch::make_exchange(store, rank, size)));
///
/// A program that has a process group hands that over: `make_exchange(group)`. One that has neither
/// (MPI, for example) derives from `Exchange`. docs/distributed.md says what a rank gets.

#include <samplers/export.h>

#include <c10/util/Exception.h>
#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace c10d {
class ProcessGroup;
class Store;
}  // namespace c10d

namespace infobatch {

/// The ranks of a run differ, or one of them is gone, failed or did not come in time; the text
/// names it. What this rank had before, it still has: the last checkpoint goes on.
class INFOBATCH_SAMPLERS_API RankError : public c10::Error {
 public:
  RankError(const std::string& text, std::vector<int> ranks);

  /// Those that the text names, ascending; empty where it is not known which.
  const std::vector<int>& ranks() const noexcept { return ranks_; }

 private:
  std::vector<int> ranks_;
};

/// How the processes of a run get bytes from one to the other.
///
/// All ranks make the same calls in the same order, each from one thread at a time. `what` names
/// the call of the program that they are part of, for messages.
class INFOBATCH_SAMPLERS_API Exchange {
 public:
  /// @param rank  of this process, in [0, size).
  /// @param size  number of ranks, >= 1.
  /// @throws c10::ValueError  a rank outside of that.
  Exchange(int rank, int size);
  virtual ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  int rank() const noexcept { return rank_; }
  int size() const noexcept { return size_; }

  /// Returns when all ranks have come to this place.
  /// @throws RankError  naming the ranks that did not come in time, or that failed and why.
  virtual void meet(const std::string& what) = 0;
  /// This rank does not come to the next meeting, so the others need not wait for it.
  virtual void fail(const std::string& what, const std::string& why) = 0;
  /// The bytes of all ranks, one behind the other; as many from each.
  /// @param own    [bytes]
  /// @param bytes  >= 0
  /// @param all    [size * bytes] is written.
  virtual void gather(const void* own, std::int64_t bytes, void* all, const std::string& what) = 0;
  /// Each of these numbers becomes the largest that any rank has in its place.
  /// @param values  [count], read and written.
  virtual void largest(std::int32_t* values, std::int64_t count, const std::string& what) = 0;

 private:
  int rank_;
  int size_;
};

/// Options of `make_exchange` in libtorch's style.
struct INFOBATCH_SAMPLERS_API ExchangeOptions {
 public:
  /// How long a rank waits for the others, above 0. Default: 30 minutes, as torch.distributed.
  ExchangeOptions& timeout(std::chrono::milliseconds value) {
    timeout_ = value;
    return *this;
  }
  std::chrono::milliseconds timeout() const noexcept { return timeout_; }
  /// What our keys in the store begin with. Exchanges that are made one after the other on one
  /// store do not meet, whatever their prefix; those that are made side by side need different
  /// ones.
  ExchangeOptions& prefix(std::string value) {
    prefix_ = std::move(value);
    return *this;
  }
  const std::string& prefix() const noexcept { return prefix_; }
  /// The store in which the ranks of a process group meet; default: the group's own.
  ExchangeOptions& store(c10::intrusive_ptr<c10d::Store> value);
  const c10::intrusive_ptr<c10d::Store>& store() const noexcept { return store_; }

  ExchangeOptions();
  ExchangeOptions(const ExchangeOptions& other);
  ExchangeOptions& operator=(const ExchangeOptions& other);
  ~ExchangeOptions();

 private:
  std::chrono::milliseconds timeout_ = std::chrono::minutes(30);
  std::string prefix_ = "infobatch";
  c10::intrusive_ptr<c10d::Store> store_;
};

/// The members of a process group: Gloo, NCCL, MPI, or any other.
///
/// An exchange is one all_gather (kGlobal: one all_reduce) on the CPU where the group can, else on
/// its device. Before it, all ranks meet in the store: a rank that does not come is known by its
/// number, and collectives of the program are never mixed up with ours.
/// @throws c10::ValueError  no group, no store, or a timeout of 0.
INFOBATCH_SAMPLERS_API std::shared_ptr<Exchange> make_exchange(
    const c10::intrusive_ptr<c10d::ProcessGroup>& group, const ExchangeOptions& options = {});

/// Processes without a process group: all bytes go through a store, a TCPStore or a FileStore.
///
/// @param store  the same one in every process. Used as it is, so that its own timeout has to bear
///               a transfer of 4 MiB.
/// @param rank   of this process, in [0, size).
/// @param size   number of ranks.
/// @throws c10::ValueError  no store, a rank outside of that, or a timeout of 0.
/// @note Every rank sends its losses once and receives those of all others, in pieces of 4 MiB.
/// What
///       was received is deleted at the next exchange; the file of a FileStore only grows, by 4
///       bytes a sample an epoch.
INFOBATCH_SAMPLERS_API std::shared_ptr<Exchange> make_exchange(
    const c10::intrusive_ptr<c10d::Store>& store,
    int rank,
    int size,
    const ExchangeOptions& options = {});

}  // namespace infobatch
