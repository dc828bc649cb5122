#!/usr/bin/env bash
# Sets up what a build needs, inside the checkout as far as possible:
#
#   scripts/setup.sh demo|test|test-trainers|bench|fuzz|wheels|test-wheels|gates|test-arm|cuda
#   scripts/setup.sh test-trainers <folder of tests/trainers>
#
# 1. compiler, CMake, Ninja and the header packages: from the system; through apt-get where that may be
#    used (root or password-less sudo); CMake and Ninja otherwise from pip.
# 2. torch: the one that Torch_DIR or CMAKE_PREFIX_PATH names; otherwise release $TORCH (default: the pin
#    in environment.sh) in a virtual environment, .venv or .venv-<release>.
#
# 3. test: what the Python tests need, beside torch (in its virtual environment, where that is ours) and in
#    .venv-numpy without one; and what wheels needs. test-trainers: the same, and .venv-trainers, which has the
#    trainers and sees the torch of .venv; with a folder .venv-<folder> in its place, as the folder's
#    requirements.txt says (tests/README.md).
#
# fuzz and gates need no torch, but Clang with its libFuzzer and its sanitizers; see .ci/fuzz.sh and
# .ci/engine.sh. test-arm needs a compiler for aarch64 and an emulator. wheels needs .venv-wheels, with a
# compiler in it; test-wheels an emulator besides.
#
# Nothing is done twice: where everything is in place this takes a few milliseconds and no network.
# PYTHON=<path> names the interpreter to use (3.10 or newer).
set -euo pipefail
step=set-up
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

goal=${1:-test}
[[ $goal =~ ^(demo|test|test-trainers|bench|fuzz|wheels|test-wheels|gates|test-arm|cuda)$ ]] ||
  fail "the goal must be demo, test, test-trainers, bench, fuzz, wheels, test-wheels, gates, test-arm or cuda, got '$goal'"
if [[ $goal == test-trainers && -n ${2:-} ]]; then use_trainer_folder "$2"; fi
[[ $(uname -s) == Linux ]] || fail "this script knows Linux only; elsewhere use CMake directly (CONTRIBUTING.md)"

# ---- Is everything in place already? -----------------------------------------------------------------

# What the answer depends on; another value asks again.
fingerprint="$PWD|${TORCH:-}|${Torch_DIR:-}|${CMAKE_PREFIX_PATH:-}|${PYTHON:-}|$(cksum < scripts/setup.sh)"

# The packages of a requirements file are in a virtual environment.
has_requirements() { # <virtual environment> <requirements file>
  [[ -f $1/.requirements && ! -e $1/.installing && $(<"$1/.requirements") == "$(requirements_of "$2")" ]]
}
# A file may include others of its folder.
requirements_of() { { cat "$1" "$(dirname "$1")"/requirements.txt 2>/dev/null || true; } | cksum; }

in_place() {
  if [[ $goal == wheels ]]; then
    has_requirements "$wheel_venv" "$wheel_requirements" &&
      command -v cmake >/dev/null && command -v ninja >/dev/null
    return
  fi
  [[ -f $state ]] || return 1
  local saved_fingerprint='' saved_goals='' torch_root=''
  . "$state"
  [[ $saved_fingerprint == "$fingerprint" && " $saved_goals " == *" $goal "* ]] || return 1
  [[ -e $torch_root/lib/libtorch_cpu.so && ! -e $venv/.installing ]] || return 1
  if [[ $goal == test-trainers ]]; then has_requirements "$trainers_venv" "$trainers_requirements" || return 1; fi
  if [[ $goal =~ ^test(-trainers)?$ ]]; then
    has_requirements "$wheel_venv" "$wheel_requirements" || return 1
    has_requirements "$numpy_venv" "$numpy_requirements" || return 1
    if torch_is_ours; then has_requirements "$venv" "$torch_requirements" || return 1; fi
  fi
  command -v cmake >/dev/null && command -v ninja >/dev/null
}
if [[ ! $goal =~ ^(fuzz|test-wheels|gates|test-arm|cuda)$ ]] && in_place; then exit 0; fi

# ---- 1. Tools ----------------------------------------------------------------------------------------

