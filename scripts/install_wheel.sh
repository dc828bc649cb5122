# Sourced by the scripts that run Python tests: the wheel of this machine, and how it gets into an environment.
# What a user has set up for Python programs stays out of it.
unset PYTHONPATH PYTHONHOME INFOBATCH_LIBRARY
export PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=1

mapfile -t wheels < <(ls build/wheels/infobatch-*_"$(uname -m)".whl 2>/dev/null)
((${#wheels[@]} == 1)) || fail "build/wheels holds ${#wheels[@]} wheels for $(uname -m); scripts/wheels.sh makes the one"
wheel=${wheels[0]}

install_wheel() { # <virtual environment>: installs it, unless it is there already
  local folder=$1 sum
  sum=$(cksum <"$wheel")
  if [[ ! -f $folder/.wheel || $(<"$folder/.wheel") != "$sum" ]]; then
    rm -f "$folder/.wheel"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$wheel" ||
      fail "$wheel cannot be installed into $folder, see above"
    echo "$sum" >"$folder/.wheel"
  fi
}
