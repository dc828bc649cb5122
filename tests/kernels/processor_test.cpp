#include <infobatch/detail/kernels.hpp>
#include <tests/support/catch2_shim.hpp>

#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <sstream>
#include <string>
#include <vector>

// Which instruction sets are used: what the processor says, against what the system says of it.

namespace infobatch::testing {
namespace {

using detail::SimdLevel;

#if defined(__linux__) && defined(__x86_64__)

/// The flags of the first processor in /proc/cpuinfo.
std::vector<std::string> processor_flags() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, 5, "flags") != 0) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    std::vector<std::string> flags;
    for (std::string flag; words >> flag;) flags.push_back(flag);
    return flags;
  }
  return {};
}

bool all_of(const std::vector<std::string>& flags, std::initializer_list<const char*> wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const char* flag) {
    return std::find(flags.begin(), flags.end(), flag) != flags.end();
  });
}

TEST_CASE("the instruction sets that the system reports are used, and no others", "[kernels]") {
  const std::vector<std::string> flags = processor_flags();
  if (flags.empty()) return;
  const bool avx2 = all_of(flags, {"avx2", "bmi2", "popcnt"});
  const bool avx512 = avx2 && all_of(flags, {"avx512f", "avx512dq", "avx512bw", "avx512vl"});
  CHECK(detail::processor_runs(SimdLevel::kAvx2) == avx2);
  CHECK(detail::processor_runs(SimdLevel::kAvx512) == avx512);
}

#endif

TEST_CASE("the portable code runs everywhere", "[kernels]") {
  CHECK(detail::processor_runs(SimdLevel::kPortable));
  CHECK(detail::portable_kernels() != nullptr);
}

}  // namespace
}  // namespace infobatch::testing
