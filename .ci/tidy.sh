#!/usr/bin/env bash
# clang-tidy over the engine and its headers; what .clang-tidy asks for, every finding an error:
#
#   .ci/tidy.sh [file ...]      default: every source file of infobatch/
#
# The version is that of .ci/requirements-tidy.txt, in .venv-tidy. A file that was clean is not read again
# until it, a header of ours, or .clang-tidy changes.
set -euo pipefail
step=tidy
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/environment.sh"
requirements=.ci/requirements-tidy.txt venv=.venv-tidy folder=build/tidy
if [[ ! -f $venv/.requirements || $(<"$venv/.requirements") != "$(cksum <"$requirements")" ]]; then
  rm -rf "$venv"
  python3 -m venv "$venv" || fail "python3 has no venv module (Debian: apt-get install python3-venv)"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" ||
    fail "pip cannot install the packages of $requirements, see above"
  cksum <"$requirements" >"$venv/.requirements"
fi
mkdir -p "$folder/clean"
cmake --preset release -B "$folder" -DINFOBATCH_TORCH=OFF -DINFOBATCH_TESTS=OFF -DINFOBATCH_EXAMPLES=OFF \
  -DINFOBATCH_BENCH=OFF -DINFOBATCH_TRAIN_LINK= >"$folder/log" 2>&1 || { tail -n 20 "$folder/log" >&2; fail "cmake failed, see above"; }

files=("$@")
if ((!$#)); then mapfile -t files < <(git ls-files -co --exclude-standard -- 'infobatch/*.cpp'); fi
context=$(cat .clang-tidy "$requirements" "$folder/compile_commands.json" $(git ls-files -co --exclude-standard -- 'infobatch/*.hpp' 'infobatch/*.h') | cksum)
check() { # <file>: clang-tidy's findings in it and in its headers
  local sum stamp=$folder/clean/${1//\//-}
  sum="$context $(cksum <"$1")"
  if [[ -f $stamp && $(<"$stamp") == "$sum" ]]; then return 0; fi
  # Flags that only GCC knows are in the compile commands.
  if "$venv/bin/clang-tidy" -p "$folder" --quiet --extra-arg=-Wno-unknown-warning-option "$1" 2>"$stamp.log"; then
    echo "$sum" >"$stamp"
  else
    grep -E 'error:|Error' "$stamp.log" || true
    return 1
  fi
}
export -f check
export venv folder context
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(parallel_jobs)" bash -c 'check "$0"' >"$folder/findings" ||
  { cat "$folder/findings" >&2; fail "$(grep -E ': error:' "$folder/findings" | sort -u | wc -l) findings, see above"; }
say "${#files[@]} files, no findings"
