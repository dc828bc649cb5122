#!/usr/bin/env bash
# Compiles every header that is installed alone, as a program that includes nothing before it: C headers as
# C99, C11 and C++, all of them as C++17 and C++20. Warnings are errors.
#
#   .ci/headers.sh [samplers]   compilers: $CC and $CXX, or cc and c++
#
# What is installed is asked of CMake: an installation of the headers into build/headers. Without an argument
# those of the engine; samplers: those of the libtorch binding, in the one standard that their torch asks for since
# each reads torch's, from the build and with the torch of `make test`.
set -euo pipefail
step=headers
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/environment.sh"
layer=${1:-infobatch}
[[ $layer == infobatch || $layer == samplers ]] || fail "usage: .ci/headers.sh [samplers]"
folder=build/headers-$layer
rm -rf "$folder/installed"
mkdir -p "$folder"
options=() build=$folder
if [[ $layer == samplers ]]; then
  [[ -f $state && -f $build_folder/build.ninja ]] || fail "samplers: run make test first"
  torch_root=
  . "$state"
  options=(-isystem "$torch_root/include" -isystem "$torch_root/include/torch/csrc/api/include")
  build=$build_folder
  torch_standard=c++17 # from 2.12 on C++20
  if [[ $(printf '%s\n' 2.12 "$torch_version" | sort -V | head -n 1) == 2.12 ]]; then torch_standard=c++20; fi
fi
{
  if [[ $layer == infobatch ]]; then
    cmake --preset release -B "$folder" -DINFOBATCH_TORCH=OFF -DINFOBATCH_TESTS=OFF -DINFOBATCH_EXAMPLES=OFF \
      -DINFOBATCH_BENCH=OFF -DINFOBATCH_TRAIN_LINK=
  fi
  cmake --install "$build" --prefix "$folder/installed" --component headers
} >"$folder/log" 2>&1 || { tail -n 20 "$folder/log" >&2; fail "the headers cannot be installed, see above"; }
root=$(echo "$folder"/installed/include/infobatch-*)
mapfile -t headers < <(cd "$root" && find "$layer" -name '*.h' -o -name '*.hpp' | sort)
((${#headers[@]})) || fail "no header was installed into $root"

compiles=0 failures=0
try() { # <header> <compiler> <language> <standard> [option ...]
  compiles=$((compiles + 1))
  # Included twice: a header has to bear it.
  printf '#include <%s>\n#include <%s>\nint main(void) { return 0; }\n' "$1" "$1" |
    "$2" -x "$3" "-std=$4" -fsyntax-only -Wall -Wextra -Wshadow -Wpedantic -Werror "${@:5}" "${options[@]}" -I"$root" - ||
    { say "$1: does not compile alone as $4" >&2; failures=$((failures + 1)); }
}
for header in "${headers[@]}"; do
  if [[ $layer == samplers ]]; then
    try "$header" "${CXX:-c++}" c++ "$torch_standard"
    continue
  fi
  if [[ $header == *.h ]]; then
    for standard in c99 c11; do try "$header" "${CC:-cc}" c "$standard"; done
  fi
  for standard in c++17 c++20; do try "$header" "${CXX:-c++}" c++ "$standard"; done
  try "$header" "${CXX:-c++}" c++ c++17 -DINFOBATCH_STATIC
done
((failures == 0)) || fail "$failures of $compiles compilations failed"
say "${#headers[@]} headers of $layer/ alone, $compiles compilations"
