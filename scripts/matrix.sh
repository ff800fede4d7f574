#!/usr/bin/env bash
# Runs tests with the lowest versions that pyproject.toml declares, then with the latest there are: scripts/matrix.sh
# MATRIX_PYTHONS  Pythons for the latest versions (default: the current one); the lowest are tested with the first.
# PYTEST_ARGS     what to run (default: all but benchmarks, and what starts a whole Airflow, a browser or a clean environment)
# The lowest are those of our direct dependencies; what these depend on is as new as they allow. Needs uv.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PYTHONDONTWRITEBYTECODE

command -v uv >/dev/null || { echo "make matrix needs uv: pip install uv" >&2; exit 1; }
read -r -a pythons <<<"${MATRIX_PYTHONS:-$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')}"
read -r -a arguments <<<"${PYTEST_ARGS:-tests --ignore=tests/project --ignore=tests/test_benchmarks.py --ignore=tests/airflow/test_end_to_end.py \
  --ignore=tests/airflow/test_schedules.py --ignore=tests/airflow/test_secrets.py --ignore=tests/airflow/test_killed.py \
  --ignore=tests/airflow/test_ui.py}"

run() {
  local resolution=$1 python=$2 folder=build/matrix/$1-$2
  mkdir -p "$folder"
  printf '\n=== %s, Python %s\n' "$resolution" "$python"
  # Tools of the tests are always the latest: only what users install is looked for at its lower bound.
  uv pip compile --quiet --no-header --resolution "$resolution" --python-version "$python" \
    --extra postgres --extra sqlite --extra redis --extra stream pyproject.toml --output-file "$folder/versions.txt"
  [ -x "$folder/venv/bin/python" ] || uv venv --quiet --python "$python" "$folder/venv"
  uv pip install --quiet --python "$folder/venv/bin/python" --editable '.[dev]' --constraint "$folder/versions.txt"
  PYTHONPATH=$PWD "$folder/venv/bin/python" -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "${arguments[@]}"
}

run lowest-direct "${pythons[0]}"
for python in "${pythons[@]}"; do
  run highest "$python"
done
