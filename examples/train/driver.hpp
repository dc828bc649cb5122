#pragma once

#include <examples/train/dataset.hpp>
#include <examples/train/progress.hpp>
#include <examples/train/run.hpp>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace infobatch::train {

/// All runs of a command: their order, their checkpoint, their figures.
///
/// For each seed the arms that stand on their own run first, then those that wait for the share of
/// infobatch (with `--share` none does). Without `--interleave` one after another; with it the arms
/// of either group take turns, an epoch each.
class Driver {
 public:
  /// Goes on from the checkpoint where there is one.
  /// @throws UsageError  options that the sampler refuses; a checkpoint that is damaged or belongs
  /// to
  ///                     another configuration. Nothing was written.
  Driver(const TrainOptions& options, const Dataset& data, Progress& progress);

  /// Trains until everything is finished or `stop` says so.
  /// @return whether everything is finished. The checkpoint is up to date either way.
  bool run(const std::function<bool()>& stop);

  /// Figures of the finished runs, seed by seed in the order of `--arms`.
  std::vector<Figures> figures() const;

 private:
  struct Job {
    const Arm* arm;
    std::uint64_t seed;
    Figures figures;           // of a finished run
    std::unique_ptr<Run> run;  // while it is under way
  };

  void plan_order();
  void try_options() const;
  bool finished(const Job& job) const { return job.figures.finished; }
  Job* next_job(const std::vector<std::size_t>& group);
  std::unique_ptr<Run> make_run(const Job& job);
  Target target_of(const Job& job) const;
  void step(Job& job);
  void save() const;
  void load();

  const TrainOptions& options_;
  const Dataset& data_;
  Progress& progress_;
  std::vector<Job> jobs_;                         // seed by seed in the order of --arms
  std::vector<std::vector<std::size_t>> groups_;  // jobs that take turns, in order of time
  std::int64_t steps_ = 0;
};

}  // namespace infobatch::train
