#include <infobatch/detail/atomic_file.hpp>
#include <infobatch/detail/float_environment.hpp>
#include <infobatch/detail/kernels.hpp>
#include <infobatch/detail/limits.hpp>
#include <infobatch/detail/plan_builder.hpp>
#include <infobatch/detail/planner.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <infobatch/session/csv.hpp>
#include <infobatch/session/run.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>

// The public face of a session: every call takes the mutex, and what a run found to warn of is
// delivered when it is free again.

namespace infobatch {

using detail::message;

namespace {

using Guard = std::lock_guard<detail::CallMutex>;

/// What is wrong with a size and a number of threads.
/// @param most     samples that the policy's items can hold
/// @param each     bytes a sample that the session takes
std::vector<std::string> size_problems(std::int64_t size,
                                       int threads,
                                       std::int64_t most,
                                       std::int64_t each) {
  std::vector<std::string> found;
  if (size < 0) {
    found.push_back(message("size must be in [0, ", most, "], got ", size));
  } else if (size > most) {
    found.push_back(message("size must be in [0, ",
                            most,
                            "], as many samples as 32 bits hold beside the classes of the policy, "
                            "got ",
                            size,
                            ": split the data set by id range, one session for each part"));
  } else {
    // What fits any machine is not worth reading the limits for, which takes a few files.
    constexpr std::int64_t kFitsAnywhere = std::int64_t{16} << 20;
    const detail::MemoryLimit memory = size * each <= kFitsAnywhere
                                           ? detail::MemoryLimit{kFitsAnywhere, "the machine"}
                                           : detail::memory_limit();
    if (size > memory.bytes / each) {
      found.push_back(message("size must leave room for scores, plan and losses, ",
                              each,
                              " bytes a sample, in ",
                              memory.bytes,
                              " bytes of memory (the limit of ",
                              memory.source,
                              "), got ",
                              size));
    }
  }
  if (threads < 0) found.push_back(message("threads must be at least 0, got ", threads));
  return found;
}

}  // namespace

std::vector<std::string> Session::problems(std::int64_t size, int threads) {
  return size_problems(size, threads, kMaxSize, detail::bytes_per_sample(/*columns=*/0));
}

std::vector<std::string> Session::problems(std::int64_t size, const Config& config, int threads) {
  const Policy* const policy = find_policy(config.policy);
  std::int64_t most = kMaxSize;
  int columns = 0;
  if (policy != nullptr && config.quantiles.size() == config.quantile_keep.size()) {
    const int classes = std::min(policy->reach(config).classes, int{EpochRule::kMaxClasses});
    most = most_samples(static_cast<std::size_t>(classes));
    columns = policy->card.columns.size;
  }
  const std::int64_t each = detail::bytes_per_sample(columns, config.record);
  std::vector<std::string> found = size_problems(size, threads, most, each);
  for (std::string& problem : config.problems()) found.push_back(std::move(problem));
  constexpr std::int64_t kMaxTotal = std::int64_t{1} << 61;
  if (size > 0 && size <= kMaxSize && config.epochs <= kMaxEpochs &&
      config.epochs > kMaxTotal / size) {
    found.push_back(
        message("epochs * size must be at most 2^61, got ", config.epochs, " * ", size));
  }
  return found;
}

Session::Session(
    std::int64_t size, Config config, int threads, Wording wording, const std::string& backend) {
  const detail::DefaultFloatEnvironment float_environment;
  impl_ = std::make_unique<Impl>(size, std::move(config), threads, std::move(wording), backend);
}

Session::~Session() = default;

std::int64_t Session::size() const { return impl_->size; }
const Config& Session::config() const { return impl_->config; }

// --- columns

void Session::set_column(const std::string& name, ColumnType type, const void* data) {
  const Guard lock(impl_->mutex);
  impl_->set_column(name, type, data);
}

ColumnView Session::column(const std::string& name) const {
  const Guard lock(impl_->mutex);
  return impl_->columns.view(name);
}

std::vector<std::string> Session::column_names() const {
  const Guard lock(impl_->mutex);
  return impl_->columns.names();
}

// --- epochs

std::int64_t Session::epoch() const {
  const Guard lock(impl_->mutex);
  return impl_->epoch();
}

void Session::set_epoch(std::int64_t epoch) {
  Impl::Lock lock(impl_->mutex);
  impl_->set_epoch(epoch, lock);
}

std::shared_ptr<const Plan> Session::plan() {
  Impl::Lock lock(impl_->mutex);
  return impl_->plan(lock);
}

std::int64_t Session::length() {
  Impl::Lock lock(impl_->mutex);
  return impl_->length(lock);
}

void Session::discard_epoch() {
  const Guard lock(impl_->mutex);
  impl_->discard_epoch();
}

// --- delivery

void Session::begin() {
  Impl::Lock lock(impl_->mutex);
  impl_->begin(lock);
}

// next and next_rows are in session/run_step.cpp, where all of a delivery can be inlined.

std::int64_t Session::pending() const {
  const Guard lock(impl_->mutex);
  return impl_->pending();
}

void Session::declare_drop_last(std::optional<bool> drop_last) {
  const Guard lock(impl_->mutex);
  impl_->declare_drop_last(drop_last);
}

void Session::suspect(std::string cause) {
  const Guard lock(impl_->mutex);
  impl_->suspect(std::move(cause));
}

// --- observation

Slice Session::observe(const float* losses, std::int64_t count) {
  const Guard lock(impl_->mutex);
  return impl_->observe(losses, count);
}

void Session::observe_ids(const float* losses,
                          const std::int64_t* ids,
                          std::int64_t count,
                          float* weights) {
  const Guard lock(impl_->mutex);
  impl_->observe_ids(losses, ids, count, weights);
}

void Session::weights(const std::int64_t* ids, std::int64_t count, float* weights) {
  const Guard lock(impl_->mutex);
  impl_->weights(ids, count, weights);
}

void Session::update(const float* losses, std::int64_t count, Reduction reduction, float* out) {
  if (out == nullptr) throw InvalidArgument("update: out must not be null, got null");
  const Slice slice = observe(losses, count);
  const float* weights = slice.plan ? slice.weights() : nullptr;
  if (reduction == Reduction::kNone) {
    for (std::int64_t i = 0; i < count; ++i) out[i] = weights[i] * losses[i];
    return;
  }
  const double sum = detail::kernels().weighted_sum(losses, weights, count);
  double divisor = 1.0;
  if (reduction == Reduction::kMean) divisor = static_cast<double>(count);
  if (reduction == Reduction::kWeightedMean) {
    divisor = 0.0;
    for (std::int64_t i = 0; i < count; ++i) divisor += double{weights[i]};
  }
  *out = static_cast<float>(sum / divisor);
}

// --- lent arrays

EpochArrays Session::epoch_arrays() {
  const Guard lock(impl_->mutex);
  return impl_->epoch_arrays();
}

Slice Session::advance(std::int64_t count) {
  const Guard lock(impl_->mutex);
  return impl_->advance(count);
}

void Session::stage(const float* losses, std::int64_t begin, std::int64_t count) {
  const Guard lock(impl_->mutex);
  impl_->stage(losses, begin, count);
}

// --- ranks

void Session::set_range(const IdRange& range, Gather gather) {
  const Guard lock(impl_->mutex);
  impl_->set_range(range, std::move(gather));
}

void Session::set_ranks(const Ranks& ranks) {
  const Guard lock(impl_->mutex);
  impl_->set_ranks(ranks);
}

Ranks Session::ranks() const {
  const Guard lock(impl_->mutex);
  return impl_->ranks();
}

RankReport Session::report_to_share(std::int64_t target) {
  const Guard lock(impl_->mutex);
  return impl_->report_to_share(target);
}

void Session::agree(const RankReport* reports, std::int64_t ranks) const {
  const Guard lock(impl_->mutex);
  impl_->agree(reports, ranks);
}

bool Session::must_share(const RankReport* reports, std::int64_t ranks) {
  return ranks > 1 && reports[0].begun != 0 &&
         std::any_of(reports, reports + ranks, [](const RankReport& r) { return r.stays == 0; });
}

RankLosses Session::losses_to_share() {
  const Guard lock(impl_->mutex);
  return impl_->losses_to_share();
}

void Session::take_losses(const std::int32_t* bits,
                          std::int64_t count,
                          const RankReport* reports,
                          std::int64_t ranks) {
  const Guard lock(impl_->mutex);
  impl_->take_losses(bits, count, reports, ranks);
}

RankRows Session::rank_rows() const {
  const Guard lock(impl_->mutex);
  return impl_->rank_rows();
}

// --- position, figures

double Session::progress() const {
  const Guard lock(impl_->mutex);
  return impl_->progress();
}

std::int64_t Session::position() const {
  const Guard lock(impl_->mutex);
  return impl_->position();
}

std::int64_t Session::max_steps(std::int64_t batch_size) const {
  if (batch_size < 1) {
    throw InvalidArgument(message("max_steps: batch_size must be at least 1, got ", batch_size));
  }
  const std::int64_t n = size();
  return config().epochs * (n / batch_size + (n % batch_size != 0 ? 1 : 0));
}

Statistics Session::statistics() const {
  const Guard lock(impl_->mutex);
  return impl_->statistics();
}

const float* Session::scores() const { return impl_->columns.scores(); }

// --- warnings, words

void Session::set_warning_handler(WarningHandler handler) {
  auto shared = std::make_shared<const WarningHandler>(std::move(handler));
  const Guard lock(impl_->mutex);
  impl_->handler.swap(shared);
  impl_->warnings_held = false;
}

void Session::hold_warnings() {
  const Guard lock(impl_->mutex);
  impl_->warnings_held = true;
}

bool Session::next_warning(std::string* text, WarningKind* kind) {
  if (text == nullptr) throw InvalidArgument("next_warning: text must not be null, got null");
  const Guard lock(impl_->mutex);
  return impl_->next_warning(text, kind);
}

Wording Session::wording() const {
  const Guard lock(impl_->mutex);
  return impl_->wording;
}

void Session::set_wording(Wording wording) {
  const Guard lock(impl_->mutex);
  std::swap(impl_->wording, wording);  // what it was is freed when the mutex is free again
}

// --- state

std::string Session::serialize() {
  const Guard lock(impl_->mutex);
  return impl_->serialize();
}

std::string Session::serialize_part(bool with_scores) {
  const Guard lock(impl_->mutex);
  return impl_->serialize_part(with_scores);
}

std::string Session::join_parts(const std::vector<std::string_view>& parts) const {
  const Guard lock(impl_->mutex);
  return impl_->join_parts(parts);
}

LoadReport Session::deserialize(std::string_view bytes) {
  const Guard lock(impl_->mutex);
  return impl_->deserialize(bytes);
}

LoadReport Session::deserialize(std::string_view bytes, const Resize& resize) {
  const Guard lock(impl_->mutex);
  return impl_->deserialize_resized(bytes, resize);
}

void Session::save(const std::string& path) { write(path, serialize()); }

void Session::save_parts(const std::string& path, const std::vector<std::string_view>& parts) {
  write(path, join_parts(parts));
}

void Session::write(const std::string& path, const std::string& state) {
  const detail::SaveReport report = detail::write_file_atomically(path, state);
  if (report.flushed) return;
  Impl::Lock lock(impl_->mutex);
  impl_->warnings.found(WarningKind::kNotFlushed, {});
  impl_->deliver(lock);
}

LoadReport Session::load(const std::string& path) {
  std::int64_t largest = 0;
  {
    const Guard lock(impl_->mutex);
    largest = impl_->largest_state();
  }
  return deserialize(detail::read_file(path, largest));
}

LoadReport Session::load(const std::string& path, const Resize& resize) {
  std::int64_t largest = 0;
  {
    const Guard lock(impl_->mutex);
    largest = impl_->largest_state(/*any_size=*/true);
  }
  return deserialize(detail::read_file(path, largest), resize);
}

void Session::export_csv(const std::string& path) const {
  std::string text;
  {
    const Guard lock(impl_->mutex);
    text = detail::csv_of(impl_->columns);
  }
  detail::write_file_atomically(path, text);
}

}  // namespace infobatch
