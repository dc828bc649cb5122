#pragma once

#include <torch/data/datasets/base.h>
#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

namespace infobatch {

/// A batch and the ids of its samples.
template <typename Batch>
struct IndexedBatch {
  Batch batch;        ///< what the wrapped data set returned
  torch::Tensor ids;  ///< [B] int64, CPU: for `InfoBatch::update(losses, ids)`
};

/// Puts the ids into the batch: `Indexed(dataset)`, around the outermost data set, after its maps.
///
/// Ids are right in every loop, also where batches are skipped or come out of order
/// (`enforce_ordering(false)`); without them `update` relies on plan order.
template <typename Inner>
class Indexed
    : public torch::data::datasets::BatchDataset<Indexed<Inner>,
                                                 IndexedBatch<typename Inner::BatchType>> {
 public:
  static_assert(!Inner::is_stateful,
                "Indexed: a stateful (streaming) data set has no sample ids to score");

  explicit Indexed(Inner inner) : inner_(std::move(inner)) {}

  IndexedBatch<typename Inner::BatchType> get_batch(c10::ArrayRef<std::size_t> ids) override {
    torch::Tensor tensor = torch::empty({static_cast<std::int64_t>(ids.size())}, torch::kInt64);
    std::int64_t* out = tensor.data_ptr<std::int64_t>();
    for (const std::size_t id : ids) *out++ = static_cast<std::int64_t>(id);
    return {inner_.get_batch(ids), std::move(tensor)};
  }

  std::optional<std::size_t> size() const override { return inner_.size(); }

 private:
  Inner inner_;
};

}  // namespace infobatch
