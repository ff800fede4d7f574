"""Repair and verification as tasks, and `binance_gap_repair` by `dag.test`, on real rows of the simulator."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_provider_binance import ingest
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import BannedError, InputError, UnexplainedGapError
from airflow_provider_binance.example_dags.binance_gap_repair import make_gap_repair_dag
from airflow_provider_binance.example_dags.notifying import GapNotifier
from airflow_provider_binance.example_dags.planning import stored_chunks
from airflow_provider_binance.hooks.binance import BinanceHook
from airflow_provider_binance.operators.binance import BinanceRepairOperator, BinanceVerifyOperator
from airflow_provider_binance.simulator.server import Simulator
from tests.airflow.conftest import END, NOW, START, extras, rows_of
from tests.airflow.test_dags import ONCE, run, states

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("connections")]


@pytest.fixture
def stored(simulator: Simulator, store_path: Path) -> list[tuple[Any, ...]]:
    """A day of two symbols, hours."""
    config = BinanceConfig(store_url=f"sqlite:///{store_path}", rate_limit_store="memory://", **extras(simulator))
    ingest.load(market="spot", symbols="BTCUSDT,ETHUSDT", intervals="1h", start=START, end=END, config=config)
    return rows_of(store_path)


def damage(path: Path, *statements: str) -> int:
    """Behind the ledger's back; how many rows were changed."""
    with closing(sqlite3.connect(path)) as database, database:
        return sum(database.execute(statement).rowcount for statement in statements)


LOSE = "DELETE FROM klines_data WHERE open_time % 10800000000 = 0"
HALT = "missing-both=ETHUSDT:1h:2026-11-20T03:00:00Z..2026-11-20T05:00:00Z"


def execute(operator: Any) -> dict[str, Any]:
    report: dict[str, Any] = operator.execute({})
    json.dumps(report)
    return report


def test_repair_brings_back_what_was_lost(stored: list[Any], store_path: Path) -> None:
    lost = damage(store_path, LOSE)
    assert lost == 16
    report = execute(BinanceRepairOperator(task_id="repair", symbols="['*']", on_gap="fail"))
    assert (report["rows_inserted"], report["findings_open"]) == (lost, 0)
    assert rows_of(store_path) == stored
    again = execute(BinanceRepairOperator(task_id="repair"))
    assert (again["rows_inserted"], again["findings_found"], again["weight_used"]) == (0, 0, 0)
    with pytest.raises(AirflowSkipException):
        execute(BinanceRepairOperator(task_id="repair", skip_on_no_change="True"))


def test_verify_finds_and_fixes_a_changed_digit(stored: list[Any], store_path: Path) -> None:
    damage(
        store_path, "UPDATE klines_data SET close = close || '1' WHERE series_id = 1 AND open_time % 86400000000 = 0"
    )
    clean = execute(BinanceVerifyOperator(task_id="verify"))
    assert clean["rows"] == 48
    with pytest.raises(AirflowFailException, match="1 findings are neither repaired nor explained, first spot klines"):
        execute(BinanceVerifyOperator(task_id="verify", against="archive", on_gap="fail"))
    report = execute(BinanceVerifyOperator(task_id="verify", against="['archive', 'rest']", fix="True", on_gap="fail"))
    assert (report["by_class"], report["findings_open"]) == ({"ours": 1}, 0)
    assert rows_of(store_path) == stored


@pytest.mark.parametrize(
    ("operator", "arguments", "part"),
    [
        (BinanceRepairOperator, {"symbols": "SOLUSDT"}, "nothing of SOLUSDT"),
        (BinanceRepairOperator, {"source": "ftp"}, "unknown source 'ftp'"),
        (BinanceRepairOperator, {"market": "margin"}, "margin"),
        (BinanceVerifyOperator, {"against": "stream"}, "archive, rest or both"),
        (BinanceVerifyOperator, {"fix": "perhaps"}, "neither true nor false"),
        (BinanceVerifyOperator, {"on_gap": "shrug"}, "accepted: warn, fail"),
    ],
)
def test_a_mistake_fails_for_good(stored: list[Any], operator: Any, arguments: dict[str, Any], part: str) -> None:
    with pytest.raises(AirflowFailException, match=part):
        execute(operator(task_id="upkeep", **arguments))


@pytest.fixture
def ticks(connections: None, store_path: Path, set_connection: Callable[..., None]) -> Iterator[BinanceConfig]:
    """Twenty minutes of aggregates and trades of both of two symbols, and a day of hours of one of them."""
    symbols = ["BTCUSDT", "ETHUSDT"]
    with Simulator(seed=7, now=NOW, speed=0, symbols=symbols, limits=False, trades_per_minute=100) as simulator:
        set_connection("binance_default", conn_type="binance", extra=extras(simulator))
        config = BinanceConfig(store_url=f"sqlite:///{store_path}", rate_limit_store="memory://", **extras(simulator))
        ingest.load(market="spot", symbols="BTCUSDT", intervals="1h", start=START, end=END, config=config)
        for dataset in TICKS:
            ingest.load(
                market="spot", symbols="BTCUSDT,ETHUSDT", dataset=dataset, start=START, end=SOON, source="rest",
                config=config,
            )  # fmt: skip
        yield config


