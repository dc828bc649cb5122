#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace infobatch::train {

/// A mistake of the caller: printed as one line, the program ends with status 2 and has written
/// nothing.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Everything that the command line says, checked and with the defaults filled in.
struct TrainOptions {
  std::vector<std::string> arms = {"full", "infobatch"};
  std::string data = "builtin";  ///< "builtin", "cifar10:DIR" or "cifar100:DIR"
  std::uint64_t data_seed = 1;   ///< of the builtin data
  std::int64_t samples = 0;      ///< training samples; 0: the data's own number
  std::string model = "small-cnn";
  std::string dtype = "fp32";  ///< "fp32", "bf16" (autocast) or "fp64"

  std::string device = "cpu";  ///< where it is trained; data and augmentation are there, too

  std::int64_t epochs = 16;
  std::int64_t batch_size = 128;
  double lr = 0.0;  ///< peak of the schedule; 0 until `parse_options` took the model's default
  double weight_decay = 5e-4;
  double label_smoothing = 0.1;
  double prune_ratio = 0.5;
  double delta = 0.875;
  std::optional<double> share;  ///< share saved that `full-short` and `random` are given
  std::vector<std::uint64_t> seeds = {1};

  std::int64_t threads = 0;  ///< 0 until `parse_options` counted the cores
  bool interleave = false;

  std::string json;                     ///< empty: no file
  std::string checkpoint;               ///< empty: none
  std::int64_t checkpoint_every = 500;  ///< steps, of all arms together
  bool help = false;

  /// The part of `data` after the colon; empty for builtin data.
  std::string data_directory() const;
  /// The part of `data` before the colon.
  std::string data_name() const;
};

/// Reads `arguments` (without the program's name): `--name value` or `--name=value`.
///
/// Checks everything that can be checked without reading the data: names, numbers, combinations,
/// that the device is there, and that the folders of the files to write exist.
/// @throws UsageError  naming the option, the rule and the value.
TrainOptions parse_options(const std::vector<std::string>& arguments);

/// What `--help` prints.
std::string help_text();

}  // namespace infobatch::train
