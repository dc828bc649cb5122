#!/usr/bin/env bash
# What has to be seen on a GPU, in three parts of at most ten minutes; results as JSON and logs in a folder.
#
#   scripts/gpu_check.sh check|bench|train [--dry-run] [folder]      default folder: build/gpu
#
# check: builds the kernels with nvcc, runs every case of tests/cuda on the device, and those of the steps and of a
#        plan under compute-sanitizer (memcheck, racecheck, initcheck, synccheck).
# bench: bench/cuda_bench, and bench/cuda_step.py beside it.
# train: ResNet-18 on CIFAR-10 in bfloat16, 16 epochs, four arms. DATA=<folder of the official binary files>.
# --dry-run: without a GPU, as far as it goes: the emulation in the device's place, small sizes, the CPU for torch.
# Needs nvcc, cmake, ninja, Catch2 and nlohmann_json; bench and train a Python with torch (PYTHON=<path>; otherwise that
# of set-up, where there is one), bench also the package (PYTHONPATH=python_bindings_optional and INFOBATCH_LIBRARY, or
# an installed wheel).
set -euo pipefail
step=gpu
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
export PATH="$PATH:/usr/local/cuda/bin"
part=${1:-}
[[ $part =~ ^(check|bench|train)$ ]] || fail "the part must be check, bench or train, got '$part'"
shift
dry=
if [[ ${1:-} == --dry-run ]]; then
  dry=1
  shift
fi
out=${1:-build/gpu}
mkdir -p "$out"
python=${PYTHON:-python3}
if [[ -z ${PYTHON:-} && -x $venv/bin/python ]]; then python=$venv/bin/python; fi
programs=build/cuda/tests/cuda
suffix=device

# Machine, driver and commit stand beside every figure.
{
  printf 'commit: %s\n' "$(git rev-parse HEAD 2>/dev/null || echo unknown)"
  nvcc --version | tail -n 1
  nvidia-smi --query-gpu=name,driver_version,clocks.max.sm --format=csv,noheader 2>/dev/null || echo 'no GPU'
} >"$out/machine.txt"

build() {
  if [[ -n $dry ]]; then
    programs=build/gpu-dry/tests/cuda suffix=emulated
    cmake -S . -B build/gpu-dry -G Ninja -DCMAKE_BUILD_TYPE=Release -DINFOBATCH_TORCH=OFF -DINFOBATCH_EXAMPLES=OFF >"$out/configure.log"
    cmake --build build/gpu-dry --target infobatch_cuda_tests infobatch_cuda_bench_emulated >"$out/build.log"
  else
    cmake --preset cuda >"$out/configure.log"
    cmake --build --preset cuda --parallel "$(parallel_jobs)" >"$out/build.log" 2>&1
    scripts/check_ptxas.py "$out/build.log" --json "$out/kernels.json" | tail -n 1
  fi
}
# <name> <command ...>: a log, its seconds, and whether it passed.
run() {
  local name=$1 began=$SECONDS verdict=passed
  shift
  "$@" >"$out/$name.log" 2>&1 || verdict="FAILED ($?)"
  say "$name: $verdict, $((SECONDS - began)) s"
  printf '{"name": "%s", "verdict": "%s", "seconds": %d}\n' "$name" "$verdict" $((SECONDS - began)) >>"$out/$part.jsonl"
  [[ $verdict == passed ]] || failed=1
}
failed=
rm -f "$out/$part.jsonl"

case $part in
  check)
    build
    cases=$programs/infobatch_cuda_device_tests
    if [[ -n $dry ]]; then cases=$programs/infobatch_cuda_tests; fi
    run cases env ${dry:+INFOBATCH_CUDA_BRIEF=1} "$cases"
    run two-levels "$cases" '[true_size]'
    for tool in memcheck racecheck initcheck synccheck; do
      if command -v compute-sanitizer >/dev/null && [[ -z $dry ]]; then
        run "$tool" env INFOBATCH_CUDA_BRIEF=1 compute-sanitizer --tool "$tool" --error-exitcode 1 "$cases" '~[slow]'
      else
        say "$tool: not run, $([[ -n $dry ]] && echo 'dry run' || echo 'no compute-sanitizer')"
      fi
    done
    if command -v nsys >/dev/null && [[ -z $dry ]]; then
      # Waits of a step: none. The trace lists every call of the runtime.
      run profile nsys profile --stats=true --force-overwrite=true -o "$out/step" "$cases" 'cuda: a captured step*'
    fi
    ;;
  bench)
    build
    bench=build/cuda/bench/infobatch_cuda_bench sizes=50000,1280000,14000000,100000000,1000000000 device=cuda
    if [[ -n $dry ]]; then bench=build/gpu-dry/bench/infobatch_cuda_bench_emulated sizes=5000 device=cpu; fi
    run bench bash -c "'$bench' --samples $sizes ${dry:+--repeats 1} | tee '$out/bench-$suffix.json'"
    run step "$python" bench/cuda_step.py --device "$device" --json "$out/step-$suffix.json"
    ;;
  train)
    data=${DATA:+cifar10:$DATA}
    root=$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__))')
    cmake --preset release -B build/gpu-train -DINFOBATCH_TORCH=ON "-DINFOBATCH_TORCH_ROOT=$root" -DINFOBATCH_TESTS=OFF \
      -DINFOBATCH_BENCH=OFF -DINFOBATCH_TRAIN_LINK= >"$out/configure-train.log"
    cmake --build build/gpu-train --parallel "$(parallel_jobs)" --target infobatch-train >"$out/build-train.log" 2>&1
    arguments=(--arms full,full-short,random,infobatch --model resnet18 --dtype bf16 --epochs 16 --batch-size 128 --device cuda --interleave)
    if [[ -n $dry ]]; then
      arguments=(--arms full,infobatch --model small-cnn --epochs 3 --samples 512 --device cpu --interleave)
    fi
    run train build/gpu-train/examples/infobatch-train ${data:+--data "$data"} "${arguments[@]}" --json "$out/train-$suffix.json"
    ;;
esac
[[ -z $failed ]] || fail "something failed, see $out"
say "results in $out"
