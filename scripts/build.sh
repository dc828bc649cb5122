#!/usr/bin/env bash
# Configures and builds the release preset with the torch that set-up left:
#
#   scripts/build.sh [target ...]      default: everything
#
# WERROR=ON makes warnings errors, until WERROR=OFF or `make clean`.
set -euo pipefail
step=build
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
[[ -f $state ]] || fail "run scripts/setup.sh first (make demo, make test and make bench do)"
torch_root=
. "$state"

if [[ ! -f $build_folder/build.ninja ]]; then
  say "configuring $build_folder with torch in $torch_root"
fi
configure=(cmake --preset release -B "$build_folder" --log-level=WARNING
  -DINFOBATCH_TORCH=ON "-DINFOBATCH_TORCH_ROOT=$torch_root"
  ${WERROR:+"-DINFOBATCH_WERROR=$WERROR"}
  -DINFOBATCH_TESTS="$([[ " $saved_goals " == *" test "* ]] && echo ON || echo OFF)")
mkdir -p build
"${configure[@]}" >build/configure.log 2>&1 || { cat build/configure.log >&2; fail "cmake could not configure $build_folder, see above"; }
targets=()
if (($#)); then targets=(--target "$@"); fi
say "compiling in $build_folder (the first time takes some minutes)"
cmake --build "$build_folder" --parallel "$(parallel_jobs)" "${targets[@]}" ||
  fail "compilation failed, see above"
