#include <examples/train/checkpoint.hpp>
#include <examples/train/driver.hpp>
#include <examples/train/file.hpp>

#include <torch/torch.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace infobatch::train {

Driver::Driver(const TrainOptions& options, const Dataset& data, Progress& progress)
    : options_(options), data_(data), progress_(progress) {
  for (const std::uint64_t seed : options.seeds) {
    for (const std::string& arm : options.arms)
      jobs_.push_back({&find_arm(arm), seed, {}, nullptr});
  }
  plan_order();
  try_options();
  if (!options.checkpoint.empty() && file_exists(options.checkpoint)) load();
}

void Driver::plan_order() {
  for (const std::uint64_t seed : options_.seeds) {
    for (const bool waits : {false, true}) {  // for the share that infobatch saves
      std::vector<std::size_t> group;
      for (std::size_t i = 0; i < jobs_.size(); ++i) {
        const bool job_waits = jobs_[i].arm->needs_share && !options_.share;
        if (jobs_[i].seed == seed && job_waits == waits) group.push_back(i);
      }
      if (options_.interleave && !group.empty()) {
        groups_.push_back(group);
      } else {
        for (const std::size_t i : group) groups_.push_back({i});
      }
    }
  }
}

void Driver::try_options() const {
  for (const std::string& name : options_.arms) {
    const Arm& arm = find_arm(name);
    try {
      const double share = options_.share.value_or(0.0);
      const InfoBatch ib(data_.train.size(), sampler_options(arm, options_, 0, share));
    } catch (const c10::Error& error) {
      std::string text = error.what_without_backtrace();
      std::replace(text.begin(), text.end(), '\n', ' ');
      const bool by_share = arm.needs_share && options_.share.has_value();
      throw UsageError((by_share ? "--share, for " : "--arms ") + name + ": " + text);
    }
  }
}

Target Driver::target_of(const Job& job) const {
  Target target;
  if (!job.arm->needs_share) return target;
  if (options_.share) {
    target.share = *options_.share;
    const double steps = static_cast<double>(full_samples(options_, data_)) /
                         static_cast<double>(options_.batch_size) * (1.0 - target.share);
    target.samples = std::max<std::int64_t>(1, std::llround(steps)) * options_.batch_size;
    return target;
  }
  for (const Job& other : jobs_) {
    if (other.seed == job.seed && std::string(other.arm->name) == "infobatch") {
      target.share = other.figures.planned_share;
      target.samples = other.figures.samples_trained;
    }
  }
  return target;
}

std::unique_ptr<Run> Driver::make_run(const Job& job) {
  auto run = std::make_unique<Run>(options_, data_, *job.arm, job.seed, target_of(job));
  const std::string name = job.arm->name;
  run->on_warning([this, name](const std::string& text) { progress_.note(name + ": " + text); });
  return run;
}

Driver::Job* Driver::next_job(const std::vector<std::size_t>& group) {
  // The one inside an epoch, else the one with the fewest epochs: a function of the runs' own
  // state, so a resumed command takes the same turns.
  Job* next = nullptr;
  std::size_t fewest = 0;
  for (const std::size_t i : group) {
    Job& job = jobs_[i];
    if (finished(job)) continue;
    if (job.run && job.run->inside_epoch()) return &job;
    const std::size_t epochs = job.run ? job.run->figures().history.size() : 0;
    if (next == nullptr || epochs < fewest) {
      next = &job;
      fewest = epochs;
    }
  }
  return next;
}

void Driver::step(Job& job) {
  if (!job.run) job.run = make_run(job);
  const bool epoch_ended = job.run->step();
  ++steps_;
  progress_.update(static_cast<std::size_t>(&job - jobs_.data()), *job.run, epoch_ended);
  if (job.run->finished()) {
    job.figures = job.run->figures();
    job.run.reset();
    save();
  } else if (steps_ % options_.checkpoint_every == 0) {
    save();
  }
}

bool Driver::run(const std::function<bool()>& stop) {
  for (const auto& group : groups_) {
    while (Job* job = next_job(group)) {
      if (stop()) {
        save();
        return false;
      }
      step(*job);
    }
  }
  return true;
}

std::vector<Figures> Driver::figures() const {
  std::vector<Figures> result;
  for (const Job& job : jobs_) {
    if (finished(job)) result.push_back(job.figures);
  }
  return result;
}

void Driver::save() const {
  if (options_.checkpoint.empty()) return;
  Checkpoint checkpoint;
  torch::serialize::OutputArchive archive;
  nlohmann::json list = nlohmann::json::array();
  for (std::size_t i = 0; i < jobs_.size(); ++i) {
    nlohmann::json item = {{"figures", nullptr}, {"run", nullptr}};
    if (finished(jobs_[i])) item["figures"] = to_json(jobs_[i].figures);
    if (jobs_[i].run) {
      torch::serialize::OutputArchive part;
      item["run"] = jobs_[i].run->save(part);
      archive.write("run" + std::to_string(i), part);
    }
    list.push_back(std::move(item));
  }
  checkpoint.state = {{"config", checkpoint_config(options_, data_.digest)},
                      {"jobs", std::move(list)},
                      {"steps", steps_}};
  checkpoint.archive = archive_bytes(archive);
  write_checkpoint(options_.checkpoint, checkpoint);
}

void Driver::load() {
  const Checkpoint checkpoint = read_checkpoint(options_.checkpoint);
  const auto& state = checkpoint.state;
  require_same_config(options_.checkpoint,
                      state.value("config", nlohmann::json()),
                      checkpoint_config(options_, data_.digest));
  try {
    torch::serialize::InputArchive archive;
    open_archive(checkpoint.archive, archive, torch::Device(options_.device));
    state.at("steps").get_to(steps_);
    for (std::size_t i = 0; i < jobs_.size(); ++i) {
      const nlohmann::json& item = state.at("jobs").at(i);
      if (!item.at("figures").is_null()) jobs_[i].figures = figures_from_json(item.at("figures"));
    }
    for (std::size_t i = 0; i < jobs_.size(); ++i) {
      const nlohmann::json& item = state.at("jobs").at(i);
      if (item.at("run").is_null()) continue;
      torch::serialize::InputArchive part;
      archive.read("run" + std::to_string(i), part);
      jobs_[i].run = make_run(jobs_[i]);
      jobs_[i].run->load(part, item.at("run"));
    }
  } catch (const std::exception& error) {
    const std::string text = error.what();
    throw UsageError("--checkpoint: " + options_.checkpoint +
                     " cannot be used here: " + text.substr(0, text.find('\n')));
  }
  progress_.note("going on from " + options_.checkpoint + " at step " + std::to_string(steps_));
}

}  // namespace infobatch::train
