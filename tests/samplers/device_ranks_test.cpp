// Ranks whose losses are on another device than the CPU: each step is what it is there, and nothing
// of it waits. Here ranks are threads that meet in memory.

#include <tests/samplers/toy.hpp>
#include <tests/support/stand_in_device.hpp>

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>

namespace infobatch::testing {
namespace {

/// Where the threads of a run meet.
class Place {
 public:
  explicit Place(int size) : parts(static_cast<std::size_t>(size)) {}

  void meet() {
    std::unique_lock<std::mutex> lock(mutex_);
    const int round = round_;
    if (++come_ == static_cast<int>(parts.size())) {
      come_ = 0;
      ++round_;
      all_.notify_all();
      return;
    }
    const auto gone_on = [&] { return round_ != round; };
    TORCH_CHECK(all_.wait_for(lock, std::chrono::seconds(30), gone_on), "a thread did not come");
  }

  std::vector<std::string> parts;

 private:
  std::mutex mutex_;
  std::condition_variable all_;
  int come_ = 0;
  int round_ = 0;
};

class Threads : public Exchange {
 public:
  Threads(std::shared_ptr<Place> place, int rank)
      : Exchange(rank, static_cast<int>(place->parts.size())), place_(std::move(place)) {}

  void meet(const std::string&) override { place_->meet(); }
  void fail(const std::string&, const std::string&) override {}
  void gather(const void* own, std::int64_t bytes, void* all, const std::string&) override {
    const auto count = static_cast<std::size_t>(bytes);
    place_->parts[static_cast<std::size_t>(rank())].assign(static_cast<const char*>(own), count);
    place_->meet();
    for (std::size_t r = 0; r < place_->parts.size(); ++r) {
      std::memcpy(static_cast<char*>(all) + r * count, place_->parts[r].data(), count);
    }
    place_->meet();
  }
  void largest(std::int32_t*, std::int64_t, const std::string&) override {
    TORCH_CHECK(false, "sharded runs reduce nothing");
  }

 private:
  std::shared_ptr<Place> place_;
};

struct Found {
  std::vector<float> losses;
  std::vector<float> gradients;  // of the first loss of each step
  std::vector<std::uint32_t> scores;
  std::string error;
};

/// Three epochs of 61 samples on this rank, and what each step returned; means in turns with
/// weighted means. The first two steps may wait for the device.
Found train_rank(const std::shared_ptr<Place>& place, int rank, c10::Device device, bool by_ids) {
  Found found;
  const auto exchange = std::make_shared<Threads>(place, rank);
  InfoBatch ib(61, Options(6).seed(5).keep("exact").device(device).ranks(exchange));
  InfoBatchSampler sampler = ib.sampler();
  int step = 0;
  for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
    if (epoch > 0) ib.set_epoch(epoch);
    sampler.reset();
    while (const auto batch = sampler.next(5)) {
      const std::vector<std::int64_t> numbers(batch->begin(), batch->end());
      const torch::Tensor ids = torch::tensor(numbers);
      const bool pads = rank == 1 && epoch == 0 && numbers.size() == 1;
      torch::Tensor losses = ((ids + epoch * 3) % 11).to(torch::kFloat) + 0.5;
      if (pads) losses.fill_(std::nanf(""));
      losses = losses.to(device).requires_grad_();
      const torch::Tensor named = by_ids ? ids.to(device) : torch::Tensor();
      const Reduction reduction = step % 2 == 0 ? Reduction::kMean : Reduction::kWeightedMean;
      torch::Tensor loss;
      place->meet();  // nobody refuses waits while others copy something
      {
        std::optional<RefuseWaits> refuse;
        if (step++ >= 2) refuse.emplace();
        loss = ib.update(losses, named, {}, reduction);
      }
      place->meet();
      loss.backward();
      found.losses.push_back(loss.item<float>());
      found.gradients.push_back(losses.grad()[0].item<float>());
    }
  }
  ib.set_epoch(3);
  const float* const scores = ib.session()->scores();
  found.scores = bits(torch::from_blob(const_cast<float*>(scores), {61}));
  return found;
}

std::vector<Found> train_ranks(c10::Device device, bool by_ids) {
  const auto place = std::make_shared<Place>(2);
  std::vector<Found> found(2);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      Found& own = found[static_cast<std::size_t>(rank)];
      try {
        own = train_rank(place, rank, device, by_ids);
      } catch (const std::exception& error) {
        own.error = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return found;
}

TEST_CASE("ranks: a step on a device divides as one on the CPU, and waits for nothing",
          "[samplers][device][ranks]") {
  const bool by_ids = GENERATE(false, true);
  CAPTURE(by_ids);
  const c10::Device device = stand_in_device();
  const auto on_cpu = train_ranks(c10::kCPU, by_ids);
  const auto on_device = train_ranks(device, by_ids);
  for (std::size_t rank = 0; rank < 2; ++rank) {
    CAPTURE(rank);
    REQUIRE(on_cpu[rank].error == "");
    REQUIRE(on_device[rank].error == "");
    REQUIRE(on_device[rank].scores == on_cpu[0].scores);
    const std::size_t steps = on_cpu[rank].losses.size();
    REQUIRE(steps > 12);
    REQUIRE(on_device[rank].losses.size() == steps);
    for (std::size_t i = 0; i < steps; ++i) {
      CAPTURE(i);
      REQUIRE(on_device[rank].losses[i] == Catch::Approx(on_cpu[rank].losses[i]).epsilon(1e-6));
      REQUIRE(on_device[rank].gradients[i] ==
              Catch::Approx(on_cpu[rank].gradients[i]).epsilon(1e-6));
    }
  }
  // 61 samples: 6 steps of 5 and one row; rank 1 has padding there, and its loss was no number.
  REQUIRE(on_device[1].losses[6] == 0.0F);
  REQUIRE(on_device[1].gradients[6] == 0.0F);
  REQUIRE(on_device[0].losses[6] > 0.0F);
}

}  // namespace
}  // namespace infobatch::testing
