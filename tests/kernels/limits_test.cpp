#include <infobatch/detail/buffer.hpp>
#include <infobatch/detail/limits.hpp>
#include <infobatch/detail/threads.hpp>
#include <tests/support/catch2_shim.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

// What control groups grant, in made-up trees of the files that tell.

namespace infobatch::testing {
namespace {

using detail::cpu_quota;
using detail::memory_limit;

/// A folder with a /proc and a /sys of its own.
class Machine {
 public:
  explicit Machine(const std::string& groups) {
    const char* base = std::getenv("TMPDIR");
    root_ = std::string(base != nullptr ? base : P_tmpdir) + "/infobatch_test_XXXXXX";
    REQUIRE(::mkdtemp(root_.data()) != nullptr);
    write("/proc/self/cgroup", groups);
  }
  ~Machine() {
    for (auto name = made_.rbegin(); name != made_.rend(); ++name) ::remove(name->c_str());
    ::remove(root_.c_str());
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  void write(const std::string& path, const std::string& text) {
    for (std::size_t end = path.find('/', 1); end != path.npos; end = path.find('/', end + 1)) {
      if (::mkdir((root_ + path.substr(0, end)).c_str(), 0700) == 0) {
        made_.push_back(root_ + path.substr(0, end));
      }
    }
    std::ofstream(root_ + path) << text;
    made_.push_back(root_ + path);
  }
  const char* root() const { return root_.c_str(); }

 private:
  std::string root_;
  std::vector<std::string> made_;
};

constexpr const char* kGroups = "/sys/fs/cgroup";

}  // namespace

TEST_CASE("a CPU quota is rounded up to whole threads", "[kernels][limits]") {
  const auto quota_of = [](const std::string& text) {
    Machine machine("0::/job\n");
    machine.write(std::string(kGroups) + "/job/cpu.max", text);
    return cpu_quota(machine.root());
  };
  REQUIRE(quota_of("200000 100000\n") == 2);
  REQUIRE(quota_of("200001 100000\n") == 3);
  REQUIRE(quota_of("150000 100000\n") == 2);
  REQUIRE(quota_of("1000 100000\n") == 1);
  REQUIRE(quota_of("max 100000\n") == INT_MAX);
  REQUIRE(quota_of("9223372036854775807 1\n") == INT_MAX);
  for (const char* broken : {"", "\n", "200000", "200000 0\n", "-1 100000\n", "x 100000\n"}) {
    CAPTURE(broken);
    REQUIRE(quota_of(broken) == INT_MAX);
  }
}

TEST_CASE("the least limit of a control group and of those above it holds", "[kernels][limits]") {
  Machine machine("0::/pod/job/step\n");
  const std::string groups = kGroups;
  machine.write(groups + "/pod/job/step/cpu.max", "800000 100000\n");
  machine.write(groups + "/pod/job/step/memory.max", "max\n");
  REQUIRE(cpu_quota(machine.root()) == 8);
  REQUIRE(memory_limit(machine.root()).bytes == detail::physical_memory());
  machine.write(groups + "/pod/cpu.max", "300000 100000\n");
  machine.write(groups + "/pod/job/memory.max", "2000000\n");
  REQUIRE(cpu_quota(machine.root()) == 3);
  REQUIRE(memory_limit(machine.root()).bytes == 2000000);
  machine.write(groups + "/cpu.max", "50000 100000\n");
  machine.write(groups + "/memory.max", "1000000\n");
  machine.write(groups + "/pod/other/memory.max", "1\n");
  REQUIRE(cpu_quota(machine.root()) == 1);
  REQUIRE(memory_limit(machine.root()).bytes == 1000000);
}

TEST_CASE("control groups of version 1 are heard, alone and beside version 2",
          "[kernels][limits]") {
  Machine machine("9:name=systemd:/\n4:memory:/job\n3:cpu,cpuacct:/job\n2:cpuset:/job\n0::/job\n");
  const std::string groups = kGroups;
  machine.write(groups + "/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
  machine.write(groups + "/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  machine.write(groups + "/memory/job/memory.limit_in_bytes", "9223372036854771712\n");
  machine.write(groups + "/cpuset/job/cpu.cfs_quota_us", "1\n");
  machine.write(groups + "/cpuset/job/cpu.cfs_period_us", "100000\n");
  REQUIRE(cpu_quota(machine.root()) == INT_MAX);
  REQUIRE(memory_limit(machine.root()).bytes == detail::physical_memory());
  machine.write(groups + "/unified/job/cpu.max", "700000 100000\n");
  REQUIRE(cpu_quota(machine.root()) == 7);
  machine.write(groups + "/cpu,cpuacct/job/cpu.cfs_quota_us", "250000\n");
  machine.write(groups + "/memory/memory.limit_in_bytes", "3000000\n");
  REQUIRE(cpu_quota(machine.root()) == 3);
  REQUIRE(memory_limit(machine.root()).bytes == 3000000);
}

TEST_CASE("a container that sees its own control group alone finds its limits",
          "[kernels][limits]") {
  // The path is that of the host, or leads out of what the container sees.
  for (const char* path : {"/docker/0123", "/../outside", "/.."}) {
    CAPTURE(path);
    Machine machine(std::string("4:memory:") + path + "\n0::" + path + "\n");
    machine.write("/sys/fs/outside/cpu.max", "100000 100000\n");
    machine.write("/sys/fs/cpu.max", "100000 100000\n");
    machine.write(std::string(kGroups) + "/cpu.max", "400000 100000\n");
    machine.write(std::string(kGroups) + "/memory/memory.limit_in_bytes", "5000000\n");
    REQUIRE(cpu_quota(machine.root()) == 4);
    REQUIRE(memory_limit(machine.root()).bytes == 5000000);
    REQUIRE(std::string(memory_limit(machine.root()).source) == "the control group");
  }
}

TEST_CASE("what cannot be read limits nothing", "[kernels][limits]") {
  for (const char* groups : {"", "0::", "0", "::::\n", "0:cpu", "\n\n", "0::job\n", "1:cpu:\n"}) {
    CAPTURE(groups);
    Machine machine(groups);
    REQUIRE(cpu_quota(machine.root()) == INT_MAX);
    REQUIRE(memory_limit(machine.root()).bytes == detail::physical_memory());
    REQUIRE(std::string(memory_limit(machine.root()).source) == "the machine");
  }
  REQUIRE(cpu_quota("/nowhere") == INT_MAX);
  REQUIRE(memory_limit("/nowhere").bytes == detail::physical_memory());
}

TEST_CASE("threads by default are no more than the CPU quota is worth", "[kernels][limits]") {
  REQUIRE(resolve_threads(0) >= 1);
  REQUIRE(resolve_threads(0) <= cpu_quota());
  REQUIRE(resolve_threads(1000) == 1000);
}

}  // namespace infobatch::testing
