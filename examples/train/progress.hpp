#pragma once

#include <examples/train/run.hpp>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace infobatch::train {

/// What a person sees while the runs go on: on a terminal one bar for each run under way, redrawn
/// in place; elsewhere one line for each epoch.
class Progress {
 public:
  /// @param stream  where to; its being a terminal decides the form.
  explicit Progress(std::FILE* stream);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// One line that stays.
  void note(const std::string& text);
  /// After a step of `run`.
  /// @param key          the same for all calls about one run.
  /// @param epoch_ended  as `Run::step` returned.
  void update(std::size_t key, const Run& run, bool epoch_ended);

 private:
  struct Bar {
    std::size_t key;
    std::string text;
  };

  void erase();
  void draw();

  std::FILE* stream_;
  bool terminal_;
  std::vector<Bar> bars_;
  std::size_t drawn_ = 0;    // lines on the screen that belong to bars
  double last_draw_ = -1.0;  // seconds
};

/// One line about an epoch that has just ended: arm, seed, epoch, samples kept, loss, accuracy,
/// seconds so far, ETA.
std::string epoch_line(const Run& run);
/// A bar of the run's progress, with the running epoch, or at the end its accuracy and seconds; not
/// longer than 80 columns.
std::string bar_line(const Run& run);

/// "12 s", "3 min 05 s", "1 h 02 min".
std::string duration_text(double seconds);

}  // namespace infobatch::train
