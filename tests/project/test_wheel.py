"""The wheel: built, installed in a clean environment with what it declares and nothing else, and used there.

Needs a package index, or a cache of uv or pip that has seen these packages: seconds with uv, a minute or two with pip.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance.simulator.server import Simulator

REPO = Path(__file__).resolve().parents[2]
DISTRIBUTION = "airflow_provider_binance"

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]


def run(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **{"timeout": 120, **options})
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, REPO)
    (built,) = folder.glob("*.whl")
    return built


class Clean:
    """An environment with nothing of this tree; what is of ours came by the wheel."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        self.environ = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "PATH": f"{self.bin}{os.pathsep}{os.defpath}",
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        }

    def run(self, *command: str | Path) -> str:
        return run(*command, cwd=self.folder, env=self.environ)

    def airflow(self, *arguments: str) -> list[dict[str, str]]:
        output = self.run(self.python, "-W", "ignore", "-m", "airflow", *arguments, "--output", "json")
        return json.loads(output[output.index("[{") :])  # a log line may come before


def install(clean: Clean, *what: str) -> None:
    """With uv when it is there, with the pip of the new environment otherwise; caches are those of the user."""
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XDG_CACHE_HOME")}
    if uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--quiet", "--python", str(clean.python)]
    else:
        command = [str(clean.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*command, *what, env=environ, timeout=600)


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Clean:
    """A new environment with the wheel and the dependencies that it declares, no extra among them."""
    clean = Clean(tmp_path_factory.mktemp("clean") / "venv")
    venv.create(clean.folder, symlinks=True, with_pip=shutil.which("uv") is None)
    install(clean, str(wheel))
    return clean


@pytest.fixture(scope="module")
def with_extras(wheel: Path, clean: Clean) -> Clean:
    """The same environment, later: with both extras."""
    install(clean, f"{wheel}[postgres,sqlite]")
    return clean


def test_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(path.relative_to(REPO)) for path in (REPO / DISTRIBUTION).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources
    assert f"{DISTRIBUTION}/py.typed" in names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {DISTRIBUTION}
    assert [name for name in names if name.endswith("licenses/LICENSE")]
    assert {f"{DISTRIBUTION}/example_dags/binance_{dag}.py" for dag in ("daily", "backfill")} <= names


def test_wheel_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    lines = archive.read(name).decode().splitlines()
    assert "Name: airflow-provider-binance" in lines
    assert "License-Expression: Apache-2.0" in lines
    assert "Requires-Python: >=3.11" in lines
    assert "Classifier: Framework :: Apache Airflow :: Provider" in lines
    assert {"Provides-Extra: postgres", "Provides-Extra: sqlite"} <= set(lines)


def test_package_comes_from_the_wheel(clean: Clean) -> None:
    code = f"import {DISTRIBUTION}, sys; print({DISTRIBUTION}.__file__, *sys.path, sep='\\n')"
    file, *path = clean.run(clean.python, "-c", code).splitlines()
    assert Path(file).is_relative_to(clean.folder)
    assert str(REPO) not in path
    assert not set(path) & set(site.getsitepackages())


def test_every_module_imports_or_lacks_an_extra(clean: Clean) -> None:
    code = f"""
import importlib, pkgutil, {DISTRIBUTION} as package

for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith(("__main__", "pytest_plugin")):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print("LACKS", error.name)
"""
    output = clean.run(clean.python, "-W", "ignore", "-c", code)
    lacking = {line.split()[1] for line in output.splitlines() if line.startswith("LACKS ")}
    declared = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    extras = {
        re.split(r"[^\w.-]", name)[0].replace("-", "_")
        for extra, names in declared.items()
        if extra != "dev"
        for name in names
    }
    assert lacking <= extras


def test_airflow_lists_the_provider(clean: Clean) -> None:
    rows = clean.airflow("providers", "list")
    assert "airflow-provider-binance" in {row["package_name"] for row in rows}


def test_airflow_knows_the_connection_type(clean: Clean) -> None:
    rows = {row["connection_type"]: row for row in clean.airflow("providers", "hooks")}
    assert rows["binance"]["class"] == "airflow_provider_binance.hooks.binance.BinanceHook"
    assert rows["binance"]["conn_id_attribute_name"] == "binance_conn_id"


def test_command_line_runs(clean: Clean) -> None:
    assert "load" in clean.run(clean.bin / "binance-ingest", "--help")


def test_a_load_works_with_the_declared_dependencies_alone(clean: Clean) -> None:
    """From the simulator by archive and REST into SQLite; then the coverage as a picture."""
    store, picture = clean.folder / "ingest.db", clean.folder / "coverage.png"
    with Simulator(seed=7, now="2026-11-20T12:00:30Z", speed=0, symbols=["BTCUSDT"]) as simulator:
        clean.environ |= simulator.settings
        series = ("--symbol", "BTCUSDT", "--interval", "1h", "--start", "2026-10-01")
        told = clean.run(clean.bin / "binance-ingest", "load", "--json", "--store", f"sqlite:///{store}", *series)
        expected = len(simulator.truth("spot", "BTCUSDT", "1h", "2026-10-01", "2026-11-20T12:00:00Z"))
        clean.run(clean.bin / "binance-ingest", "coverage", "--store", f"sqlite:///{store}", "--plot", picture)
    [load] = json.loads(told)["loads"]
    assert load["rows_inserted"] == expected == 50 * 24 + 12
    assert all(load["sources"].values())
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_example_dags_are_found(clean: Clean) -> None:
    """By their factories, and as the files that the command line copies into a DAG folder."""
    factories = clean.run(
        clean.python,
        "-W",
        "ignore",
        "-c",
        "from importlib.resources import files; print(files('airflow_provider_binance.example_dags'))",
    )
    assert Path(factories.strip()).is_relative_to(clean.folder)
    folder = clean.folder / "dags"
    clean.run(clean.bin / "binance-ingest", "dags", "--copy", folder)
    code = """
import json, sys
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(sys.argv[1])
print("RESULT", json.dumps([sorted(bag.dags), bag.import_errors]))
"""
    output = clean.run(clean.python, "-W", "ignore", "-c", code, folder)
    dags, errors = json.loads(output.split("RESULT")[1])
    assert errors == {}
    assert {"binance_daily", "binance_backfill", "binance_gap_repair"} <= set(dags)


def test_extras_bring_the_connection_types_of_stores(with_extras: Clean) -> None:
    rows = {row["connection_type"] for row in with_extras.airflow("providers", "hooks")}
    assert {"binance", "postgres", "sqlite"} <= rows
    with_extras.run(with_extras.python, "-c", "import psycopg; psycopg.pq.__impl__")
