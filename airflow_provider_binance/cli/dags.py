"""`dags`: list the example DAGs, or write the thin files that bring them into a DAG folder."""

from __future__ import annotations

import argparse
import ast
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from airflow_provider_binance.cli.output import Output
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.reports import SCHEMA

_FOLDER = "example_dags"
_THIN_FILE = '''"""Airflow DAG `{name}`: {summary}."""

from airflow_provider_binance.example_dags.{name} import {factory}

dag = {factory}()
'''


@dataclass(frozen=True, slots=True)
class ExampleDag:
    """A module of `example_dags` with its factory, read from its text: Airflow need not be there."""

    name: str
    summary: str
    factory: str

    @property
    def thin_file(self) -> str:
        """The file for a DAG folder."""
        return _THIN_FILE.format(name=self.name, summary=self.summary, factory=self.factory)


def example_dags() -> list[ExampleDag]:
    """All example DAGs by name: the modules of the folder that define a `make_…_dag`."""
    found = []
    for entry in files("airflow_provider_binance").joinpath(_FOLDER).iterdir():
        if not entry.name.endswith(".py"):
            continue
        module = ast.parse(entry.read_text(encoding="utf-8"))
        makers = [f.name for f in module.body if isinstance(f, ast.FunctionDef) and f.name.startswith("make_")]
        factory = next((name for name in makers if name.endswith("_dag")), None)
        if factory:
            promise = (ast.get_docstring(module) or "").partition("\n")[0]
            summary = promise.partition(": ")[2] or promise
            found.append(ExampleDag(entry.name.removesuffix(".py"), summary.rstrip("."), factory))
    return sorted(found, key=lambda dag: dag.name)


def dags(arguments: argparse.Namespace, output: Output) -> int:
    """`dags`: list them; with `--copy DIR` write them there, all or none."""
    known = example_dags()
    listed = [{"dag": dag.name, "summary": dag.summary} for dag in known]
    if arguments.copy is None:
        if arguments.force:
            raise InputError("--force goes with --copy DIR")
        width = max((len(dag.name) for dag in known), default=0)
        lines = [*(f"{dag.name:<{width}}  {dag.summary}" for dag in known), "", "Copy them: dags --copy DIR"]
        output.result({"schema": SCHEMA, "dags": listed}, lines)
        return 0
    folder = Path(arguments.copy).absolute()
    written = [str(path) for path in _copy(known, folder, force=arguments.force)]
    unchanged = [str(folder / f"{dag.name}.py") for dag in known if str(folder / f"{dag.name}.py") not in written]
    lines = [*(f"wrote {path}" for path in written), *(f"unchanged {path}" for path in unchanged)]
    output.result({"schema": SCHEMA, "dags": listed, "written": written, "unchanged": unchanged}, lines)
    return 0


def _copy(known: list[ExampleDag], folder: Path, *, force: bool) -> list[Path]:
    wanted = {folder / f"{dag.name}.py": dag.thin_file for dag in known}
    try:
        present = {path: path.read_text(encoding="utf-8", errors="replace") for path in wanted if path.exists()}
        changed = [path for path, text in wanted.items() if present.get(path) != text]
        if (others := [path for path in changed if path in present]) and not force:
            names = ", ".join(path.name for path in others)
            raise InputError(f"{folder} has other files of these names: {names}; nothing was written. --force replaces")
        folder.mkdir(parents=True, exist_ok=True)
        for path in changed:
            # The DAG processor may look at any moment: it must never see half a file.
            draft = path.with_suffix(".py.part")
            draft.write_text(wanted[path], encoding="utf-8")
            draft.replace(path)
    except OSError as error:
        raise InputError(f"cannot write DAG files into {folder}: {error.strerror or error}") from error
    return changed
