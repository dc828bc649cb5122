#!/usr/bin/env bash
# Runs the tests inside trainers (tests/trainers) on the wheel of this machine:
#
#   scripts/test_trainers.sh [pytest arguments]
#
# Results also in build/python-test-results-trainers.xml (JUnit).
set -euo pipefail
step=test-trainers
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
. scripts/install_wheel.sh
install_wheel "$trainers_venv"
say "tests in $trainers_venv, $(basename "$wheel")"
exec "$trainers_venv/bin/python" -m pytest -q -n 2 --dist loadgroup --no-loadscope-reorder \
  --junitxml="build/python-test-results-trainers.xml" "$@" tests/trainers
