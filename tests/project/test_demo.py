"""`make demo` fails where its promise is not kept: real loads from the simulator into its store, with one thing wrong.

Airflow itself is stood in for by an object that loads in this process; `.ci/run` runs the demo with the real one.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.operators.binance import summarize
from scripts import demo

REPO = Path(__file__).resolve().parents[2]

ONE_ROW = "DELETE FROM klines_data WHERE (series_id, open_time) = (SELECT series_id, max(open_time) FROM klines_data)"
#: What REST brought, forgotten by rows and ledger: the next run loads it again.
TAIL = (
    "DELETE FROM klines_data WHERE open_time >= (SELECT min(range_start) FROM coverage WHERE confirmed_by IS NULL)",
    "DELETE FROM coverage WHERE confirmed_by IS NULL",
)


class Loading:
    """In place of Airflow: a triggered run loads at once what its form asks for."""

    #: Statements by when they are carried out: after run 1, before run 2, …
    harm: ClassVar[dict[str, tuple[str, ...]]] = {}
    state: ClassVar[str] = "success"

    def __init__(self, home: Path, **_: Any) -> None:
        self.home = home
        self.url = "nowhere"
        self.reports: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def create_connection(self, connection: Mapping[str, Any]) -> None:
        if connection["conn_type"] == "binance":
            self.config = BinanceConfig.load(connection=connection["extra"], store_url=f"sqlite:///{demo.STORE}")

    def wait_for_dags(self, *_: str) -> None:
        pass

    def trigger(self, dag_id: str, form: dict[str, Any]) -> str:
        run = len(self.reports) + 1
        self._harm(f"before {run}")
        self.reports.append(summarize(ingest.load(**form, config=self.config)))
        self._harm(f"after {run}")
        return str(run)

    def wait_for_run(self, *_: Any, **__: Any) -> str:
        return self.state

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return [{"task_id": "load", "map_index": -1}]

    def xcom(self, dag_id: str, run_id: str, *_: Any, **__: Any) -> dict[str, Any]:
        return self.reports[int(run_id) - 1]

    def _harm(self, when: str) -> None:
        with closing(sqlite3.connect(demo.STORE)) as database, database:
            for statement in self.harm.get(when, ()):
                assert database.execute(statement).rowcount > 0


@pytest.fixture(autouse=True)
def small_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The demo with hours instead of minutes, in a folder of its own."""
    monkeypatch.setenv("BINANCE_OFFLINE", "1")
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))  # the demo sets them, and this undoes it
    monkeypatch.setattr(demo, "REPO", tmp_path)
    monkeypatch.setattr(demo, "OUTPUT", tmp_path / "build")
    monkeypatch.setattr(demo, "STORE", tmp_path / "build" / "ingest.db")
    monkeypatch.setattr(demo, "INTERVALS", ["1h"])
    monkeypatch.setattr(demo, "LocalAirflow", Loading)
    monkeypatch.setattr("signal.signal", lambda *_: None)


def test_kept_promise_is_status_0(capfd: pytest.CaptureFixture[str]) -> None:
    assert demo.main() == 0
    told = capfd.readouterr().out
    assert "Run 1 stored exactly the" in told
    assert re.search(r"\d\d klines of 1 s arrived within \d+ s, \d+ of them by websocket", told)
    assert re.search(r"of 09:30:\d\d UTC, was committed \d+\.\d\d s after Binance sent it", told)
    assert "Next steps" in told


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ({"after 1": (ONE_ROW,)}, "expected"),
        ({"before 2": TAIL}, "run 2 should have changed nothing, but: "),
        ({"after 2": (ONE_ROW,)}, "run 2 should have changed nothing, but: 0 inserted, 0 updated"),
    ],
    ids=["a row lacks after run 1", "run 2 inserts", "a row lacks after run 2"],
)
def test_wrong_counts_are_status_1(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], harm: dict[str, tuple[str, ...]], told: str
) -> None:
    monkeypatch.setattr(Loading, "harm", harm)
    assert demo.main() == 1
    output = capfd.readouterr()
    assert "The demo FAILED: " in output.err
    assert told in output.err
    assert "Next steps" not in output.out


def test_run_that_airflow_calls_failed_is_status_1(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Loading, "state", "failed")
    assert demo.main() == 1
    assert "Airflow says that run 1 ended as failed" in capfd.readouterr().err


@pytest.mark.parametrize("status", [0, 1])
def test_make_passes_the_status_on(tmp_path: Path, status: int) -> None:
    """With an environment whose Python ends as told."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho "$@"\nexit {status}\n')
    python.chmod(0o755)
    (tmp_path / ".installed").touch()
    done = subprocess.run(["make", "demo", f"VENV={tmp_path}"], cwd=REPO, capture_output=True, text=True, timeout=60)
    assert (done.returncode != 0) == bool(status)
    assert "scripts/demo.py" in done.stdout
