#!/usr/bin/env bash
# Runs the tests inside trainers (tests/trainers) on the wheel of this machine:
#
#   scripts/test_trainers.sh [pytest arguments]             Lightning, Transformers, Accelerate
#   scripts/test_trainers.sh <folder> [pytest arguments]    those of tests/trainers/<folder>
#   scripts/test_trainers.sh all [pytest arguments]         the first, then each folder in turn
#
# A folder has an environment of its own, .venv-<folder>, which is set up here (tests/README.md). Results also
# in build/python-test-results-<trainers or folder>.xml (JUnit).
set -euo pipefail
step=test-trainers
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
. scripts/install_wheel.sh

run() { # <name of the results> [arguments of pytest]: tests in trainers_venv
  local name=$1
  shift
  install_wheel "$trainers_venv"
  say "tests in $trainers_venv, $(basename "$wheel")"
  "$trainers_venv/bin/python" -m pytest -q --junitxml="build/python-test-results-$name.xml" "$@"
}
run_beside() { run trainers -n 2 --dist loadgroup --no-loadscope-reorder "$@" tests/trainers/test_*.py; }
run_folder() { # <folder> [arguments of pytest]: on its own, one test at a time
  use_trainer_folder "$1"
  scripts/setup.sh test-trainers "$1" && run "$@" "tests/trainers/$1"
}
if [[ ${1:-} != all ]]; then
  if [[ -n ${1:-} && $1 != -* ]]; then run_folder "$@"; else run_beside "$@"; fi
  exit
fi

shift
status=0 lines=()
timed() { # <name> <command ...>: runs it, and notes verdict and time
  local name=$1 began=$SECONDS verdict=passed
  shift
  ("$@") || { verdict=FAILED status=1; }
  lines+=("$name: $verdict, $((SECONDS - began)) s")
}
timed trainers run_beside "$@"
for folder in $(trainer_folders); do timed "$folder" run_folder "$folder" "$@"; done
for line in "${lines[@]}"; do say "$line"; done
exit "$status"
