#pragma once

#include <samplers/export.h>

#include <torch/data/samplers/base.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

namespace infobatch {

namespace detail {
struct Run;
}  // namespace detail

/// Delivers the plan of each epoch to `torch::data::make_data_loader`; made by
/// `InfoBatch::sampler`.
///
/// A handle of the size of a pointer: the loader takes the sampler by value, and every copy shares
/// the state of its `InfoBatch`. Works with any number of workers; the loader calls it on the
/// thread of the loop.
class INFOBATCH_SAMPLERS_API InfoBatchSampler : public torch::data::samplers::Sampler<> {
 public:
  /// An iteration begins; the loader calls this in `begin()`.
  /// @param new_size  only N is accepted, because scores belong to a fixed data set.
  /// @throws c10::ValueError  another size.
  /// @throws c10::IndexError  on a device: the epoch that ends had ids outside its plan; all other
  ///                          losses are recorded, and the call can be made again.
  /// @note Losses that are staged on a device come to the host here, and the weights of the epoch
  ///       go there: one copy each.
  void reset(std::optional<std::size_t> new_size = std::nullopt) override;

  /// The next ids in plan order, at most `batch_size`; nothing at the end of the epoch.
  /// @throws c10::Error  more samples are out than this loader uses to have out: a row or a batch
  /// was
  ///                     lost.
  /// @throws c10::ValueError  another size than `Options::whole_batches`.
  std::optional<std::vector<std::size_t>> next(std::size_t batch_size) override;

  /// Number of samples of the epoch that the next iteration delivers.
  std::size_t size() const;

  /// The whole state of the run, as `InfoBatch::save`.
  void save(torch::serialize::OutputArchive& archive) const override;
  void load(torch::serialize::InputArchive& archive) override;

 private:
  friend class InfoBatch;
  explicit InfoBatchSampler(std::shared_ptr<detail::Run> run);

  std::shared_ptr<detail::Run> run_;
};

}  // namespace infobatch
