#pragma once

#include <examples/train/options.hpp>
#include <samplers/options.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace infobatch::train {

/// One way to choose the samples of an epoch.
struct Arm {
  const char* name;
  const char* meaning;  ///< one line of `--help`
  bool needs_share;     ///< is given the share that `infobatch` saves, so it runs after it
};

/// All arms in the order of the documentation.
const std::vector<Arm>& arms();

/// @throws UsageError  listing the known names.
const Arm& find_arm(const std::string& name);

/// The sampler's options for an arm; see `Arm::meaning`.
///
/// @param share  share of all samples that the run leaves out; used by arms that need one.
infobatch::Options sampler_options(const Arm& arm,
                                   const TrainOptions& options,
                                   std::uint64_t seed,
                                   double share);

}  // namespace infobatch::train
