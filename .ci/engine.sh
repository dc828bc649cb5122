#!/usr/bin/env bash
# Builds the engine and its tests, without torch, and runs them:
#
#   .ci/engine.sh release|asan|tsan|arm [ctest arguments]
#
# release: -O3 -DNDEBUG, in build/engine. asan: AddressSanitizer and UndefinedBehaviorSanitizer, with
# Clang, in build/asan. tsan: ThreadSanitizer, in build/tsan. arm: cross-compiled for aarch64 and run under
# qemu, in build/arm. Warnings are errors everywhere. All but release leave out the tests with the tags
# [statistical] and [slow], which take minutes there, and [timing], which look at a clock: the native run
# has them all. Set-up: scripts/setup.sh gates, for arm scripts/setup.sh test-arm. Results also
# in build/engine-<name>.xml (JUnit); logs beside it.
set -euo pipefail
step=engine
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/environment.sh"
name=${1:-}
spec='~[statistical]~[slow]~[timing]'
emulator=
# Where the machine is one for aarch64, its own tests are these.
if [[ $name == arm && $(uname -m) == aarch64 ]]; then name=release; fi
case $name in
  release) folder=build/engine spec= ;;
  asan | tsan) folder=build/$name ;;
  arm)
    folder=build/arm
    command -v aarch64-linux-gnu-g++ >/dev/null && find_emulator && [[ -e $emulated_root/lib/ld-linux-aarch64.so.1 ]] ||
      fail "arm: needs g++-aarch64-linux-gnu and qemu-user-static (Debian's names); scripts/setup.sh test-arm installs them"
    if echo '#include <catch2/catch_all.hpp>' | c++ -x c++ -std=c++17 -E - >/dev/null 2>&1 && [[ -z ${CMAKE_PREFIX_PATH:-} ]]; then
      fail "arm: the system has Catch2 3, whose library is for this machine alone; build one for aarch64 and name it in CMAKE_PREFIX_PATH"
    fi
    ;;
  *) fail "usage: .ci/engine.sh release|asan|tsan|arm [ctest arguments]" ;;
esac
shift
log=build/engine-$name.log tests=build/engine-$name-tests.log
mkdir -p build
{
  cmake --preset "$name" -B "$folder" -DINFOBATCH_WERROR=ON -DINFOBATCH_TORCH=OFF -DINFOBATCH_EXAMPLES=OFF \
    -DINFOBATCH_BENCH=OFF -DINFOBATCH_INSTALL=OFF -DINFOBATCH_TRAIN_LINK= "-DINFOBATCH_TEST_SPEC=$spec" &&
    cmake --build "$folder" --parallel "$(parallel_jobs)"
} >"$log" 2>&1 || {
  grep -E 'error|warning|FAILED' "$log" | head -n 20 >&2 || true
  fail "$name: cannot be built, see above and $log; scripts/setup.sh gates installs what it needs"
}

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-history_size=4:halt_on_error=1:second_deadlock_stack=1}
# Projects of users are built for this machine, and anew: they say nothing here.
ctest --test-dir "$folder" --output-on-failure --no-tests=error --parallel "$(parallel_jobs)" \
  --label-exclude consumer --output-junit "$PWD/build/engine-$name.xml" "$@" >"$tests" 2>&1 || {
  sed -n '/tests passed/,$p' "$tests" >&2
  grep -aE 'FAILED:|==[0-9]+==ERROR|WARNING: ThreadSanitizer|runtime error|^SUMMARY|:[0-9]+: *$' "$tests" | head -n 20 >&2 || true
  fail "$name: tests failed, see above and $tests"
}
left_out=
if [[ -n $spec ]]; then
  count=0
  for program in "$folder"/tests/infobatch_{engine,few_threads,failure}_tests; do
    names=$(${emulator:+"$emulator" -L "$emulated_root"} "$program" --list-test-names-only '[statistical],[slow],[timing]' || true)
    count=$((count + $(grep -c . <<<"$names" || true)))
  done
  left_out=", $count with [statistical], [slow] or [timing] left to the native run"
fi
say "$name: $(sed -n 's/.*tests passed.* out of \([0-9]*\)/\1 tests passed/p' "$tests")$left_out"
