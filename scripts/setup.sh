#!/usr/bin/env bash
# Makes the development environment: scripts/setup.sh VENV
# uv when it is there (seconds), plain pip otherwise (a minute or two).
set -euo pipefail

venv=${1:?usage: scripts/setup.sh VENV}
cd "$(dirname "$0")/.."

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python; do
    if new_enough "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  echo "No Python 3.11 or newer found. Install one, or name it: make test PYTHON=/path/to/python3.12" >&2
  return 1
}

with_uv() {
  uv --version >/dev/null 2>&1 || return 1
  [ -x "$venv/bin/python" ] || uv venv --quiet --python "$python" "$venv" || return 1
  uv pip install --quiet --python "$venv/bin/python" --editable '.[dev]'
}

with_pip() {
  # A virtual environment that uv began has no pip; venv adds it to what is there.
  "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --editable '.[dev]'
}

python=$(find_python)
if [ -e "$venv" ] && ! new_enough "$venv/bin/python"; then
  echo "Making $venv anew: its Python is gone or older than 3.11."
  rm -rf "$venv"
fi

echo "Installing into $venv (once; with pip it takes a minute or two) …"
if ! with_uv; then
  with_pip
fi

if [ "$(id -u)" = 0 ]; then
  folder=$(cd "$venv" && pwd -P)
  while [ "$folder" != / ]; do
    if [ -z "$(find "$folder" -maxdepth 0 -perm -o=x)" ]; then
      echo "Note: other users cannot enter $folder, and the PostgreSQL server of the tests must not run as root." >&2
      echo "      If those tests fail, put the environment elsewhere: make test VENV=/var/tmp/binance-venv" >&2
    fi
    folder=$(dirname "$folder")
  done
fi
