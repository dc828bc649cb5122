// Ids in the batch: right also where batches come out of order or are skipped.
//
// One learns: `Indexed(dataset)` adds the ids, `update(losses, ids)` uses them, and what happens
// without them: make_data_loader refuses an unordered loader, and a skipped batch is noticed.

#include <samplers/data_loader.hpp>

#include <torch/torch.h>

#include <cstdio>
#include <vector>

namespace {

/// Sample i is the number i.
struct Numbers : torch::data::datasets::BatchDataset<Numbers, torch::Tensor> {
  torch::Tensor get_batch(c10::ArrayRef<std::size_t> ids) override {
    return torch::tensor(std::vector<std::int64_t>(ids.begin(), ids.end())).to(torch::kFloat);
  }
  std::optional<std::size_t> size() const override { return 1000; }
};

}  // namespace

int main() {
  infobatch::InfoBatch ib(1000, infobatch::Options(/*epochs=*/5).seed(1));
  const auto unordered = torch::data::DataLoaderOptions(50).workers(3).enforce_ordering(false);
  try {
    infobatch::make_data_loader(Numbers(), ib, unordered);
    return 1;
  } catch (const c10::ValueError& error) {
    std::printf("refused: %s\n", error.what_without_backtrace());
  }

  auto loader = infobatch::make_data_loader(infobatch::Indexed(Numbers()), ib, unordered);
  int batches = 0;
  for (auto& batch : *loader) {
    if (++batches % 4 == 0) continue;  // some batches never reach the model
    ib.update(/*losses=*/batch.batch, batch.ids);
  }
  ib.set_epoch(1);  // the losses enter the scores

  int scored = 0;
  int wrong = 0;
  for (int id = 0; id < 1000; ++id) {
    const float score = ib.session()->scores()[id];
    if (score != score) continue;  // NaN: never observed, kept in the next epoch
    scored += 1;
    wrong += score == static_cast<float>(id) ? 0 : 1;
  }
  std::printf("%d samples scored, %d of them wrong, %d of 1000 in the next epoch\n",
              scored,
              wrong,
              static_cast<int>(ib.size()));
  return scored == 750 && wrong == 0 && ib.size() < 1000 ? 0 : 1;
}
