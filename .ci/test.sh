#!/usr/bin/env bash
# Configures, builds and tests one preset: .ci/test.sh dev|asan|tsan|cuda|release [ctest arguments].
# Needs what set-up installs (scripts/setup.sh test, or your own torch by Torch_DIR or CMAKE_PREFIX_PATH).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=${1:?usage: .ci/test.sh dev|asan|tsan|cuda|release [ctest arguments]}
shift
cmake --preset "$preset"
cmake --build --preset "$preset"
ctest --preset "$preset" --no-tests=error "$@"
