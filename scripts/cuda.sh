#!/usr/bin/env bash
# Compiles the kernels with nvcc, warnings as errors, and checks what ptxas says of each; no GPU is needed.
# Where there is one, every case of tests/cuda runs on it.
set -euo pipefail
step=cuda
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
export PATH="$PATH:/usr/local/cuda/bin"
command -v nvcc >/dev/null || fail "no nvcc: install the CUDA toolkit 12.4 or newer, or put its bin folder on PATH"

log=build/cuda-ptxas.log
mkdir -p build
say "compiling with $(nvcc --version | grep -o 'release [0-9.]*') in build/cuda"
cmake --preset cuda --log-level=WARNING >build/cuda-configure.log 2>&1 ||
  { cat build/cuda-configure.log >&2; fail "cmake could not configure build/cuda, see above"; }
if [[ ! -f build/cuda/cuda_kernels/libinfobatch_cuda.so ]]; then rm -f "$log"; fi
# ptxas speaks when it compiles, so the log of earlier builds is kept.
cmake --build --preset cuda --parallel "$(parallel_jobs)" >build/cuda-build.log 2>&1 ||
  { grep -vE '^ptxas info|^[0-9]+ bytes|bytes stack frame|Used [0-9]+ registers' build/cuda-build.log >&2; fail "compilation failed, see above"; }
cat build/cuda-build.log >>"$log"
scripts/check_ptxas.py "$log" --json build/cuda-kernels.json | tail -n 1
bytes=$(stat -Lc %s build/cuda/cuda_kernels/libinfobatch_cuda.so)
say "libinfobatch_cuda.so: $bytes bytes"
((bytes < 30000000)) || fail "libinfobatch_cuda.so must be below 30 MB"
# It carries what it needs of the runtime and of the engine, and shows its one function.
undeclared=$(nm -D --defined-only build/cuda/cuda_kernels/libinfobatch_cuda.so | awk '{print $3}' | grep -vx infobatch_backend || true)
[[ -z $undeclared ]] || fail "libinfobatch_cuda.so must export infobatch_backend alone, got also: $undeclared"
needed=$(readelf -d build/cuda/cuda_kernels/libinfobatch_cuda.so | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
  grep -vE '^(lib(stdc\+\+|gcc_s|m|c|dl|rt|pthread)|ld-linux.*)\.so' || true)
[[ -z $needed ]] || fail "libinfobatch_cuda.so must need no library of CUDA or torch, got: $needed"
# One build of both bindings of a device: the binding to a torch with CUDA, where set-up has installed one.
torch_root=
if [[ -f $state ]]; then . "$state"; fi
if [[ -e $torch_root/lib/libtorch_cuda.so ]]; then
  log=build/cuda-torch.log
  step_of_torch=samplers/CMakeFiles/infobatch_samplers.dir/detail/fused_step.cpp.o
  { cmake --preset cuda -B build/cuda-torch --log-level=WARNING -DINFOBATCH_TORCH=ON "-DINFOBATCH_TORCH_ROOT=$torch_root" \
      -DINFOBATCH_TESTS=OFF -DINFOBATCH_BENCH=OFF -DINFOBATCH_PCH=OFF &&
    cmake --build build/cuda-torch --target "$step_of_torch" cuda_kernels/CMakeFiles/infobatch_cuda_objects.dir/device.cu.o; } >"$log" 2>&1 ||
    { grep -vE '^ptxas info|bytes stack frame|Used [0-9]+ registers' "$log" >&2; fail "torch's CUDA build and nvcc do not go together, see above"; }
  say "with torch's CUDA build: configured, and compiled where both meet"
fi
status=0
build/cuda/tests/cuda/infobatch_cuda_device_tests || status=$?
((status == 77 || status == 0)) || fail "a case failed on the device"
