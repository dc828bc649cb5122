// Save in the middle of an epoch, load in a new object, and go on as if nothing had happened.
//
// One learns: `save(path)` works at any step and is atomic, `load(path)` reports where the run
// stands, and the next iteration delivers the rest of the interrupted epoch.

#include <samplers/infobatch.hpp>

#include <torch/torch.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace {

constexpr std::int64_t kSize = 1000;
constexpr std::int64_t kEpochs = 6;

infobatch::InfoBatch make_run() {
  return infobatch::InfoBatch(kSize, infobatch::Options(kEpochs).seed(7));
}

/// At most `steps` steps of 64; appends the ids that were delivered.
void train(infobatch::InfoBatch& ib, int steps, std::vector<std::size_t>& delivered) {
  infobatch::InfoBatchSampler sampler = ib.sampler();
  while (steps > 0 && ib.epoch() < kEpochs) {
    sampler.reset();
    while (const auto ids = sampler.next(64)) {
      torch::Tensor losses = torch::empty({static_cast<std::int64_t>(ids->size())});
      for (std::size_t i = 0; i < ids->size(); ++i) {
        losses[static_cast<std::int64_t>(i)] = static_cast<float>((*ids)[i] % 17);
      }
      ib.update(losses);
      delivered.insert(delivered.end(), ids->begin(), ids->end());
      if (--steps == 0) return;
    }
  }
}

}  // namespace

int main() {
  const std::string file = "resume_example.safetensors";
  constexpr int kAll = 1000000;

  infobatch::InfoBatch never_stopped = make_run();
  std::vector<std::size_t> expected;
  train(never_stopped, kAll, expected);

  std::vector<std::size_t> delivered;
  {
    infobatch::InfoBatch first = make_run();
    train(first, 37, delivered);
    first.save(file);
  }  // the process may end here
  infobatch::InfoBatch second = make_run();
  const infobatch::LoadReport report = second.load(file);
  std::printf("goes on in epoch %d after %d samples\n",
              static_cast<int>(report.epoch),
              static_cast<int>(report.position));
  train(second, kAll, delivered);
  std::remove(file.c_str());

  const bool equal = delivered == expected;
  std::printf("%zu samples, %s the run that was never stopped\n",
              delivered.size(),
              equal ? "the same as" : "NOT the same as");
  return equal && report.epoch > 0 && report.position > 0 ? 0 : 1;
}
