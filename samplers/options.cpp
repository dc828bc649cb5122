#include <samplers/detail/translate.hpp>
#include <samplers/options.hpp>

#include <ATen/CPUGeneratorImpl.h>

#include <mutex>

namespace infobatch {
namespace {

/// The seed that torch was given, or its default. Reads; advances nothing.
std::uint64_t torch_seed() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.current_seed();
}

}  // namespace

Config Options::config() const {
  Config config = config_;
  config.seed = seed_.has_value() ? *seed_ : torch_seed();
  return config;
}

Options& Options::set(const std::string& name, const OptionValue& value) {
  detail::translated([&] { config_.set(name, value); }, "Options");
  if (name == "seed") seed_ = config_.seed;
  return *this;
}

}  // namespace infobatch
