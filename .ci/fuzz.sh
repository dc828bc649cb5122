#!/usr/bin/env bash
# Builds the fuzzing programs (tests/fuzz) and gives each some time: .ci/fuzz.sh [seconds] [program ...]
#
# Prints one line a program, and fails where one found something; the input is then kept in
# build/fuzz/found. What earlier runs collected in build/fuzz/corpus is where the next one begins.
# A program's own log is build/fuzz/<program>.log. Set-up: scripts/setup.sh fuzz.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-30}
if [[ ! $seconds =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: .ci/fuzz.sh [seconds] [state|config|calls ...]" >&2
  exit 2
fi
programs=("${@:2}")
((${#programs[@]})) || programs=(state config calls)
folder=build/fuzz

mkdir -p "$folder/found" "$folder"/corpus/{state,config,calls}
{ cmake --preset fuzz && cmake --build --preset fuzz; } >"$folder/build.log" 2>&1 || {
  tail -n 30 "$folder/build.log" >&2
  echo "fuzz: the fuzzing programs cannot be built, see above; scripts/setup.sh fuzz installs what they need" >&2
  exit 1
}
"$folder/tests/fuzz/infobatch_fuzz_seeds" "$folder"/corpus/{state,config,calls}

# One program, its log and its line.
fuzz() {
  local program=$1 most=8192 verdict=passed
  if [[ $program == calls ]]; then most=300; fi
  local options=(-max_total_time="$seconds" -max_len=$most -timeout=20 -rss_limit_mb=4096 -print_final_stats=1
                 -artifact_prefix="$folder/found/$program-")
  if [[ -f tests/fuzz/$program.dict ]]; then options+=("-dict=tests/fuzz/$program.dict"); fi
  local log=$folder/$program.log runs figures
  "$folder/tests/fuzz/infobatch_fuzz_$program" "${options[@]}" "$folder/corpus/$program" >"$log" 2>&1 || verdict=FAILED
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  # The last line with figures, as "#1234 DONE cov: 56 ft: 78 corp: 9/10Kb ...".
  figures=$(sed -n 's/^#[0-9]*\t.*\(cov: [0-9]*\) .*\(corp: [0-9]*\)\/.*/\1, \2/p' "$log" | tail -n 1)
  echo "fuzz: $program: $verdict, ${runs:-0} executions in $seconds s, ${figures:-no coverage} inputs"
  [[ $verdict == passed ]] && return
  grep -aE 'fuzz: does not hold|ERROR:|runtime error:|Test unit written|what\(\)|^SUMMARY' "$log" >&2 || tail -n 20 "$log" >&2
  return 1
}
export -f fuzz
export seconds folder
# Each has a core for itself.
printf '%s\n' "${programs[@]}" | xargs -n 1 -P "$(nproc)" bash -c 'fuzz "$0"'
