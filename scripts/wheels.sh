#!/usr/bin/env bash
# Builds the Python wheels into build/wheels, with the C++ compiler of the ziglang package for glibc 2.17:
#
#   scripts/wheels.sh [x86_64|aarch64|cuda ...]      default: the first two
#
# cuda: infobatch-cuda, with the library that scripts/cuda.sh has built, for the glibc that this one needs.
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

# A compiler for CMake and ccache is one program without arguments. At one level of optimisation, in checks, too:
# ziglang makes a C++ library for each that something is linked with, two minutes of one core.
compiler() {
  local file=$1 language=$2 target=$3 text
  text=$(printf '#!/bin/sh\n# ziglang %s\nexec "%s" %s -target %s -O3 "$@"\n' "$("$zig" version)" "$zig" "$language" "$target")
  [[ -x $file && $(<"$file") == "$text" ]] && return 0
  mkdir -p "$(dirname "$file")"
  printf '%s\n' "$text" >"$file"
  chmod +x "$file"
}

# The wheel in a folder, checked; it takes the place of others of its kind.
take_wheel() { # <folder> <pattern of its kind>
  local wheel
  wheel=$(basename "$1"/*.whl)
  "$python" scripts/check_wheel.py "$1/$wheel" || fail "$wheel is not what it has to be, see above"
  # Wheels of other versions must not be taken for this one's.
  find build/wheels -name "$2" ! -name "$wheel" -delete
  cmp -s "$1/$wheel" "build/wheels/$wheel" || mv "$1/$wheel" "build/wheels/$wheel"
}

cuda_wheel() {
  local library=$PWD/build/cuda/cuda_kernels/libinfobatch_cuda.so folder=$PWD/build/wheel-cuda tag
  [[ -e $library ]] || fail "cuda: run scripts/cuda.sh first (make cuda-wheel does)"
  tag=$(objdump -T "$library" | grep -oE 'GLIBC_2\.[0-9]+' | sort -Vu | tail -n 1)
  tag=manylinux_${tag#GLIBC_}
  tag=${tag/./_}_$(uname -m)
  rm -rf "$folder/out"
  "$python" -m build --wheel --no-isolation --outdir "$folder/out" -C "build-dir=$folder" \
    -C "wheel.tags=py3-none-$tag" -C "cmake.define.INFOBATCH_CUDA_LIBRARY=$library" \
    python_bindings_optional/infobatch_cuda >build/wheel-cuda.log 2>&1 ||
    { tail -n 40 build/wheel-cuda.log >&2; fail "cuda: the wheel cannot be built, see above"; }
  take_wheel "$folder/out" 'infobatch_cuda-*.whl'
  # The package of this machine finds it, and says what is missing where there is no GPU.
  rm -rf "$folder/tried"
  for wheel in build/wheels/infobatch_cuda-*.whl build/wheels/infobatch-*_"$(uname -m)".whl; do
    "$python" -m zipfile -e "$wheel" "$folder/tried"
  done
  PYTHONPATH=$folder/tried "$python" - <<'EOF' || fail "cuda: the package does not find its library, see above"
import infobatch

_, cuda = infobatch.devices()
assert bool(cuda.backend) != bool(cuda.reason), cuda
print(f"wheels: infobatch.devices(): {cuda.type}, {cuda.backend or cuda.reason}")
EOF
}

mkdir -p build/wheels
for processor in "${processors[@]}"; do
  if [[ $processor == cuda ]]; then cuda_wheel; continue; fi
  [[ $processor =~ ^(x86_64|aarch64)$ ]] ||
    fail "wheels are for x86_64, aarch64 and cuda, got '$processor'; elsewhere pip builds from source: pip install ."
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
  take_wheel "$folder/out" "infobatch-*_$processor.whl"
done
