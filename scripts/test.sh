#!/usr/bin/env bash
# Runs every test of the release build; results also in build/test-results.xml (JUnit).
#
#   scripts/test.sh [ctest arguments]
set -euo pipefail
step=test
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec ctest --test-dir "$build_folder" --output-on-failure --no-tests=error \
  --parallel "$(parallel_jobs)" --output-junit "$PWD/build/test-results.xml" "$@"
