"""The wheel: built, installed in a clean environment, and found there by Airflow and by a person."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]
DISTRIBUTION = "airflow_provider_binance"

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


def run(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
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
    """An environment with our dependencies but nothing of this tree; what is of ours came by the wheel."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        self.environ = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        }

    def run(self, *command: str | Path) -> str:
        return run(*command, cwd=self.folder, env=self.environ)

    def airflow(self, *arguments: str) -> list[dict[str, str]]:
        output = self.run(self.python, "-W", "ignore", "-m", "airflow", *arguments, "--output", "json")
        return json.loads(output[output.index("[{") :])  # a log line may come before


def link_dependencies(target: Path) -> None:
    """All that is installed here, but for this project and for .pth files (they would bring this tree along)."""
    target.mkdir()
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(folder).iterdir():
            if DISTRIBUTION not in entry.name and entry.suffix != ".pth" and not (target / entry.name).exists():
                (target / entry.name).symlink_to(entry)


def install(wheel: Path, clean: Clean) -> None:
    """With uv when it is there, with the pip of the new environment otherwise."""
    uv = shutil.which("uv")
    if uv and subprocess.run([uv, "--version"], capture_output=True).returncode == 0:
        venv.create(clean.folder, symlinks=True)
        run(uv, "pip", "install", "--offline", "--no-deps", "--python", clean.python, wheel)
    else:
        venv.create(clean.folder, symlinks=True, with_pip=True)
        run(clean.python, "-m", "pip", "install", "--no-index", "--no-deps", wheel)


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Clean:
    """A new environment with the wheel in it."""
    clean = Clean(tmp_path_factory.mktemp("clean") / "venv")
    install(wheel, clean)
    link_dependencies(clean.folder / "dependencies")
    packages = clean.run(clean.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(packages, "dependencies.pth").write_text(f"{clean.folder / 'dependencies'}\n")
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


def test_airflow_lists_the_provider(clean: Clean) -> None:
    rows = clean.airflow("providers", "list")
    assert "airflow-provider-binance" in {row["package_name"] for row in rows}


def test_airflow_knows_the_connection_type(clean: Clean) -> None:
    rows = {row["connection_type"]: row for row in clean.airflow("providers", "hooks")}
    assert rows["binance"]["class"] == "airflow_provider_binance.hooks.binance.BinanceHook"
    assert rows["binance"]["conn_id_attribute_name"] == "binance_conn_id"
    assert {"postgres", "sqlite"} <= rows.keys()


def test_command_line_runs(clean: Clean) -> None:
    assert "load" in clean.run(clean.bin / "binance-ingest", "--help")


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
    assert {"binance_daily", "binance_backfill"} <= set(dags)
