#include <samplers/detail/archive.hpp>
#include <samplers/detail/translate.hpp>
#include <samplers/infobatch_sampler.hpp>

#include <algorithm>
#include <limits>
#include <utility>

namespace infobatch {

InfoBatchSampler::InfoBatchSampler(std::shared_ptr<Session> session)
    : session_(std::move(session)) {}

void InfoBatchSampler::reset(std::optional<std::size_t> new_size) {
  TORCH_CHECK_VALUE(!new_size || static_cast<std::int64_t>(*new_size) == session_->size(),
                    "InfoBatchSampler::reset: the data set must keep its ",
                    session_->size(),
                    " samples, got ",
                    new_size.value_or(0));
  detail::translated([&] { session_->begin(); });
}

std::optional<std::vector<std::size_t>> InfoBatchSampler::next(std::size_t batch_size) {
  constexpr std::size_t kMost = std::numeric_limits<std::int64_t>::max();
  const auto count = static_cast<std::int64_t>(std::min(batch_size, kMost));
  std::vector<std::size_t> ids;
  Slice slice;
  do {
    const std::int64_t missing = count - static_cast<std::int64_t>(ids.size());
    slice = detail::translated([&] { return session_->next(missing); });
    ids.insert(ids.end(), slice.ids(), slice.ids() + slice.count);
    // A resumed epoch may have gaps, and a loader takes a short batch for the last one.
  } while (slice.count > 0 && static_cast<std::int64_t>(ids.size()) < count &&
           slice.begin + slice.count < slice.plan->size());
  if (ids.empty()) return std::nullopt;  // the loader does not take an empty batch
  return ids;
}

std::size_t InfoBatchSampler::size() const {
  return static_cast<std::size_t>(detail::translated([&] { return session_->length(); }));
}

void InfoBatchSampler::save(torch::serialize::OutputArchive& archive) const {
  detail::write_state(*session_, archive);
}

void InfoBatchSampler::load(torch::serialize::InputArchive& archive) {
  detail::read_state(*session_, archive);
}

}  // namespace infobatch
