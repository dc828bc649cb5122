#!/usr/bin/env bash
# Builds the Python wheels into build/wheels, with the C++ compiler of the ziglang package for glibc 2.17:
#
#   scripts/wheels.sh [x86_64|aarch64 ...]      default: both
#
# Set-up: scripts/setup.sh wheels. Where nothing changed a wheel is made anew within seconds, and is the
# same file to the byte. Logs: build/wheel-<processor>.log.
set -euo pipefail
step=wheels
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
python=$PWD/$wheel_venv/bin/python
[[ -x $python ]] || fail "run scripts/setup.sh wheels first (make wheels and make test do)"
processors=("$@")
((${#processors[@]})) || processors=(x86_64 aarch64)

zig=$("$python" -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))')
export ZIG_GLOBAL_CACHE_DIR=$PWD/.cache/zig ZIG_LOCAL_CACHE_DIR=$PWD/.cache/zig
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(parallel_jobs)}
# ccache tells compilers apart by what stands in the script that calls them.
export CCACHE_COMPILERCHECK=content CCACHE_COMPILERTYPE=clang CCACHE_BASEDIR=$PWD

# A compiler for CMake and ccache is one program without arguments.
compiler() {
  local file=$1 language=$2 target=$3 text
  text=$(printf '#!/bin/sh\n# ziglang %s\nexec "%s" %s -target %s "$@"\n' "$("$zig" version)" "$zig" "$language" "$target")
  [[ -x $file && $(<"$file") == "$text" ]] && return 0
  mkdir -p "$(dirname "$file")"
  printf '%s\n' "$text" >"$file"
  chmod +x "$file"
}

mkdir -p build/wheels
for processor in "${processors[@]}"; do
  [[ $processor =~ ^(x86_64|aarch64)$ ]] ||
    fail "wheels are for x86_64 and aarch64, got '$processor'; elsewhere pip builds from source: pip install ."
  folder=$PWD/build/wheel-$processor
  target=$processor-linux-gnu.2.17
  compiler "$folder/zig/cc" cc "$target"
  compiler "$folder/zig/c++" c++ "$target"
  [[ -f $folder/build.ninja ]] || say "$processor: compiling (about 2.5 minutes of one core)"
  rm -rf "$folder/out"
  "$python" -m build --wheel --no-isolation --outdir "$folder/out" \
    -C "build-dir=$folder" -C "wheel.tags=py3-none-manylinux_2_17_$processor" -C "wheel.tags=py3-none-manylinux2014_$processor" \
    -C "cmake.define.CMAKE_SYSTEM_NAME=Linux" -C "cmake.define.CMAKE_SYSTEM_PROCESSOR=$processor" \
    -C "cmake.define.CMAKE_C_COMPILER=$folder/zig/cc" -C "cmake.define.CMAKE_CXX_COMPILER=$folder/zig/c++" \
    . >"build/wheel-$processor.log" 2>&1 ||
    { tail -n 40 "build/wheel-$processor.log" >&2; fail "$processor: the wheel cannot be built, see above"; }
  wheel=$(basename "$folder"/out/*.whl)
  "$python" scripts/check_wheel.py "$folder/out/$wheel" || fail "$processor: $wheel is not what it has to be, see above"
  # Wheels of other versions must not be taken for this one's.
  find build/wheels -name "*_$processor.whl" ! -name "$wheel" -delete
  cmp -s "$folder/out/$wheel" "build/wheels/$wheel" || mv "$folder/out/$wheel" "build/wheels/$wheel"
done
