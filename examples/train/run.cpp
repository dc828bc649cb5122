#include <examples/train/device.hpp>
#include <examples/train/run.hpp>
#include <samplers/data_loader.hpp>

#include <torch/torch.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace infobatch::train {
namespace {

constexpr std::int64_t kEvaluationBatch = 500;
constexpr int kWarmUpSteps = 5;
constexpr std::int64_t kLossEvery = 50;  // steps on a device, which then is waited for

/// A part of the data where it is trained with.
ImageBatches images_of(const Dataset& data, const Images& part, const Precision& precision) {
  const ImageBatches images(data, part);
  return precision.device.is_cpu() ? images : images.on(precision.device);
}

infobatch::Options run_options(const TrainOptions& options,
                               const Dataset& data,
                               const Arm& arm,
                               std::uint64_t seed,
                               const Target& target) {
  auto result = sampler_options(arm, options, seed, target.share);
  if (std::string(arm.name) == "full-short") {
    const std::int64_t epoch = full_samples(options, data) / options.epochs;
    result.epochs((target.samples + epoch - 1) / epoch);
  }
  return result;
}

/// Percent of the test images whose largest logit is that of their label.
double test_accuracy(Classifier& model, ImageBatches& images, const Precision& precision) {
  const torch::NoGradGuard no_grad;
  model.eval();
  const auto size = static_cast<std::int64_t>(*images.size());
  auto right = torch::zeros({}, torch::dtype(torch::kInt64).device(precision.device));
  std::vector<std::size_t> ids;
  for (std::int64_t begin = 0; begin < size; begin += kEvaluationBatch) {
    const std::int64_t end = std::min(begin + kEvaluationBatch, size);
    ids.resize(static_cast<std::size_t>(end - begin));
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::size_t>(begin) + i;
    const Batch batch = images.get_batch(ids);
    const auto logits = forward(model, batch.images.to(precision.dtype), precision);
    right += logits.argmax(1).eq(batch.labels).sum();
  }
  model.train();
  return 100.0 * static_cast<double>(right.item<std::int64_t>()) / static_cast<double>(size);
}

}  // namespace

std::int64_t full_samples(const TrainOptions& options, const Dataset& data) {
  return options.epochs * (data.train.size() / options.batch_size) * options.batch_size;
}

Run::Run(const TrainOptions& options,
         const Dataset& data,
         const Arm& arm,
         std::uint64_t seed,
         const Target& target)
    : options_(options),
      precision_(precision_of(options.dtype, torch::Device(options.device))),
      sampler_options_(run_options(options, data, arm, seed, target)),
      ib_(data.train.size(), sampler_options_),
      sample_limit_(std::string(arm.name) == "full-short" ? target.samples
                                                          : full_samples(options, data)),
      run_epochs_(static_cast<double>(sample_limit_) * static_cast<double>(options.epochs) /
                  static_cast<double>(full_samples(options, data))),
      batches_(images_of(data, data.train, precision_).augmented(seed)),
      test_(images_of(data, data.test, precision_)) {
  torch::manual_seed(seed);
  model_ = make_model(options.model, data.classes);
  model_->to(precision_.device, precision_.dtype);
  model_->train();
  optimizer_ = make_optimizer(*model_, options);
  // drop_last: every step has the same shape. Rests of ever new sizes would make the convolution
  // library compile kernels in every pruned epoch, at the cost of some steps. Where the plan is
  // made of whole batches, only full epochs have a rest.
  loader_ = make_data_loader(
      batches_,
      ib_,
      torch::data::DataLoaderOptions(static_cast<std::size_t>(options.batch_size)).drop_last(true));
  figures_.arm = arm.name;
  figures_.seed = seed;
  figures_.samples_full = full_samples(options, data);
  const torch::Dtype wide = widest_float(precision_.device);
  loss_sum_ = torch::zeros({}, torch::dtype(wide).device(precision_.device));
}

void Run::on_warning(std::function<void(const std::string&)> handler) {
  ib_.session()->set_warning_handler(std::move(handler));
}

double Run::progress() const {
  return std::min(1.0, ib_.progress() * static_cast<double>(epochs()) / run_epochs_);
}

void Run::begin_epoch() {
  if (!inside_epoch_) {
    epoch_ = EpochFigures{};
    epoch_.epoch = static_cast<std::int64_t>(figures_.history.size());
    loss_sum_.zero_();
    ib_.set_epoch(epoch_.epoch);
    epoch_.kept = ib_.size();
    inside_epoch_ = true;
  }
  batches_.set_epoch(epoch_.epoch);
  position_ = loader_->begin();
}

