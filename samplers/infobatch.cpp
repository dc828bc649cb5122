#include <infobatch/detail/float_environment.hpp>
#include <samplers/detail/archive.hpp>
#include <samplers/detail/ops_cpu.hpp>
#include <samplers/detail/run.hpp>
#include <samplers/detail/translate.hpp>
#include <samplers/infobatch.hpp>

#include <algorithm>
#include <string>

namespace infobatch {

using detail::translated;

namespace {

std::shared_ptr<detail::Run> make_run(std::int64_t size, const Options& options) {
  const auto make = [&] {
    const std::shared_ptr<Exchange>& ranks = options.ranks();
    const bool alone = ranks == nullptr || ranks->size() == 1;
    const Config config = alone ? options.config() : detail::agree_on_run(*ranks, size, options);
    auto run = std::make_shared<detail::Run>(size,
                                             config,
                                             options.threads(),
                                             options.backend(),
                                             options.device(),
                                             alone ? nullptr : ranks);
    run->session.set_warning_handler(
        [](const std::string& text) { TORCH_WARN("infobatch: ", text); });
    if (alone) return run;
    run->session.set_ranks({ranks->rank(), ranks->size(), options.split(), options.padding()});
    run->share.look_at_ranks();
    return run;
  };
  return translated(make, "InfoBatch");
}

std::string name_of(c10::Device device) { return device.is_cpu() ? "the CPU" : device.str(); }

/// What brings a tensor to a device, in a message.
std::string moved_to(c10::Device device) {
  return device.is_cpu() ? ".cpu()" : ".to(\"" + device.str() + "\")";
}

void check_device(const detail::RunDevice& device,
                  const char* function,
                  const char* name,
                  const at::Tensor& losses) {
  if (device.admits(losses.device())) return;
  const c10::Device own = device.get().value_or(c10::kCPU);
  TORCH_CHECK_VALUE(false,
                    function,
                    ": ",
                    name,
                    " must be on ",
                    name_of(own),
                    ", where this run is, got ",
                    losses.device(),
                    "; ",
                    name,
                    moved_to(own),
                    " keeps the gradient, and Options::device declares another device before the "
                    "run begins");
}

/// Ids and scores: hidden copies would make every step wait.
void check_beside(const char* function,
                  const char* name,
                  const at::Tensor& tensor,
                  const at::Tensor& losses) {
  const c10::Device device = losses.device();
  TORCH_CHECK_VALUE(tensor.device() == device,
                    function,
                    ": ",
                    name,
                    " must be on ",
                    name_of(device),
                    ", got ",
                    tensor.device(),
                    "; ",
                    name,
                    moved_to(device));
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
}

void check_ids(const char* function, const torch::Tensor& ids, const torch::Tensor& losses) {
  const std::int64_t batch = losses.size(0);
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
  check_beside(function, "ids", ids, losses);
}

void check_scores(const torch::Tensor& scores, const torch::Tensor& losses) {
  const std::int64_t batch = losses.size(0);
  check_losses("update", "scores", scores);
  check_beside("update", "scores", scores, losses);
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
    : run_(make_run(size, options)), session_(run_, &run_->session) {}

InfoBatchSampler InfoBatch::sampler() const { return InfoBatchSampler(run_); }

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
                                    " was pending: the first dimension must be the batch, so pass "
                                    "losses.transpose(0, 1)"));
}

/// On the CPU: records the scores of checked rows and returns their weights. `begin` becomes the
/// position of the first one, in order.
///
/// The weights are a copy of the plan's: writing to them cannot change a frozen plan, and a graph
/// that outlives its epoch does not keep the plan's memory from serving the next one.
torch::Tensor InfoBatch::take(const char* function,
                              const torch::Tensor& scores,
                              const torch::Tensor& ids,
                              std::int64_t* begin) {
  const at::AutoDispatchBelowAutograd constants;  // nothing here is differentiated
  const torch::Tensor rows = row_scores(scores);
  const std::int64_t batch = rows.size(0);
  torch::Tensor weights = at::empty({batch}, at::kFloat);
  float* out = weights.mutable_data_ptr<float>();
  if (!ids.defined()) {
    const Slice slice = translated(
        [&] { return session_->observe(rows.const_data_ptr<float>(), batch); }, function);
    if (slice.count > 0) std::copy_n(slice.weights(), slice.count, out);
    if (begin != nullptr) *begin = slice.begin;
  } else {
    const torch::Tensor named = (ids.is_neg() ? ids.resolve_neg() : ids).contiguous();
    const auto record = [&] {
      session_->observe_ids(
          rows.const_data_ptr<float>(), named.const_data_ptr<std::int64_t>(), batch, out);
    };
    translated(record, function);
  }
  if (batch > 0) run_->step.device().stay_on(c10::kCPU);
  return weights;
}

