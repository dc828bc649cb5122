#include <examples/train/waiting.hpp>

#include <unistd.h>

#include <cstdlib>

namespace infobatch::train {

void wait_passively(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  if (setenv("OMP_WAIT_POLICY", "passive", 0) != 0) return;
  execv("/proc/self/exe", argv);  // returns only where it failed; then the threads spin
}

}  // namespace infobatch::train