has_header() {
  local prefix prefixes
  IFS=':;' read -ra prefixes <<<"${CMAKE_PREFIX_PATH:-}"
  echo "#include <$1>" | c++ -x c++ -std=c++17 -E - >/dev/null 2>&1 && return 0
  for prefix in "${prefixes[@]}"; do
    [[ -f $prefix/include/$1 ]] && return 0
  done
  return 1
}
has_cmake() {
  local version
  version=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p')
  [[ -n $version && $(printf '3.22\n%s\n' "$version" | sort -V | head -n 1) == 3.22 ]]
}
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.1{4,3,2,1,0}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
      echo "$candidate"
      return 0
    fi
  done
  return 1
}
# Clang links a fuzzing program, with the sanitizers.
has_fuzzer() {
  mkdir -p .cache
  echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, decltype(sizeof 0)) { return 0; }' |
    clang++ -x c++ -fsanitize=fuzzer,address,undefined -o .cache/fuzzer-probe - >/dev/null 2>&1
}
has_venv() { "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; }

python=$(find_python) ||
  fail "Python 3.10 or newer is needed, found $(python3 --version 2>&1 || true); install one and name it: PYTHON=/path/to/python3 make $goal"

# Debian's names of what is missing; the second list is what this goal cannot do without.
list_missing() {
  missing=() required=()
  has_cmake || missing+=(cmake)
  command -v ninja >/dev/null || missing+=(ninja-build)
  command -v ccache >/dev/null || missing+=(ccache)
  has_venv || missing+=(python3-venv)
  if [[ $goal == test-wheels && $(uname -m) == x86_64 ]]; then
    find_emulator || missing+=(qemu-user-static)
    [[ -e $emulated_root/lib/ld-linux-aarch64.so.1 ]] || missing+=(libc6-arm64-cross)
  fi
  # These bring a compiler of their own, and its requirements with it.
  if [[ $goal =~ wheels ]]; then return 0; fi
  command -v c++ >/dev/null || { missing+=(g++) required+=(g++); }
  has_header nlohmann/json.hpp || { missing+=(nlohmann-json3-dev) required+=(nlohmann-json3-dev); }
  if ! has_header catch2/catch_all.hpp && ! has_header catch2/catch.hpp; then
    missing+=(catch2)
    [[ ! $goal =~ ^(test|gates|test-arm|cuda)$ ]] || required+=(catch2)
  fi
  # For the test of infobatch.pc.
  if [[ $goal == test ]] && ! command -v pkg-config >/dev/null && ! command -v pkgconf >/dev/null; then
    missing+=(pkg-config)
  fi
  if ! has_header benchmark/benchmark.h; then
    missing+=(libbenchmark-dev)
    [[ $goal != bench ]] || required+=(libbenchmark-dev)
  fi
  if [[ $goal == test-arm && $(uname -m) != aarch64 ]]; then
    command -v aarch64-linux-gnu-g++ >/dev/null ||
      { missing+=(g++-aarch64-linux-gnu) required+=(g++-aarch64-linux-gnu); }
    find_emulator || { missing+=(qemu-user-static) required+=(qemu-user-static); }
  fi
  if [[ $goal =~ ^(fuzz|gates)$ ]] && ! has_fuzzer; then
    missing+=(clang libclang-rt-dev)
    required+=(clang libclang-rt-dev)
  fi
}

mkdir -p .cache
list_missing
if ((${#missing[@]})) && command -v apt-get >/dev/null; then
  as_root=()
  if ((EUID != 0)); then as_root=(sudo -n); fi
  if ((EUID == 0)) || sudo -n true 2>/dev/null; then
    say "system packages: apt-get installs ${missing[*]} (about a minute; log in .cache/apt.log)"
    if ! { "${as_root[@]}" apt-get update &&
           "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
             apt-get install -y --no-install-recommends "${missing[@]}"; } >.cache/apt.log 2>&1 </dev/null
    then
      tail -n 5 .cache/apt.log >&2
      say "apt-get did not succeed (its last lines are above); going on with what is there"
    fi
    hash -r
    list_missing
  fi
fi
if ((${#required[@]})); then
  fail "please install ${required[*]} and run again (Debian, Ubuntu: sudo apt-get install ${missing[*]})"
fi

require_venv() {
  if [[ -e $venv/.installing ]]; then
    say "$venv: the last installation was interrupted, starting over (finished downloads are kept by pip)"
    rm -rf "$venv"
  fi
  "$venv/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && return 0
  has_venv ||
    fail "$python has no venv module; please install it and run again (Debian, Ubuntu: sudo apt-get install python3-venv)"
  say "$venv: new virtual environment with $("$python" --version)"
  rm -rf "$venv"
  "$python" -m venv "$venv" || { rm -rf "$venv"; fail "'$python -m venv $venv' failed, see above"; }
}
pip_install() {
  touch "$venv/.installing"
  "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar on "$@" ||
    fail "pip could not install $* (see above): check the network, the free disk space and that this release exists for $("$venv/bin/python" --version), then run again"
  rm -f "$venv/.installing"
}

# cmake and ninja from pip, where the system has none of the right age.
pip_tools=()
has_cmake || pip_tools+=("cmake>=3.25,<4")
command -v ninja >/dev/null || pip_tools+=(ninja)
if ((${#pip_tools[@]})); then
  require_venv
  say "$venv: pip installs ${pip_tools[*]}"
  pip_install "${pip_tools[@]}"
  mkdir -p "$tools"
  for tool in cmake ctest ninja; do
    if [[ -e $venv/bin/$tool ]]; then ln -sf "$PWD/$venv/bin/$tool" "$tools/$tool"; fi
  done
  hash -r
  say "cmake and ninja are in $tools; for use without make: export PATH=\"\$PWD/$tools:\$PATH\""
fi

if [[ $goal =~ ^(fuzz|gates|test-arm|cuda)$ ]]; then exit 0; fi

# The packages of a requirements file, in a virtual environment.
install_requirements() { # <virtual environment> <requirements file> [arguments of pip]
  local venv=$1 file=$2
  if has_requirements "$venv" "$file"; then return 0; fi
  require_venv
  say "$venv: pip installs the packages of $file"
  pip_install --quiet "${@:3}" -r "$file"
  requirements_of "$file" >"$venv/.requirements"
}
if [[ $goal =~ ^(test|test-trainers|wheels|test-wheels)$ ]]; then install_requirements "$wheel_venv" "$wheel_requirements"; fi
if [[ $goal =~ wheels ]]; then exit 0; fi

# ---- 2. torch ----------------------------------------------------------------------------------------

torch_root=
read -r found_version found_root < <(cmake -P cmake/PrintTorch.cmake) || true
if [[ -n ${found_root:-} ]]; then
  if [[ -z ${TORCH:-} || $found_version == "$TORCH" ]]; then
    torch_root=$found_root
    say "torch $found_version: using the one in $found_root"
  else
    say "torch $found_version in $found_root is not the $TORCH that was asked for"
  fi
fi

installed_torch() {
  "$venv/bin/python" -c '
import os, sys, torch
ok = torch.__version__.split("+")[0] == sys.argv[1]
print(os.path.dirname(torch.__file__) if ok else "")' "$torch_version" 2>/dev/null
}
if [[ -z $torch_root ]]; then
  require_venv
  torch_root=$(installed_torch || true)
  if [[ -z $torch_root ]]; then
    free=$(df -Pk . | awk 'NR == 2 {print int($4 / 1048576)}')
    ((free >= 8)) || say "only $free GB are free here; a torch with CUDA takes 5 GB and pip's cache 3 GB more"
    say "torch $torch_version: pip installs it into $venv (up to 5 GB; a minute on a fast line)"
    pip_install "torch==$torch_version"
    torch_root=$(installed_torch || true)
    if [[ -z $torch_root ]]; then
      # Files of another or a damaged installation are in the way.
      say "torch $torch_version: installed but cannot be imported, installing it again"
      pip_install --force-reinstall "torch==$torch_version"
      torch_root=$(installed_torch) || true
    fi
    [[ -n $torch_root ]] ||
      fail "torch $torch_version cannot be imported; the reason: $("$venv/bin/python" -c 'import torch' 2>&1 | tail -n 1)"
  fi
  say "torch $torch_version: in $venv"
fi

# ---- 3. Python tests ---------------------------------------------------------------------------------

if [[ $goal =~ ^test(-trainers)?$ ]]; then
  install_requirements "$numpy_venv" "$numpy_requirements"
  if torch_is_ours; then
    install_requirements "$venv" "$torch_requirements"
  else
    say "torch is yours and stays as it is: the Python tests run with NumPy alone, in $numpy_venv"
  fi
fi

# What a requirements file asks for beside packages, in lines "# set-up: <word> <what>".
asked_for() { sed -n "s/^# set-up: $1 *//p" "$trainers_requirements"; } # <word>

# What is installed beside a torch of 5 GB finds it by a path file; pip does, too.
if [[ $goal == test-trainers ]] && ! has_requirements "$trainers_venv" "$trainers_requirements"; then
  torch_is_ours || fail "the trainers are tried beside set-up's own torch; torch in $torch_root is yours"
  rm -rf "$trainers_venv"
  "$venv/bin/python" -m venv "$trainers_venv"
  if [[ $(asked_for torch) == own ]]; then
    say "$trainers_venv: brings a torch of its own (up to 6 GB)"
  else
    (cd "$venv"/lib/python3.*/site-packages && pwd) >"$(echo "$trainers_venv"/lib/python3.*/site-packages)/torch.pth"
  fi
  (
    read -ra pip_arguments <<<"$(asked_for pip)"
    mapfile -t variables < <(asked_for variable)
    for variable in "${variables[@]}"; do export "${variable?}"; done
    install_requirements "$trainers_venv" "$trainers_requirements" "${pip_arguments[@]}"
  )
fi

# ---- Remember ----------------------------------------------------------------------------------------

saved_goals=
if [[ -f $state ]]; then
  previous=$( . "$state"; [[ ${saved_fingerprint:-} != "$fingerprint" ]] || echo "${saved_goals:-}")
  saved_goals=$previous
fi
{
  printf 'saved_fingerprint=%q\n' "$fingerprint"
  printf 'saved_goals=%q\n' "$saved_goals $goal"
  printf 'torch_root=%q\n' "$torch_root"
} >"$state.new"
mv "$state.new" "$state"
say "done"