TICKS = ("agg_trades", "trades")
SOON = "2026-11-18T00:20:00Z"


def ticks_of(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All columns of all ticks."""
    with closing(sqlite3.connect(path)) as database:
        return {name: database.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3").fetchall() for name in TICKS}


@pytest.mark.usefixtures("ticks")
def test_ticks_are_repaired_and_verified(store_path: Path) -> None:
    """What was deleted behind the ledger's back is found by its ids, and brought back."""
    whole = ticks_of(store_path)
    lost = {name: damage(store_path, f"DELETE FROM {name}_data WHERE {name[:-1]}_id % 300 < 30") for name in TICKS}
    for name in TICKS:
        told = execute(BinanceVerifyOperator(task_id="verify", dataset=name))
        assert told["by_kind"].keys() == {"rows_missing"}
        report = execute(BinanceRepairOperator(task_id="repair", dataset=name, on_gap="fail"))
        assert (report["rows_inserted"], report["findings_open"]) == (lost[name], 0)
        assert execute(BinanceVerifyOperator(task_id="verify", dataset=name, on_gap="fail"))["findings_found"] == 0
    assert ticks_of(store_path) == whole
    with pytest.raises(AirflowFailException, match="dataset trades has no intervals: leave 1h out"):
        execute(BinanceVerifyOperator(task_id="verify", dataset="trades", intervals="1h"))


@pytest.mark.usefixtures("ticks")
def test_chunks_are_of_one_dataset() -> None:
    """Without `datasets` they are all there are; intervals are those of klines."""

    def chunks(**given: Any) -> list[tuple[Any, ...]]:
        return [tuple(chunk.values()) for chunk in stored_chunks(BinanceHook(), **given)]

    both = ["BTCUSDT", "ETHUSDT"]
    klines = ("spot", "klines", ["BTCUSDT"], None)
    assert chunks(most=3) == [klines, ("spot", "agg_trades", both, None), ("spot", "trades", both, None)]
    assert chunks(symbols="ETHUSDT") == [("spot", name, ["ETHUSDT"], None) for name in TICKS]
    assert chunks(datasets="trades", most=1) == [("spot", "trades", both, None)]
    assert chunks(intervals=["1h"]) == [(*klines[:3], ["1h"])]
    assert chunks(datasets=["klines", "trades"], intervals=["1h"], most=2) == [
        (*klines[:3], ["1h"]), ("spot", "trades", both, None)
    ]  # fmt: skip
    for given, told in (
        ({"datasets": ["trades"], "intervals": ["1h"]}, "dataset trades has no intervals: leave 1h out"),
        ({"datasets": ["candles"]}, "unknown dataset 'candles'"),
        ({"datasets": ["book_tickers"]}, "cannot be checked by this version; it checks: klines agg_trades trades"),
        ({"symbols": "SOLUSDT"}, "nothing of SOLUSDT"),
    ):
        with pytest.raises(InputError, match=told):
            chunks(**given)


@pytest.mark.usefixtures("metadata", "ticks")
def test_the_dag_mends_ticks_too(store_path: Path) -> None:
    """Without a word about datasets: all that is stored."""
    whole = ticks_of(store_path)
    for name in TICKS:
        damage(store_path, f"DELETE FROM {name}_data WHERE {name[:-1]}_id % 200 < 20")
    done = run(make_gap_repair_dag("gap_repair_ticks", task_arguments=ONCE, most_chunks=3))
    assert str(done.state) == "success"
    assert ticks_of(store_path) == whole


def test_what_is_open_fails_a_repair_that_may_be_tried_again(
    simulator: Simulator, stored: list[Any], store_path: Path
) -> None:
    """A young hole is not explained yet."""
    simulator.add_fault(HALT)
    config = BinanceConfig(store_url=f"sqlite:///{store_path}", rate_limit_store="memory://", **extras(simulator))
    ingest.load(market="spot", symbols="ETHUSDT", intervals="1h", start=END, end="2026-11-20T10:00:00Z", config=config)
    with pytest.raises(UnexplainedGapError, match="first spot klines ETHUSDT 1h 2026-11-20T03:00:00Z"):
        execute(BinanceRepairOperator(task_id="repair", early=True, on_gap="fail"))
    assert execute(BinanceRepairOperator(task_id="repair"))["findings_open"] == 1


def test_what_was_found_before_binance_refused_is_told(
    stored: list[Any], store_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ban in the middle: the task may be tried again, and what is open is in its log."""
    damage(store_path, LOSE)
    simulator.add_fault("418=7200@/klines")
    operator = BinanceVerifyOperator(task_id="verify", against="rest", on_gap="fail")
    told: list[Any] = []
    monkeypatch.setattr(operator.log, "warning", lambda text, *values: told.append(values))
    try:
        with pytest.raises(BannedError):
            execute(operator)
    finally:
        simulator.clear_faults()
    assert {str(values[3]) for values in told} == {"rows_missing"}


def test_chunks_are_few_and_of_one_market(simulator: Simulator, store_path: Path) -> None:
    config = BinanceConfig(store_url=f"sqlite:///{store_path}", rate_limit_store="memory://", **extras(simulator))
    for market, symbols in (("spot", "BTCUSDT,ETHUSDT"), ("um", "BTCUSDT"), ("cm", "BTCUSD_PERP")):
        ingest.load(market=market, symbols=symbols, intervals="1d,1h", start=START, end=END, config=config)
    spot, um, cm = (
        {"market": market, "dataset": "klines", "symbols": symbols, "intervals": None}
        for market, symbols in [("spot", ["BTCUSDT", "ETHUSDT"]), ("um", ["BTCUSDT"]), ("cm", ["BTCUSD_PERP"])]
    )

    def chunks(**given: Any) -> list[dict[str, Any]]:
        found = stored_chunks(BinanceHook(), **given)
        return sorted(found, key=lambda chunk: ("spot", "um", "cm").index(chunk["market"]))

    assert chunks(most=3) == chunks(most=1) == [spot, um, cm]
    assert len(chunks()) == 4
    assert chunks(market="um") == [um]
    assert chunks(symbols="BTC*", most=2) == [{**spot, "symbols": ["BTCUSDT"]}, um, cm]


@pytest.mark.usefixtures("metadata")
def test_the_dag_fills_and_verifies(stored: list[Any], store_path: Path) -> None:
    damage(store_path, LOSE)
    done = run(make_gap_repair_dag(task_arguments=ONCE))
    assert str(done.state) == "success"
    assert states(done) == {
        ("stored", -1): "success", ("repair", 0): "success", ("repair", 1): "success",
        ("verify", 0): "success", ("verify", 1): "success",
    }  # fmt: skip
    assert rows_of(store_path) == stored


@pytest.mark.usefixtures("metadata")
def test_the_dag_has_nothing_to_do_in_an_empty_store(store_path: Path) -> None:
    done = run(make_gap_repair_dag(task_arguments=ONCE))
    assert str(done.state) == "success"
    assert states(done)[("repair", -1)] == "skipped"


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A chat: its address, and what was posted to it."""
    heard: list[dict[str, Any]] = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard.append({"path": self.path, **body})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hooks", heard
        server.shutdown()


@pytest.mark.usefixtures("metadata")
def test_what_remains_open_is_told(
    simulator: Simulator,
    stored: list[Any],
    store_path: Path,
    webhook: tuple[str, list[dict[str, Any]]],
    set_connection: Callable[..., None],
) -> None:
    """The task `verify` fails, and the notifier posts the first of what is missing."""
    url, heard = webhook
    set_connection("gaps_chat", conn_type="http", host=url, password="t0ken")
    simulator.add_fault(HALT)
    config = BinanceConfig(store_url=f"sqlite:///{store_path}", rate_limit_store="memory://", **extras(simulator))
    ingest.load(market="spot", symbols="ETHUSDT", intervals="1h", start=END, end="2026-11-20T10:00:00Z", config=config)
    done = run(make_gap_repair_dag(task_arguments=ONCE, notifiers=[GapNotifier("gaps_chat")]))
    assert str(done.state) == "failed"
    assert {state for (task, _), state in states(done).items() if task == "repair"} == {"success"}
    assert sorted(state for (task, _), state in states(done).items() if task == "verify") == ["failed", "success"]
    [told] = heard
    assert told["path"] == "/hooks/t0ken"
    assert "binance_gap_repair" in told["text"]
    assert "first spot klines ETHUSDT 1h 2026-11-20T03:00:00Z (gap)" in told["text"]


def test_a_webhook_out_of_reach_is_logged_without_its_secret(
    set_connection: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    set_connection("gaps_chat", conn_type="http", host="http://127.0.0.1:9", password="t0ken")
    notifier = GapNotifier("gaps_chat", message="something is missing")
    notifier.notify({})  # type: ignore[typeddict-item]
    told = "".join(capsys.readouterr())
    assert "something is missing" in told
    assert "cannot be reached" in told
    assert "t0ken" not in told
