#!/usr/bin/env bash
# Checks what no compiler checks; --fix formats the files instead of complaining about them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
step=lint
failures=0
complain() {
  printf 'lint: %s\n' "$*" >&2
  failures=$((failures + 1))
}
files() { git ls-files -co --exclude-standard -- "$@" | while read -r file; do [[ ! -f $file ]] || echo "$file"; done; }

requirements=.ci/requirements-lint.txt
venv=.venv-lint
if [[ ! -f $venv/.requirements || $(<"$venv/.requirements") != "$(cksum <"$requirements")" ]]; then
  printf '%s: %s: pip installs the packages of %s\n' "$step" "$venv" "$requirements"
  rm -rf "$venv"
  python3 -m venv "$venv" || { complain "python3 has no venv module (Debian: apt-get install python3-venv)"; exit 1; }
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
  cksum <"$requirements" >"$venv/.requirements"
fi

mapfile -t sources < <(files '*.h' '*.hpp' '*.c' '*.cpp' '*.cu' '*.cuh')
((${#sources[@]})) || complain "no source file found"
if [[ ${1:-} == --fix ]]; then
  "$venv/bin/clang-format" -i "${sources[@]}"
else
  "$venv/bin/clang-format" --dry-run --Werror "${sources[@]}" || complain "format differs: make format"
fi

# Python: the package, its tests and examples; the types of the package alone.
package=python_bindings_optional/infobatch
export RUFF_CACHE_DIR=.cache/ruff
if [[ ${1:-} == --fix ]]; then
  "$venv/bin/ruff" format --quiet "$package" tests/python tests/trainers bench examples/python
else
  "$venv/bin/ruff" format --quiet --diff "$package" tests/python tests/trainers bench examples/python || complain "format of Python differs: make format"
fi
"$venv/bin/ruff" check --quiet "$package" tests/python tests/trainers bench examples/python || complain "ruff"
# torch and NumPy may be missing; what they declare is followed where set-up installed them.
types_of=$venv/bin/python options=(--no-warn-unused-ignores)
if [[ -d $(echo .venv/lib/python3.*/site-packages/torch) ]]; then types_of=.venv/bin/python options=(); fi
"$venv/bin/mypy" --cache-dir .cache/mypy --python-executable "$types_of" "${options[@]}" "$package" || complain "mypy"
"$venv/bin/pyright" --pythonpath "$types_of" "$package" || complain "pyright"

scripts/check_layers.py || complain "a layer includes what stands above it"
scripts/check_sources.py || complain "a source file that is not compiled"
scripts/check_docs.py || complain "a citation of what is not there"

mapfile -t texts < <(files ':!*.json' ':!LICENSE')
"$venv/bin/codespell" --ignore-words-list kinf "${texts[@]}" || complain "spelling"

if grep -nE '(^|[^A-Za-z0-9_.])/(tmp|root|home|work)/' -- "${texts[@]}" /dev/null | grep -v '^\.ci/lint\.sh:'; then
  complain "paths of one machine"
fi
# What explains the tree has to be in it: rules have numbers, which docs/rules.md gives.
if grep -nE '(^|[^A-Za-z0-9_])(DESIGN|EVIDENCE|POLICIES|STYLE\.md)([^A-Za-z0-9_]|$)' -- "${texts[@]}" /dev/null |
  grep -v '^\.ci/lint\.sh:'; then
  complain "documents that are not in this tree"
fi
# Catch2 v2 and CTest split names at semicolons: such a test would count, and run nothing.
if grep -nE '^ *(TEST_CASE|TEMPLATE_TEST_CASE|SCENARIO)\("[^"]*;' -- "${sources[@]}"; then
  complain "semicolon in the name of a test"
fi
if grep -nE '[[:space:]]+$' -- "${sources[@]}"; then complain "white space at the end of a line"; fi
for script in $(files 'scripts/*.sh' '.ci/*.sh' .ci/run); do bash -n "$script" || complain "$script: syntax"; done

((failures == 0)) || { printf 'lint: %d checks failed\n' "$failures" >&2; exit 1; }
mapfile -t modules < <(files "$package/*.py" 'tests/python/*.py' 'examples/python/*.py')
echo "lint: ${#sources[@]} C and C++ files, ${#modules[@]} Python files, all checks passed"
