"""One real Airflow for all tests of this folder: all its components, and the simulator in a process of its own. Its
metadata are in PostgreSQL: in SQLite the scheduler trips over a backfill that is being made.

The scheduler goes by the real clock. The simulator stands at noon of tomorrow, so that the days that the scheduler
finds due, whichever they are, have been traded; days with a fixed date lie in the past of both.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_provider_binance.simulator.server import Simulator
from scripts.local_airflow import LocalAirflow, session_members
from scripts.local_simulator import LocalSimulator
from tests.airflow.conftest import API_KEY, API_SECRET, rows_of

REPO = Path(__file__).resolve().parents[2]
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
NOW = (TODAY + timedelta(hours=36, seconds=30)).isoformat()
SYMBOLS = ["BTCUSDT", "ETHUSDT"]
#: The days that the DAG `caught_up` has to catch up with, and the end of the last.
MISSED = [TODAY - timedelta(days=3), TODAY - timedelta(days=2)]
MISSED_UNTIL = TODAY - timedelta(days=1)
#: Nobody but the DAG `killed` wants them.
SLOW_FILES = ("BTCUSDT-15m-2026-03.zip", "BTCUSDT-15m-2026-05.zip")


@dataclass(frozen=True)
class Scene:
    """A running Airflow, its connections made, its DAGs parsed."""

    airflow: LocalAirflow
    store: Path
    caught_up: Path
    killed: Path
    request_log: Path
    canaries: Path
    rotated_stop: Path
    binance_extra: dict[str, Any]
    metadata_url: str

    def run(self, dag_id: str, conf: dict[str, Any]) -> tuple[str, str]:
        run_id = self.airflow.trigger(dag_id, conf)
        return run_id, self.airflow.wait_for_run(dag_id, run_id)

    def reports(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        loads = [task for task in self.airflow.task_instances(dag_id, run_id) if task["task_id"] == "load"]
        return [self.airflow.xcom(dag_id, run_id, "load", map_index=task["map_index"]) for task in loads]


@contextmanager
def playing(folder: Path, metadata_url: str) -> Iterator[Scene]:
    """Airflow at DEBUG with a key in its connection, stopped without a trace afterwards; its database is empty yet."""
    store, request_log = folder / "ingest.db", folder / "requests.jsonl"
    caught_up, killed = folder / "caught_up.db", folder / "killed.db"
    rotated_stop = folder / "rotated_stop"
    canaries, dags_folder = folder / "canaries", folder / "dags"
    for source in (REPO / "dags", Path(__file__).parent / "dags"):
        shutil.copytree(source, dags_folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    arguments = ["--seed", "7", "--now", NOW, "--speed", "0", "--symbols", *SYMBOLS, "--request-log", str(request_log)]
    keys = ["--api-key", API_KEY, "--api-secret", API_SECRET]
    environment = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata_url,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": metadata_url,
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        # A run that the scheduler makes must find its connections.
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # by its answer a task hears that it was marked as failed
        "CAUGHT_UP_FROM": MISSED[0].isoformat(),
        "CAUGHT_UP_TO": MISSED[-1].isoformat(),
        "CANARIES": str(canaries),
        "ROTATED_STOP": str(rotated_stop),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    # Two files that a task waits for, once each, until it is killed.
    hangs = [f"--fault=hang=120:1@{name}" for name in SLOW_FILES]
    simulator = LocalSimulator(*arguments, *keys, *hangs, log_file=folder / "simulator.log")
    with simulator, LocalAirflow(folder / "airflow", dags_folder=dags_folder, environment=environment) as airflow:
        session = airflow.session
        extra = simulator.connection_extra()
        binance = {"login": API_KEY, "password": API_SECRET, "extra": extra}
        airflow.create_connection({"connection_id": "binance_default", "conn_type": "binance", **binance})
        airflow.create_connection({"connection_id": "ingest_default", "conn_type": "sqlite", "host": str(store)})
        airflow.create_connection({"connection_id": "caught_up_store", "conn_type": "sqlite", "host": str(caught_up)})
        airflow.create_connection({"connection_id": "killed_store", "conn_type": "sqlite", "host": str(killed)})
        patient = {"extra": {**extra, "request_timeout_seconds": 120}}
        airflow.create_connection({"connection_id": "patient", "conn_type": "binance", **patient})
        universe = {"spot": [{"symbols": SYMBOLS, "intervals": ["1h"]}]}
        airflow.set_variable("binance_universe", universe)
        airflow.wait_for_dags("binance_daily", "binance_backfill", "caught_up")
        airflow.unpause("binance_daily", "binance_backfill", "caught_up")
        yield Scene(airflow, store, caught_up, killed, request_log, canaries, rotated_stop, extra, metadata_url)
    assert session_members(session) == []


def truth(symbol: str, interval: str, start: str, end: str) -> list[tuple[int, str]]:
    """Open time in µs and close of every row, by a simulator of the same seed."""
    with Simulator(seed=7, now=NOW, speed=0, symbols=SYMBOLS) as simulator:
        rows = simulator.truth("spot", symbol, interval, start, end)
    return [(row[0] * 1000, plain(row[4])) for row in rows]


def plain(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


def stored(store: Path, symbol: str, interval: str, start: str, end: str) -> list[tuple[int, str]]:
    """Open time in µs and close of the rows of a window."""
    rows = rows_of(store, symbol, interval)
    return [(row[3], row[7]) for row in rows if us(start) <= row[3] < us(end)]


def check_days(store: Path, first: str, end: str, symbols: list[str] = SYMBOLS) -> None:
    """Every hour of the days in `[first, end)` is stored as the market had it, loaded once, and covered."""
    start_us, end_us = us(first), us(end)
    for symbol in symbols:
        expected = truth(symbol, "1h", first, end)
        assert stored(store, symbol, "1h", first, end) == expected
        assert covered(store, symbol, start_us, end_us) == len(expected)
        days = range(start_us, end_us, 86_400_000_000)
        assert loaded_days(store, symbol, start_us, end_us) == [(day, 24) for day in days]


def covered(store: Path, symbol: str, start_us: int, end_us: int) -> int:
    """Hours of a window that the ledger calls complete, by plain SQL."""
    query = (
        "SELECT sum(min(range_end, ?) - max(range_start, ?)) FROM coverage "
        "WHERE symbol = ? AND interval = '1h' AND state = 'complete' AND range_end > ? AND range_start < ?"
    )
    with closing(sqlite3.connect(store)) as database:
        [found] = database.execute(query, (end_us, start_us, symbol, start_us, end_us)).fetchone()
    return (found or 0) // 3_600_000_000


def loaded_days(store: Path, symbol: str, start_us: int, end_us: int) -> list[tuple[int, int]]:
    """Start and inserted rows of each batch that brought hours of a window: a day loaded twice is there twice.

    Batches by which a later run confirmed a day from the archive inserted nothing, and are left out.
    """
    query = (
        "SELECT range_start, rows_inserted FROM ingest_log "
        "WHERE symbol = ? AND interval = '1h' AND rows_inserted > 0 AND range_end > ? AND range_start < ? "
        "ORDER BY 1"
    )
    with closing(sqlite3.connect(store)) as database:
        return database.execute(query, (symbol, start_us, end_us)).fetchall()


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000
