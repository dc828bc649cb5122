#!/usr/bin/env bash
# The kernels of cuda_kernels/ under emulation with ThreadSanitizer: threads of a block, blocks, launches and the
# host are ordered by barriers, warp operations and streams alone, so it sees what is not ordered whichever way
# it ran. With Clang, whose fibers are thirty times as fast as GCC's. Set-up: scripts/setup.sh gates.
set -euo pipefail
step=kernels
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/environment.sh"
log=build/kernels.log
mkdir -p build
{
  cmake --preset tsan -B build/kernels -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DINFOBATCH_WERROR=ON \
    -DINFOBATCH_TORCH=OFF -DINFOBATCH_EXAMPLES=OFF -DINFOBATCH_INSTALL=OFF -DINFOBATCH_TRAIN_LINK= &&
    cmake --build build/kernels --parallel "$(parallel_jobs)" --target infobatch_cuda_tests
} >"$log" 2>&1 || {
  grep -E 'error|warning|FAILED' "$log" | head -n 20 >&2 || true
  fail "cannot be built, see above and $log; scripts/setup.sh gates installs what it needs"
}
export TSAN_OPTIONS=${TSAN_OPTIONS:-history_size=4:halt_on_error=1:second_deadlock_stack=1}
# Whole runs say no more than their kernels do, and take minutes.
INFOBATCH_CUDA_BRIEF=1 timeout 1800 build/kernels/tests/cuda/infobatch_cuda_tests '[cuda]~[backend]~[slow]' >build/kernels-tests.log 2>&1 || {
  grep -aE 'FAILED:|WARNING: ThreadSanitizer|^SUMMARY|:[0-9]+: *$' build/kernels-tests.log | head -n 20 >&2 || true
  fail "tests failed, or took longer than half an hour, see above and build/kernels-tests.log"
}
say "$(grep -a 'passed' build/kernels-tests.log | tail -n 1)"
