"""A task process that is killed while it loads, in a real Airflow: by "mark as failed", then by SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from tests.airflow.scene import SLOW_FILES, Scene, stored, truth

pytestmark = [pytest.mark.airflow, pytest.mark.postgres, pytest.mark.timeout(600)]

SERIES = ("BTCUSDT", "15m")
MONTHS = [f"2026-{month:02d}-01T00:00:00Z" for month in range(1, 8)]


def test_killed_load_stops_is_consistent_and_goes_on(scene: Scene) -> None:
    airflow = scene.airflow
    airflow.wait_for_dags("killed")
    airflow.unpause("killed")

    run_id = airflow.trigger("killed")
    pid = stuck_task(scene, run_id, SLOW_FILES[0], months=2)
    airflow.call("PATCH", f"/api/v2/dags/killed/dagRuns/{run_id}/taskInstances/load", {"new_state": "failed"})
    wait_until(lambda: not is_alive(pid))
    check(scene, months=2)
    assert files_asked(scene)[-1] == SLOW_FILES[0]
    # Airflow lets it rest, though it has a retry left: a person has marked it.
    assert airflow.wait_for_run("killed", run_id) == "failed"
    assert task(scene, run_id)["state"] == "failed"
    assert "What was committed stays" in airflow.task_logs()

    # Cleared, it goes on where it was, and is killed again: this time it is Airflow that tries once more.
    airflow.call("POST", "/api/v2/dags/killed/clearTaskInstances", {"dag_run_id": run_id, "dry_run": False})
    pid = stuck_task(scene, run_id, SLOW_FILES[1], months=4)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_alive(pid))
    assert airflow.wait_for_run("killed", run_id) == "success"
    check(scene, months=6)
    # Each file was fetched once, but for those that hung.
    asked = files_asked(scene)
    assert {name: asked.count(name) for name in asked} == {
        f"BTCUSDT-15m-2026-{month:02d}.zip": 1 for month in range(1, 7)
    } | dict.fromkeys(SLOW_FILES, 2)


def stuck_task(scene: Scene, run_id: str, name: str, months: int) -> int:
    """Wait until the task has committed so many months and asked for the file that does not come; its process id."""
    wait_until(lambda: name in files_asked(scene))
    wait_until(lambda: committed(scene) == months)
    return int(task(scene, run_id)["pid"])


def committed(scene: Scene) -> int:
    with closing(sqlite3.connect(scene.killed)) as database:
        return int(database.execute("SELECT count(*) FROM ingest_log").fetchone()[0])


def task(scene: Scene, run_id: str) -> dict[str, Any]:
    [found] = scene.airflow.task_instances("killed", run_id)
    return found


def files_asked(scene: Scene) -> list[str]:
    """The files of the series that were asked for, in order; the first that is asked of each is its checksum."""
    paths = [json.loads(line)["path"] for line in scene.request_log.read_text().splitlines()]
    names = [path.rpartition("/")[2] for path in paths]
    return [name.removesuffix(".CHECKSUM") for name in names if name.endswith(".CHECKSUM") and "-15m-" in name]


def check(scene: Scene, months: int) -> None:
    """So many months are there, in rows, ledger and coverage alike, and nobody holds the database."""
    start, end = MONTHS[0], MONTHS[months]
    rows = stored(scene.killed, *SERIES, start, MONTHS[-1])
    assert rows == truth(*SERIES, start, end)
    with closing(sqlite3.connect(scene.killed, timeout=0)) as database:
        [covered] = database.execute("SELECT sum(row_count) FROM coverage WHERE state = 'complete'").fetchone()
        lines = database.execute("SELECT rows_inserted FROM ingest_log ORDER BY range_start").fetchall()
        database.execute("BEGIN IMMEDIATE")
        database.rollback()
    assert len(lines) == months
    assert sum(inserted for (inserted,) in lines) == covered == len(rows)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(ready: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.1)
