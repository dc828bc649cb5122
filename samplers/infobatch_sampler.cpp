#include <samplers/detail/archive.hpp>
#include <samplers/detail/run.hpp>
#include <samplers/detail/translate.hpp>
#include <samplers/infobatch_sampler.hpp>

#include <algorithm>
#include <limits>
#include <utility>

namespace infobatch {

InfoBatchSampler::InfoBatchSampler(std::shared_ptr<detail::Run> run) : run_(std::move(run)) {}

void InfoBatchSampler::reset(std::optional<std::size_t> new_size) {
  run_->ranks.tell_failure("reset", [&] {
    TORCH_CHECK_VALUE(!new_size || static_cast<std::int64_t>(*new_size) == run_->session.size(),
                      "InfoBatchSampler::reset: the data set must keep its ",
                      run_->session.size(),
                      " samples, got ",
                      new_size.value_or(0));
  });
  run_->begin_epoch([&] { detail::translated([&] { run_->session.begin(); }); });
}

std::optional<std::vector<std::size_t>> InfoBatchSampler::next(std::size_t batch_size) {
  constexpr std::size_t kMost = std::numeric_limits<std::int64_t>::max();
  const auto count = static_cast<std::int64_t>(std::min(batch_size, kMost));
  std::vector<std::size_t> ids;
  Slice slice;
  do {
    const std::int64_t missing = count - static_cast<std::int64_t>(ids.size());
    slice = detail::translated([&] { return run_->session.next(missing); });
    ids.insert(ids.end(), slice.ids(), slice.ids() + slice.count);
    // A resumed epoch may have gaps, and a loader takes a short batch for the last one.
  } while (slice.count > 0 && static_cast<std::int64_t>(ids.size()) < count &&
           slice.begin + slice.count < slice.plan->size());
  run_->step.delivered(slice.begin + slice.count, slice.plan->size());
  if (ids.empty()) return std::nullopt;  // the loader does not take an empty batch
  return ids;
}

std::size_t InfoBatchSampler::size() const {
  const auto length = [&] { return run_->look([&] { return run_->session.length(); }); };
  return static_cast<std::size_t>(detail::translated(length));
}

void InfoBatchSampler::save(torch::serialize::OutputArchive& archive) const {
  run_->keep_together([&] { detail::write_state(run_->ranks.state("save"), archive); });
}

void InfoBatchSampler::load(torch::serialize::InputArchive& archive) {
  run_->replace([&] { detail::read_state(run_->session, archive); });
}

}  // namespace infobatch
