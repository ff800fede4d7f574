"""Every way in which Airflow makes runs of `binance_daily`, in a real Airflow: the rows are always the market's."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest

from tests.airflow.scene import MISSED, MISSED_UNTIL, TODAY, Scene, check_days

pytestmark = [pytest.mark.airflow, pytest.mark.postgres, pytest.mark.timeout(600)]

DAY = timedelta(days=1)


def test_run_that_the_scheduler_makes(scene: Scene) -> None:
    """Unpaused, the DAG is run for the day that has just ended, and for no other: it does not catch up."""
    run, *later = scene.airflow.wait_for_runs("binance_daily", "scheduled")
    assert run["state"] == "success"
    assert run["data_interval_start"] in {f"{day:%Y-%m-%dT%H:%M:%SZ}" for day in (TODAY - DAY, TODAY)}
    assert len(later) <= 1  # midnight may pass while these tests run
    check_days(scene.store, run["data_interval_start"], run["data_interval_end"])


def test_catch_up(scene: Scene) -> None:
    """A run for each day that was missed, in order; each loads its day once."""
    runs = scene.airflow.wait_for_runs("caught_up", "scheduled", at_least=len(MISSED))
    assert [run["state"] for run in runs] == ["success"] * len(MISSED)
    intervals = [(run["data_interval_start"], run["data_interval_end"]) for run in runs]
    assert intervals == [(f"{day:%Y-%m-%dT%H:%M:%SZ}", f"{day + DAY:%Y-%m-%dT%H:%M:%SZ}") for day in MISSED]
    check_days(scene.caught_up, MISSED[0].isoformat(), MISSED_UNTIL.isoformat())


def test_backfill_by_command_line(scene: Scene) -> None:
    day, end = "2026-11-05T00:00:00+00:00", "2026-11-06T00:00:00+00:00"
    scene.airflow.wait_until_backfills_are_closed("binance_daily")
    arguments = ["--dag-id", "binance_daily", "--from-date", day, "--to-date", day, "--max-active-runs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "backfill", "create", *arguments],
        env=scene.airflow.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert scene.airflow.backfilled("binance_daily", day, day) == ["success"]
    check_days(scene.store, day, end)
