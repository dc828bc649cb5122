# Sourced by the other scripts: where things are, and how to speak. Changes into the checkout's root.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pinned_torch=2.11.0
torch_version=${TORCH:-$pinned_torch}
if [[ ! $torch_version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]]; then
  echo "set-up: TORCH must be a release such as $pinned_torch, got '$torch_version'" >&2
  exit 2
fi
if [[ $torch_version == "$pinned_torch" ]]; then
  venv=.venv
  build_folder=build/release
else
  venv=.venv-$torch_version
  build_folder=build/release-torch-$torch_version
fi
# What set-up found or installed, as shell variables.
state=.cache/setup-$torch_version.sh
# cmake and ninja of the virtual environment, where the system has none.
tools=.cache/bin
# What builds the wheels, and what the Python tests need: virtual environments and their packages.
wheel_venv=.venv-wheels
wheel_requirements=python_bindings_optional/requirements-wheels.txt
numpy_venv=.venv-numpy
numpy_requirements=tests/python/requirements.txt
torch_requirements=tests/python/requirements-torch.txt
trainers_venv=.venv-trainers
trainers_requirements=tests/python/requirements-trainers.txt
# Trainers that do not go with those, nor with each other: a folder each (tests/README.md), by its name.
trainer_folders() { # their names, in order
  local file
  for file in tests/trainers/*/requirements.txt; do
    [[ ! -f $file ]] || basename "$(dirname "$file")"
  done
}
use_trainer_folder() { # <name>: the two above are those of the folder
  trainers_venv=.venv-$1
  trainers_requirements=tests/trainers/$1/requirements.txt
  [[ $1 =~ ^[a-z][a-z0-9_]*$ && -f $trainers_requirements ]] ||
    fail "a folder of trainers must be one of $(trainer_folders | paste -s -d ' '), got '$1'"
}
# Set-up installed torch itself, so that the Python tests may run beside it.
torch_is_ours() { [[ $torch_root == "$PWD/$venv"/* || $torch_root == "$(pwd -P)/$venv"/* ]]; }
# Where Debian's libc6-arm64-cross puts what a program for aarch64 needs, and what runs such a program.
emulated_root=/usr/aarch64-linux-gnu
find_emulator() {
  local name
  for name in qemu-aarch64-static qemu-aarch64; do
    if emulator=$(command -v "$name"); then return 0; fi
  done
  return 1
}
export PATH="$PWD/$tools:$PATH"

say() { printf '%s: %s\n' "$step" "$*"; }
fail() {
  printf '%s: %s\n' "$step" "$*" >&2
  exit 1
}

# Jobs that cores and memory allow, at 2 GB each; a container's own memory limit counts.
parallel_jobs() {
  local cores memory limit
  cores=$(nproc 2>/dev/null || echo 1)
  memory=$(awk '/^MemAvailable/ {print int($2 / 2097152)}' /proc/meminfo 2>/dev/null || echo 1)
  limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || true)
  if [[ $limit =~ ^[0-9]{1,18}$ ]] && ((limit / 2147483648 < memory)); then
    memory=$((limit / 2147483648))
  fi
  ((memory >= 1)) || memory=1
  echo $((cores < memory ? cores : memory))
}
