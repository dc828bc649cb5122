#!/usr/bin/env bash
# Runs the Python tests (tests/python) on the wheel of this machine, beside torch and with NumPy alone:
#
#   scripts/test_python.sh [pytest arguments]
#
# OFFICIAL=<folder> names a checkout of the official package, for the tests that compare with it. Results
# also in build/python-test-results-<torch|numpy>.xml (JUnit).
set -euo pipefail
step=test
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
[[ -f $state ]] || fail "run scripts/setup.sh first (make test does)"
torch_root=
. "$state"
. scripts/install_wheel.sh

# What exchanges states with the package, where the C++ tests are built.
programs=()
if [[ -x $build_folder/tests/infobatch_python_exchange ]]; then programs=(--programs "$build_folder/tests"); fi

run() { # <virtual environment> <name of the results> [pytest arguments]
  local folder=$1 name=$2
  install_wheel "$folder"
  say "Python tests in $folder, $(basename "$wheel")"
  # Much of their time is waiting for processes to start, and for ranks that are lost: more of them than cores.
  "$folder/bin/python" -m pytest -q -n 3 --dist loadgroup --no-loadscope-reorder \
    --junitxml="build/python-test-results-$name.xml" ${OFFICIAL:+--official "$OFFICIAL"} \
    "${programs[@]}" "${@:3}" tests/python || return 1
  if (($# == 2)); then scripts/test_wheels.py --tried "$folder/bin/python" "build/python-test-results-$name.xml"; fi
}
status=0
run "$numpy_venv" numpy "$@" || status=1
if torch_is_ours; then
  run "$venv" torch "$@" || status=1
else
  say "torch in $torch_root is not set-up's: no Python tests beside it"
fi
exit "$status"
