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
# What builds the wheels (python_bindings_optional/requirements-wheels.txt).
wheel_venv=.venv-wheels
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
