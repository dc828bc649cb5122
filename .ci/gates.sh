#!/usr/bin/env bash
# What the engine has to pass beside its tests; each is a script of its own:
#
#   .ci/gates.sh [release|headers|exports|samplers|kernels|asan|tsan|tidy|arm ...]      default: all but samplers
#
# release: its tests with -O3 -DNDEBUG, warnings errors (.ci/engine.sh release); headers: each one that is
# installed compiles alone (.ci/headers.sh); exports: the libraries' symbols are those listed
# (.ci/exports.py); samplers: those headers of the libtorch binding, behind `make test` (.ci/headers.sh
# samplers); kernels: those of CUDA with ThreadSanitizer (.ci/kernels.sh); asan, tsan: sanitizers
# (.ci/engine.sh); tidy: clang-tidy (.ci/tidy.sh); arm: aarch64 under qemu (.ci/engine.sh arm). Prints a
# line for each, "gate: tidy: passed, 12 s", and fails where one did.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
gates=("$@")
((${#gates[@]})) || gates=(release headers exports kernels asan tsan tidy arm)

run() {
  case $1 in
    release | asan | tsan) scripts/setup.sh gates && .ci/engine.sh "$1" ;;
    arm) scripts/setup.sh test-arm && .ci/engine.sh arm ;;
    headers | kernels | tidy) scripts/setup.sh gates && ".ci/$1.sh" ;;
    exports) .ci/exports.py ;;
    samplers) .ci/headers.sh samplers ;;
    *)
      echo "gates: the gates are release, headers, exports, samplers, kernels, asan, tsan, tidy and arm, got '$1'" >&2
      return 2
      ;;
  esac
}
failed=0
for gate in "${gates[@]}"; do
  began=$SECONDS verdict=passed
  run "$gate" || { verdict=FAILED failed=$((failed + 1)); }
  echo "gate: $gate: $verdict, $((SECONDS - began)) s"
done
((failed == 0))
