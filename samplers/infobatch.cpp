#include <infobatch/detail/float_environment.hpp>
#include <samplers/detail/archive.hpp>
#include <samplers/detail/ops_cpu.hpp>
#include <samplers/detail/translate.hpp>
#include <samplers/infobatch.hpp>

#include <algorithm>
#include <string>

namespace infobatch {

using detail::translated;

namespace {

std::shared_ptr<Session> make_session(std::int64_t size, const Options& options) {
  const auto make = [&] {
    auto session = std::make_shared<Session>(size, options.config(), options.threads());
    session->set_warning_handler([](const std::string& text) { TORCH_WARN("infobatch: ", text); });
    return session;
  };
  return translated(make, "InfoBatch");
}

void check_on_cpu(const char* function,
                  const char* name,
                  const torch::Tensor& tensor,
                  const char* cure = ".cpu() keeps the gradient") {
  TORCH_CHECK_VALUE(tensor.device().is_cpu(),
                    function,
                    ": ",
                    name,
                    " must be on the CPU, got ",
                    tensor.device(),
                    "; ",
                    name,
                    cure);
}

void check_losses(const char* function, const char* name, const torch::Tensor& losses) {
  TORCH_CHECK_VALUE(
      losses.defined(), function, ": ", name, " must be a tensor, got an undefined one");
  TORCH_CHECK_VALUE(
      losses.dim() >= 1,
      function,
      ": ",
      name,
      " must be per sample, [B] or [B, ...], got a scalar: give the criterion reduction = "
      "torch::kNone; where the loss exists only reduced, use observe(scores) and "
      "scale_gradient(outputs, weights)");
  TORCH_CHECK_TYPE(detail::is_loss_type(losses.scalar_type()),
                   function,
                   ": ",
                   name,
                   " must be float16, bfloat16, float32 or float64, got ",
                   losses.scalar_type());
  TORCH_CHECK_VALUE(losses.layout() == at::kStrided,
                    function,
                    ": ",
                    name,
                    " must be dense, got ",
                    losses.layout());
  check_on_cpu(function, name, losses);
}

void check_ids(const char* function, const torch::Tensor& ids, std::int64_t batch) {
  TORCH_CHECK_TYPE(
      ids.scalar_type() == torch::kInt64, function, ": ids must be int64, got ", ids.scalar_type());
  TORCH_CHECK_VALUE(ids.dim() == 1 && ids.size(0) == batch,
                    function,
                    ": ids must be [",
                    batch,
                    "], one for each row, got ",
                    ids.sizes());
  TORCH_CHECK_VALUE(
      ids.layout() == at::kStrided, function, ": ids must be dense, got ", ids.layout());
  check_on_cpu(function, "ids", ids, ".cpu()");
}

void check_scores(const torch::Tensor& scores, std::int64_t batch) {
  check_losses("update", "scores", scores);
  TORCH_CHECK_VALUE(scores.dim() == 1 && scores.size(0) == batch,
                    "update: scores must be [",
                    batch,
                    "], one for each row of the losses, got ",
                    scores.sizes());
}

void check_reduction(Reduction reduction) {
  TORCH_CHECK_VALUE(reduction >= Reduction::kMean && reduction <= Reduction::kWeightedMean,
                    "update: reduction must be one of infobatch::Reduction, got ",
                    static_cast<int>(reduction));
}

/// One float32 score a row; without a copy where the tensor already is just that.
torch::Tensor row_scores(const torch::Tensor& given) {
  // What is read is the memory: a sign that torch only keeps in mind has to be in it.
  const torch::Tensor losses = given.is_neg() ? given.resolve_neg() : given;
  if (losses.dim() == 1 && losses.scalar_type() == torch::kFloat && losses.is_contiguous()) {
    return losses;
  }
  const detail::DefaultFloatEnvironment float_environment;  // scores decide plans (rule 2)
  torch::Tensor scores = at::empty({losses.size(0)}, at::kFloat);
  detail::row_scores_cpu(losses, scores.mutable_data_ptr<float>());
  return scores;
}

}  // namespace

InfoBatch::InfoBatch(std::int64_t size, const Options& options)
    : session_(make_session(size, options)) {}

InfoBatchSampler InfoBatch::sampler() const { return InfoBatchSampler(session_); }

/// [T, B] losses instead of [B, T]: not to be told from a part of a batch before something does not
/// fit, so it is noted as a cause for that case.
void InfoBatch::suspect_shape(const torch::Tensor& losses) {
  if (losses.dim() < 2) return;
  const std::int64_t pending = session_->pending();
  if (pending == 0 || losses.size(0) == pending || losses.size(1) != pending) return;
  std::string shape;
  for (const std::int64_t extent : losses.sizes()) {
    shape += detail::message(shape.empty() ? "[" : ", ", extent);
  }
  session_->suspect(detail::message("an update of this epoch brought losses of shape ",
                                    shape,
                                    "] where a batch of ",
                                    pending,
                                    " was due: the first dimension must be the batch, so pass "
                                    "losses.transpose(0, 1)"));
}

/// Records the scores of checked rows and returns their weights.
///
/// The weights are a copy of the plan's: writing to them cannot change a frozen plan, and a graph
/// that outlives its epoch does not keep the plan's memory from serving the next one.
torch::Tensor InfoBatch::take(const char* function,
                              const torch::Tensor& scores,
                              const torch::Tensor& ids) {
  const at::AutoDispatchBelowAutograd constants;  // nothing here is differentiated
  const torch::Tensor rows = row_scores(scores);
  const std::int64_t batch = rows.size(0);
  torch::Tensor weights = at::empty({batch}, at::kFloat);
  float* out = weights.mutable_data_ptr<float>();
  if (!ids.defined()) {
    const Slice slice = translated(
        [&] { return session_->observe(rows.const_data_ptr<float>(), batch); }, function);
    if (slice.count > 0) std::copy_n(slice.weights(), slice.count, out);
    return weights;
  }
  const torch::Tensor named = (ids.is_neg() ? ids.resolve_neg() : ids).contiguous();
  const auto record = [&] {
    session_->observe_ids(
        rows.const_data_ptr<float>(), named.const_data_ptr<std::int64_t>(), batch, out);
  };
  translated(record, function);
  return weights;
}

torch::Tensor InfoBatch::update(const torch::Tensor& losses, Reduction reduction) {
  check_losses("update", "losses", losses);
  check_reduction(reduction);
  suspect_shape(losses);
  return weigh(losses, take("update", losses, {}), reduction);
}

torch::Tensor InfoBatch::update(const torch::Tensor& losses,
                                const torch::Tensor& ids,
                                const torch::Tensor& scores,
                                Reduction reduction) {
  check_losses("update", "losses", losses);
  check_reduction(reduction);
  if (ids.defined()) check_ids("update", ids, losses.size(0));
  if (scores.defined()) check_scores(scores, losses.size(0));
  if (!ids.defined()) suspect_shape(losses);
  return weigh(losses, take("update", scores.defined() ? scores : losses, ids), reduction);
}

torch::Tensor InfoBatch::observe(const torch::Tensor& scores, const torch::Tensor& ids) {
  check_losses("observe", "scores", scores);
  if (ids.defined()) check_ids("observe", ids, scores.size(0));
  if (!ids.defined()) suspect_shape(scores);
  return take("observe", scores, ids);
}

double InfoBatch::progress() const { return session_->progress(); }

std::int64_t InfoBatch::max_steps(std::int64_t batch_size) const {
  return translated([&] { return session_->max_steps(batch_size); });
}

std::int64_t InfoBatch::epoch() const { return session_->epoch(); }

void InfoBatch::set_epoch(std::int64_t epoch) {
  translated([&] { session_->set_epoch(epoch); });
}

std::int64_t InfoBatch::size() const {
  return translated([&] { return session_->length(); });
}

std::shared_ptr<const Plan> InfoBatch::plan() const {
  return translated([&] { return session_->plan(); });
}

void InfoBatch::discard_epoch() { session_->discard_epoch(); }

Statistics InfoBatch::statistics() const { return session_->statistics(); }

const Config& InfoBatch::config() const { return session_->config(); }

void InfoBatch::declare_drop_last(bool drop_last) { session_->declare_drop_last(drop_last); }

void InfoBatch::save(const std::string& path) const {
  translated([&] { session_->save(path); });
}

LoadReport InfoBatch::load(const std::string& path) {
  return translated([&] { return session_->load(path); });
}

void InfoBatch::save(torch::serialize::OutputArchive& archive) const {
  detail::write_state(*session_, archive);
}

void InfoBatch::load(torch::serialize::InputArchive& archive) {
  detail::read_state(*session_, archive);
}

}  // namespace infobatch
