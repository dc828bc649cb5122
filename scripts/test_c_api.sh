#!/usr/bin/env bash
# Runs the engine's C test (tests/c_api) on the libraries that the wheels carry:
#
#   scripts/test_c_api.sh x86_64|aarch64
#
# One for another processor runs under qemu; exit status 77 where there is none. Set-up:
# scripts/setup.sh test-wheels.
set -euo pipefail
step=test
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
processor=${1:?usage: scripts/test_c_api.sh x86_64|aarch64}
folder=$PWD/build/wheel-$processor/c_api
mapfile -t wheels < <(ls build/wheels/infobatch-*_"$processor".whl 2>/dev/null)
((${#wheels[@]} == 1)) || fail "build/wheels holds ${#wheels[@]} wheels for $processor; scripts/wheels.sh makes the one"

run=() how=
if [[ $processor != "$(uname -m)" ]]; then
  if [[ $processor != aarch64 || ! -e $emulated_root/lib/ld-linux-aarch64.so.1 ]] || ! find_emulator; then
    say "$processor: not run, this machine has no emulator for it (Debian: qemu-user-static and libc6-arm64-cross)"
    exit 77
  fi
  run=("$emulator" -L "$emulated_root")
  how=" under $(basename "$emulator")"
fi
rm -rf "$folder"
mkdir -p "$folder"
"$wheel_venv/bin/python" -m zipfile -e "${wheels[0]}" "$folder"
export ZIG_GLOBAL_CACHE_DIR=$PWD/.cache/zig ZIG_LOCAL_CACHE_DIR=$PWD/.cache/zig
"build/wheel-$processor/zig/cc" -std=c99 -O2 -I. -o "$folder/c_api_test" tests/c_api/c_api_test.c \
  -L"$folder/infobatch" -linfobatch -Wl,-rpath,'$ORIGIN/infobatch' -lm
(cd "$folder" && "${run[@]}" ./c_api_test) || fail "$processor: the C test failed$how, see above"
say "$processor: the C test passed$how"
