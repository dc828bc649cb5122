#pragma once

// Ranks as real processes, and what became of each.
//
// A rank is a fork of the test program, which has loaded torch and has run nothing of it: no thread
// but its own is there to be lost, and a rank takes no seconds to start.

#include <samplers/infobatch.hpp>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace infobatch::testing {

/// How ranks get bytes from one to the other.
enum class Way { kGroup, kTcp, kFile };

std::string name_of(Way way);

/// Where a body runs.
struct World {
  int rank = 0;
  int size = 1;
  Way way = Way::kTcp;
  std::string folder;  ///< that all ranks share
  int port = 0;        ///< of a store that outlives them

  c10::intrusive_ptr<c10d::Store> store() const;
  c10::intrusive_ptr<c10d::ProcessGroup> group() const;
  std::shared_ptr<Exchange> exchange(
      std::chrono::milliseconds timeout = std::chrono::seconds(30)) const;
};

/// What became of a rank.
struct Outcome {
  enum { kDone, kRaised, kKilled, kLate } what = kLate;
  std::string text;        ///< what the body returned, or the words of what it threw
  std::vector<int> ranks;  ///< of a RankError
  bool is_rank_error = false;
  double seconds = 0.0;
};

using Body = std::function<std::string(const World&)>;

/// Runs `body` on `size` ranks, and kills those that take more than 60 seconds.
std::vector<Outcome> launch(int size, Way way, const std::string& folder, const Body& body);

/// What `body` returned on each rank; a failed test where it did not.
std::vector<std::string> run_ranks(int size, Way way, const std::string& folder, const Body& body);

}  // namespace infobatch::testing