torch::Tensor InfoBatch::update(const torch::Tensor& losses, Reduction reduction) {
  check_losses("update", "losses", losses);
  check_reduction(reduction);
  check_device(run_->step.device(), "update", "losses", losses);
  suspect_shape(losses);
  if (!losses.is_cpu()) return run_->step.update(losses, {}, {}, reduction);
  std::int64_t begin = 0;
  const torch::Tensor weights = take("update", losses, {}, &begin);
  return run_->share.weigh_in_order(losses, weights, reduction, begin);
}

torch::Tensor InfoBatch::update(const torch::Tensor& losses,
                                const torch::Tensor& ids,
                                const torch::Tensor& scores,
                                Reduction reduction) {
  check_losses("update", "losses", losses);
  check_reduction(reduction);
  check_device(run_->step.device(), "update", "losses", losses);
  if (ids.defined()) check_ids("update", ids, losses);
  if (scores.defined()) check_scores(scores, losses);
  if (!ids.defined()) suspect_shape(losses);
  if (!losses.is_cpu()) return run_->step.update(losses, ids, scores, reduction);
  std::int64_t begin = 0;
  const torch::Tensor weights = take("update", scores.defined() ? scores : losses, ids, &begin);
  if (!ids.defined()) return run_->share.weigh_in_order(losses, weights, reduction, begin);
  return run_->share.weigh_by_ids(losses, weights, reduction, ids);
}

torch::Tensor InfoBatch::observe(const torch::Tensor& scores, const torch::Tensor& ids) {
  check_losses("observe", "scores", scores);
  check_device(run_->step.device(), "observe", "scores", scores);
  if (ids.defined()) check_ids("observe", ids, scores);
  if (!ids.defined()) suspect_shape(scores);
  if (!scores.is_cpu()) return run_->step.observe(scores, ids);
  return take("observe", scores, ids, nullptr);
}

double InfoBatch::progress() const {
  return run_->step.elsewhere() ? run_->step.progress() : session_->progress();
}

std::int64_t InfoBatch::max_steps(std::int64_t batch_size) const {
  return translated([&] { return session_->max_steps(batch_size); });
}

std::int64_t InfoBatch::epoch() const {
  return run_->look([&] { return session_->epoch(); });
}

void InfoBatch::set_epoch(std::int64_t epoch) {
  const auto change = [&] { translated([&] { session_->set_epoch(epoch); }); };
  if (epoch < 0) return change();  // which the engine refuses
  run_->change_epoch(epoch, "set_epoch", change);
}

std::int64_t InfoBatch::size() const {
  const auto length = [&] { return translated([&] { return session_->length(); }); };
  return run_->look(length);
}

std::shared_ptr<const Plan> InfoBatch::plan() const {
  const auto plan = [&] { return translated([&] { return session_->plan(); }); };
  return run_->look(plan);
}

void InfoBatch::discard_epoch() {
  run_->forget([&] { session_->discard_epoch(); });
}

Statistics InfoBatch::statistics() const {
  return run_->look([&] { return session_->statistics(); });
}

const Config& InfoBatch::config() const { return session_->config(); }

void InfoBatch::declare_drop_last(bool drop_last) { session_->declare_drop_last(drop_last); }

void InfoBatch::save(const std::string& path) const {
  run_->keep_together([&] { run_->ranks.save(path); });
}

LoadReport InfoBatch::load(const std::string& path) {
  LoadReport report;
  run_->replace([&] { report = translated([&] { return session_->load(path); }); });
  return report;
}

LoadReport InfoBatch::load(const std::string& path, const Resize& resize) {
  LoadReport report;
  run_->replace([&] { report = translated([&] { return session_->load(path, resize); }); });
  return report;
}

void InfoBatch::save(torch::serialize::OutputArchive& archive) const {
  run_->keep_together([&] { detail::write_state(run_->ranks.state("save"), archive); });
}

void InfoBatch::load(torch::serialize::InputArchive& archive) {
  run_->replace([&] { detail::read_state(*session_, archive); });
}

std::string InfoBatch::serialize_part() const {
  const bool with_scores = session_->ranks().rank == 0;
  const auto part = [&] { return session_->serialize_part(with_scores); };
  return run_->keep([&] { return translated(part); });
}

LoadReport InfoBatch::load_parts(const std::vector<std::string>& parts) {
  LoadReport report;
  run_->replace([&] {
    report = translated([&] {
      return session_->deserialize(session_->join_parts({parts.begin(), parts.end()}));
    });
  });
  return report;
}

}  // namespace infobatch
