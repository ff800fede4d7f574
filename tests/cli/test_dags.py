"""`dags`: the example DAGs listed and copied."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_binance.cli.dags import example_dags

from .conftest import Ran

REPO = Path(__file__).resolve().parents[2]


def code_of(text: str) -> str:
    """The text without its docstring."""
    return "\n".join(ast.unparse(node) for node in ast.parse(text).body[1:])


def test_they_are_listed(run: Callable[..., Ran]) -> None:
    """With what they do, without importing Airflow."""
    ran = run("dags")
    assert ran.status == 0
    shown = {line.partition(" ")[0] for line in ran.out.splitlines()}
    assert {"binance_daily", "binance_backfill", "binance_gap_repair"} <= shown


def test_copies_are_thin_and_equal_to_the_repositorys(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Each file imports its factory and calls it: nothing else."""
    ran = run("dags", "--copy", "new/dags", "--json")
    assert ran.status == 0
    copied = {path.name: path.read_text() for path in (tmp_path / "new/dags").iterdir()}
    assert sorted(copied) == sorted(Path(path).name for path in ran.document["written"])
    assert {name: code_of(text) for name, text in copied.items()} == {
        path.name: code_of(path.read_text()) for path in (REPO / "dags").glob("*.py")
    }


def test_other_files_are_overwritten_with_force_only(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Without it nothing at all is written; equal files are no obstacle."""
    assert run("dags", "--copy", ".").status == 0
    again = run("dags", "--copy", ".", "--json")
    assert (again.status, again.document["written"]) == (0, [])
    (tmp_path / "binance_daily.py").write_text("mine = True\n")
    (tmp_path / "binance_backfill.py").unlink()
    refused = run("dags", "--copy", ".")
    assert (refused.status, "binance_daily.py" in refused.err, "--force" in refused.err) == (2, True, True)
    assert not (tmp_path / "binance_backfill.py").exists()
    assert (tmp_path / "binance_daily.py").read_text() == "mine = True\n"
    assert run("dags", "--copy", ".", "--force").status == 0
    assert "make_daily_dag" in (tmp_path / "binance_daily.py").read_text()


def test_a_folder_that_cannot_be_made_is_an_input_error(run: Callable[..., Ran], tmp_path: Path) -> None:
    """One line, exit 2."""
    (tmp_path / "file").write_text("")
    ran = run("dags", "--copy", "file/dags")
    assert (ran.status, ran.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("dag", example_dags(), ids=lambda dag: dag.name)
def test_thin_files_name_what_exists(dag: object) -> None:
    """The factory is in the module under the name that the file imports."""
    from importlib.util import find_spec

    name, factory = dag.name, dag.factory  # type: ignore[attr-defined]
    spec = find_spec(f"airflow_provider_binance.example_dags.{name}")
    assert spec is not None
    assert spec.origin is not None
    assert f"def {factory}(" in Path(spec.origin).read_text()
