#pragma once

#include <samplers/indexed.hpp>
#include <samplers/infobatch.hpp>

#include <torch/data/dataloader.h>

#include <type_traits>
#include <utility>

namespace infobatch {
namespace detail {

template <typename Dataset>
struct HasIds : std::false_type {};
template <typename Inner>
struct HasIds<Indexed<Inner>> : std::true_type {};

}  // namespace detail

/// `torch::data::make_data_loader(dataset, ib.sampler(), options)`, after a check of what cannot
/// work: what the sampler alone never sees. Declares whether the loader drops a short last batch.
///
/// @throws c10::ValueError  the data set has another size than `ib`, or none (streaming);
///                          `enforce_ordering(false)` without ids in the batch; another batch
///                          size than `Options::whole_batches`.
template <typename Dataset>
auto make_data_loader(Dataset dataset,
                      const InfoBatch& ib,
                      torch::data::DataLoaderOptions options = {}) {
  static_assert(!Dataset::is_stateful,
                "make_data_loader: a stateful (streaming) data set delivers in its own order, so "
                "its samples have no ids to score");
  const auto size = dataset.size();
  const std::int64_t expected = ib.session()->size();
  TORCH_CHECK_VALUE(size.has_value(), "make_data_loader: the data set must have a size, got none");
  TORCH_CHECK_VALUE(static_cast<std::int64_t>(*size) == expected,
                    "make_data_loader: the data set must have the ",
                    expected,
                    " samples that InfoBatch was made for, got ",
                    *size);
  TORCH_CHECK_VALUE(options.enforce_ordering() || detail::HasIds<Dataset>::value,
                    "make_data_loader: enforce_ordering(false) needs ids in the batch, got a data "
                    "set without: wrap it, Indexed(dataset), and call update(losses, ids)");
  const std::int64_t batch = ib.config().whole_batches;
  TORCH_CHECK_VALUE(batch == 0 || static_cast<std::int64_t>(options.batch_size()) == batch,
                    "make_data_loader: the batch size must be whole_batches = ",
                    batch,
                    ", for which the epochs are planned, got ",
                    options.batch_size());
  ib.session()->declare_drop_last(options.drop_last());
  return torch::data::make_data_loader(std::move(dataset), ib.sampler(), options);
}

}  // namespace infobatch
