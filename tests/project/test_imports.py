"""Imports point one way, the core knows no Airflow, and importing it is cheap."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PACKAGE = REPO / "airflow_provider_binance"
AIRFLOW_LAYER = {"hooks", "operators", "sensors", "triggers", "plugins", "example_dags"}
HEAVY = ("pandas", "binance", "sqlalchemy", "airflow")
FRONT_DOORS = ("", ".config", ".ingest", ".rest", ".store", ".archive", ".provider_info", ".simulator")


def core_modules() -> list[str]:
    """Every module outside the Airflow layer, but for `__main__` ones, which do not only define."""
    paths = (path.relative_to(REPO) for path in PACKAGE.rglob("*.py") if path.name != "__main__.py")
    parts = (path.with_suffix("").parts for path in paths)
    core = (p for p in parts if p[1] not in AIRFLOW_LAYER and not p[1].startswith("airflow_"))
    return sorted(".".join(p).removesuffix(".__init__") for p in core)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


def test_core_imports_with_airflow_blocked() -> None:
    code = """
import importlib, sys

class NoAirflow:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "airflow":
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, NoAirflow())
for name in sys.argv[1:]:
    importlib.import_module(name)
print(len(sys.argv) - 1)
"""
    modules = core_modules()
    done = run_python(code, *modules)
    assert (done.returncode, done.stdout.strip()) == (0, str(len(modules))), done.stderr


@pytest.mark.parametrize("name", FRONT_DOORS)
def test_import_loads_nothing_heavy(name: str) -> None:
    module = f"airflow_provider_binance{name}"
    if module not in core_modules():
        pytest.skip(f"{module} does not exist")
    code = f"import {module}, sys; print(*sorted({{n.split('.')[0] for n in sys.modules}} & {{*sys.argv[1:]}}))"
    done = run_python(code, *HEAVY)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """The import rules, as a developer runs them, on the package in `folder`."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_import_rules_hold() -> None:
    done = lint_imports(REPO)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("market.py", "import airflow.sdk", "The core never imports Airflow"),
        ("market.py", "from airflow_provider_binance import config", "Imports point one way"),
        ("config.py", "from airflow_provider_binance import simulator", "Only the command line imports the simulator"),
        ("simulator/clock.py", "from airflow_provider_binance import errors", "Imports point one way"),
    ],
)
def test_import_rules_bite(tmp_path: Path, file: str, line: str, broken: str) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=ignored)
    shutil.copy(REPO / "pyproject.toml", tmp_path)
    with (tmp_path / PACKAGE.name / file).open("a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout
    assert f"{broken} BROKEN" in done.stdout
