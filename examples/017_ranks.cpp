// Several processes train one run, each on its share.
//
// One learns: what makes a process one of several ranks (a store and two numbers), that nothing
// travels in a step, and that all ranks have the same scores behind an epoch. Here the processes
// are forks of the program; a launcher would give rank, size and address.

#include <samplers/infobatch.hpp>

#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/torch.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

constexpr std::int64_t kSize = 1000;
constexpr std::int64_t kEpochs = 8;

int train(int rank, int size) {
  // Over a network: c10d::TCPStore; in a program that has a process group: make_exchange(group).
  const auto store = c10::make_intrusive<c10d::FileStore>("ranks", size);
  infobatch::InfoBatch ib(
      kSize, infobatch::Options(kEpochs).ranks(infobatch::make_exchange(store, rank, size)));
  infobatch::InfoBatchSampler sampler = ib.sampler();  // or a loader, as in 001_three_lines

  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    ib.set_epoch(epoch);  // losses are exchanged here
    sampler.reset();
    while (const auto ids = sampler.next(50)) {
      std::vector<float> losses;  // of a model whose gradients the program averages over ranks
      for (const std::size_t id : *ids) losses.push_back(static_cast<float>(id % 10));
      ib.update(torch::tensor(losses));
    }
    if (rank == 0) {
      std::printf("epoch %d: %d samples on each of %d ranks\n",
                  static_cast<int>(epoch),
                  static_cast<int>(ib.size()),
                  size);
    }
  }
  return ib.statistics().saved > 0.1 ? 0 : 1;
}

}  // namespace

int main() {
  unlink("ranks");
  const pid_t other = fork();  // before torch does anything
  const int failed = train(other == 0 ? 1 : 0, 2);
  if (other == 0) return failed;
  int status = 0;
  waitpid(other, &status, 0);
  return failed != 0 || status != 0 ? 1 : 0;
}
