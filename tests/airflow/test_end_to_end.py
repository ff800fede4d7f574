"""A real Airflow, all by its REST interface, against the simulator in a process of its own; and no secret anywhere."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance.simulator.server import Simulator
from scripts.local_airflow import AirflowError, LocalAirflow, session_members
from scripts.local_simulator import LocalSimulator
from tests.airflow.conftest import API_KEY, API_SECRET, rows_of

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]

REPO = Path(__file__).resolve().parents[2]
NOW = "2026-11-20T12:00:30Z"
SYMBOLS = ["BTCUSDT", "ETHUSDT"]
FORM = {"market": "spot", "symbols": ["BTCUSDT"], "more_symbols": "ETHUSDT", "intervals": ["1m", "1h"]}
WINDOW = {"start": "2026-10-30T00:00:00+00:00", "end": "2026-11-03T00:00:00+00:00"}


@dataclass(frozen=True)
class Scene:
    airflow: LocalAirflow
    store: Path
    request_log: Path

    def run(self, dag_id: str, conf: dict[str, Any]) -> tuple[str, str]:
        run_id = self.airflow.trigger(dag_id, conf)
        return run_id, self.airflow.wait_for_run(dag_id, run_id)

    def reports(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        loads = [task for task in self.airflow.task_instances(dag_id, run_id) if task["task_id"] == "load"]
        return [self.airflow.xcom(dag_id, run_id, "load", map_index=task["map_index"]) for task in loads]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Airflow at DEBUG with a key in its connection, stopped without a trace afterwards."""
    folder = tmp_path_factory.mktemp("scene")
    store, request_log = folder / "ingest.db", folder / "requests.jsonl"
    arguments = ["--seed", "7", "--now", NOW, "--speed", "0", "--symbols", *SYMBOLS, "--request-log", str(request_log)]
    environment = {
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    simulator = LocalSimulator(*arguments, log_file=folder / "simulator.log")
    with simulator, LocalAirflow(folder / "airflow", dags_folder=REPO / "dags", environment=environment) as airflow:
        session = airflow.session
        binance = {"login": API_KEY, "password": API_SECRET, "extra": simulator.connection_extra()}
        airflow.create_connection({"connection_id": "binance_default", "conn_type": "binance", **binance})
        airflow.create_connection({"connection_id": "ingest_default", "conn_type": "sqlite", "host": str(store)})
        universe = {"spot": [{"symbols": SYMBOLS, "intervals": ["1h"]}]}
        airflow.set_variable("binance_universe", universe)
        airflow.wait_for_dags("binance_daily", "binance_backfill")
        yield Scene(airflow, store, request_log)
    assert session_members(session) == []


def truth(symbol: str, interval: str, start: str, end: str) -> list[tuple[int, str]]:
    """Open time in µs and close of every row, by a simulator of the same seed."""
    with Simulator(seed=7, now=NOW, speed=0, symbols=SYMBOLS) as simulator:
        rows = simulator.truth("spot", symbol, interval, start, end)
    return [(row[0] * 1000, plain(row[4])) for row in rows]


def plain(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


def stored(store: Path, symbol: str, interval: str) -> list[tuple[int, str]]:
    return [(row[3], row[7]) for row in rows_of(store, symbol, interval)]


def test_form_dag_loads_once(scene: Scene) -> None:
    run_id, state = scene.run("binance_backfill", {**FORM, **WINDOW})
    assert state == "success"
    expected = 2 * 4 * (1440 + 24)
    assert sum(report["rows_inserted"] for report in scene.reports("binance_backfill", run_id)) == expected
    for symbol in SYMBOLS:
        for interval in ("1m", "1h"):
            assert stored(scene.store, symbol, interval) == truth(symbol, interval, WINDOW["start"], WINDOW["end"])
    again, state = scene.run("binance_backfill", {**FORM, **WINDOW})
    assert state == "success"
    assert [report["rows_inserted"] for report in scene.reports("binance_backfill", again)] == [0]


def test_api_refuses_what_the_form_does_not_offer(scene: Scene) -> None:
    with pytest.raises(AirflowError, match="HTTP 4"):
        scene.airflow.trigger("binance_backfill", {**FORM, "market": "margin"})


def test_backfill_of_the_daily_dag(scene: Scene) -> None:
    """Two days by the interface of the UI's Backfill tab."""
    first, last = "2026-11-10T00:00:00Z", "2026-11-11T00:00:00Z"
    assert scene.airflow.backfill("binance_daily", first, last) == ["success", "success"]
    for symbol in SYMBOLS:
        found = [row for row in stored(scene.store, symbol, "1h") if row[0] >= us(first)]
        assert found == truth(symbol, "1h", first, "2026-11-12T00:00:00Z")


def test_failure_tells_what_is_wrong_at_the_first_try(scene: Scene) -> None:
    run_id, state = scene.run("binance_backfill", {**FORM, **WINDOW, "symbols": ["BTCUSDTT"], "more_symbols": ""})
    assert state == "failed"
    [planning] = [t for t in scene.airflow.task_instances("binance_backfill", run_id) if t["task_id"] == "plan_chunks"]
    assert planning["try_number"] == 1
    assert "BTCUSDTT" in scene.airflow.task_logs()


def test_no_secret_is_anywhere(scene: Scene) -> None:
    """Runs last: logs at DEBUG, reports, ledger and every file below Airflow's home but its encrypted database."""
    [run] = scene.airflow.call("GET", "/api/v2/dags/binance_backfill/dagRuns?limit=1")["dag_runs"][:1]
    xcoms = json.dumps(scene.reports("binance_backfill", run["dag_run_id"]))
    logs = [
        path for path in scene.airflow.home.rglob("*") if path.is_file() and path.suffix in (".log", ".json", ".cfg")
    ]
    assert any("dag_id=binance_backfill" in str(path) for path in logs)
    texts = {str(path): path.read_text(errors="replace") for path in logs}
    texts["xcom"] = xcoms
    texts["store"] = scene.store.read_bytes().decode("latin-1")
    texts["metadata"] = "".join(
        path.read_bytes().decode("latin-1") for path in scene.airflow.home.glob("airflow.db*") if path.is_file()
    )
    # Logins are kept in the clear by Airflow itself, in its own database.
    assert leaks({**texts, "metadata": ""}, [API_KEY, API_SECRET]) == []
    assert leaks({"metadata": texts["metadata"]}, [API_SECRET]) == []


def test_no_key_is_sent_where_none_is_needed(scene: Scene) -> None:
    requests = [json.loads(line) for line in scene.request_log.read_text().splitlines()]
    assert any("/archive" in request["path"] for request in requests)
    assert any("/api/v3/" in request["path"] for request in requests)
    for request in requests:
        assert "x-mbx-apikey" not in {name.lower() for name, _ in request["headers"]}, request["path"]


@pytest.mark.parametrize("spelling", range(3))
def test_a_planted_leak_is_found(spelling: int) -> None:
    assert leaks({"log": f"x {spellings(API_KEY)[spelling]} y"}, [API_KEY]) == ["log"]


def spellings(secret: str) -> list[str]:
    """Plain, URL-encoded, base64."""
    return [secret, urllib.parse.quote(secret, safe=""), base64.b64encode(secret.encode()).decode()]


def leaks(texts: dict[str, str], secrets: list[str]) -> list[str]:
    """Names of the texts that hold a secret in any spelling."""
    wanted = [spelling for secret in secrets for spelling in spellings(secret)]
    return [name for name, text in texts.items() if any(spelling in text for spelling in wanted)]


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000