void Run::train_batch(const Batch& batch) {
  set_learning_rate(*optimizer_, one_cycle(options_.lr, progress()));
  optimizer_->zero_grad();
  const auto logits = forward(*model_, batch.images.to(precision_.dtype), precision_);
  const auto losses = sample_losses(logits, batch.labels, options_.label_smoothing);
  const auto loss = ib_.update(losses);
  loss.backward();
  optimizer_->step();
  loss_sum_ += losses.detach().sum(loss_sum_.scalar_type());
  const std::int64_t count = batch.labels.size(0);
  epoch_.trained += count;
  figures_.samples_trained += count;
  ++figures_.steps;
}

bool Run::step() {
  const Stopwatch stopwatch;
  if (!position_) begin_epoch();
  bool more = *position_ != loader_->end();  // not even once where the plan is less than a batch
  if (more) {
    train_batch(**position_);
    ++*position_;
    more = figures_.samples_trained < sample_limit_ && *position_ != loader_->end();
  }
  if (!more || precision_.device.is_cpu() || figures_.steps % kLossEvery == 0) {
    // NaN: not one whole batch. What was launched of the epoch belongs to its time.
    epoch_.loss = loss_sum() / static_cast<double>(epoch_.trained);
  }
  const Span span = stopwatch.elapsed();
  epoch_.time += span;
  figures_.time += span;
  if (!more) end_epoch();
  return !more;
}

void Run::end_epoch() {
  position_.reset();
  inside_epoch_ = false;
  epoch_.accuracy = evaluate();
  figures_.history.push_back(epoch_);
  figures_.planned_share = ib_.statistics().actual_saved;
  figures_.finished = static_cast<std::int64_t>(figures_.history.size()) == epochs() ||
                      figures_.samples_trained >= sample_limit_;
}

double Run::evaluate() { return test_accuracy(*model_, test_, precision_); }

nlohmann::json Run::save(torch::serialize::OutputArchive& archive) const {
  torch::serialize::OutputArchive model;
  torch::serialize::OutputArchive optimizer;
  torch::serialize::OutputArchive sampler;
  model_->save(model);
  optimizer_->save(optimizer);
  ib_.save(sampler);
  archive.write("model", model);
  archive.write("optimizer", optimizer);
  archive.write("sampler", sampler);
  return {{"figures", to_json(figures_)},
          {"inside_epoch", inside_epoch_},
          {"epoch", epoch_.epoch},
          {"kept", epoch_.kept},
          {"trained", epoch_.trained},
          {"loss", epoch_.loss},
          {"loss_sum", loss_sum()},
          {"epoch_seconds", epoch_.time.wall},
          {"epoch_cpu_seconds", epoch_.time.cpu}};
}

void Run::load(torch::serialize::InputArchive& archive, const nlohmann::json& state) {
  torch::serialize::InputArchive model;
  torch::serialize::InputArchive optimizer;
  torch::serialize::InputArchive sampler;
  archive.read("model", model);
  archive.read("optimizer", optimizer);
  archive.read("sampler", sampler);
  model_->load(model);
  optimizer_->load(optimizer);
  ib_.load(sampler);
  figures_ = figures_from_json(state.at("figures"));
  state.at("inside_epoch").get_to(inside_epoch_);
  state.at("epoch").get_to(epoch_.epoch);
  state.at("kept").get_to(epoch_.kept);
  state.at("trained").get_to(epoch_.trained);
  epoch_.loss = number_or_nan(state.at("loss"));
  loss_sum_.fill_(number_or_nan(state.at("loss_sum")));
  state.at("epoch_seconds").get_to(epoch_.time.wall);
  state.at("epoch_cpu_seconds").get_to(epoch_.time.cpu);
}

void warm_up(const TrainOptions& options, const Dataset& data) {
  const Precision precision = precision_of(options.dtype, torch::Device(options.device));
  const auto model = make_model(options.model, data.classes);
  model->to(precision.device, precision.dtype);
  const auto optimizer = make_optimizer(*model, options);
  ImageBatches batches = images_of(data, data.train, precision).augmented(0);
  std::vector<std::size_t> ids(static_cast<std::size_t>(options.batch_size));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = i;
  for (int step = 0; step < kWarmUpSteps; ++step) {
    const Batch batch = batches.get_batch(ids);
    optimizer->zero_grad();
    const auto logits = forward(*model, batch.images.to(precision.dtype), precision);
    sample_losses(logits, batch.labels, options.label_smoothing).mean().backward();
    optimizer->step();
  }
  ImageBatches test = images_of(data, data.test, precision);
  test_accuracy(*model, test, precision);
}

}  // namespace infobatch::train
