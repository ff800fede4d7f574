"""`binance-ingest stream` against the simulator: every closed kline is stored once, whatever happens to the streams."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_binance.cli import main
from airflow_provider_binance.market import INTERVALS, Market, iso
from airflow_provider_binance.normalize import page_rows
from airflow_provider_binance.records import Series, State
from airflow_provider_binance.registry import KLINES
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.store.base import open_store

NOW = "2024-06-15T12:30:20Z"
EVER = (0, 2**53)
SECONDS = 90


@contextmanager
def streaming(simulator: Simulator, store: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a process of its own."""
    environ = {**os.environ, **simulator.env(), "BINANCE_RATE_LIMIT_STORE": "memory://"}
    command = [sys.executable, "-m", "airflow_provider_binance.cli", "stream", "--store", store, "--json", "-v", *words]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, Any, str]:
    """Exit status, the report, and what was logged."""
    process.send_signal(number)
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, json.loads(out)["stream"] if out else None, err


def stored(store: str, series: Series) -> list[Any]:
    with open_store(store) as opened:
        return list(opened.rows("klines", series, *EVER))


def wait_for(store: str, series: Series, count: int, process: subprocess.Popen[str]) -> None:
    """Until so many klines of the series are there."""
    deadline = time.monotonic() + SECONDS
    while len(stored(store, series)) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"{len(stored(store, series))} klines of {count}"
        time.sleep(0.2)


def check(simulator: Simulator, store: str, series: Series) -> None:
    """The rows are the simulator's own, none is lacking between first and last, and the ledger says so."""
    rows, grid = stored(store, series), INTERVALS[series.interval]
    opens = [row[0] for row in rows]
    assert opens == list(grid.opens(opens[0], opens[-1] + 1))
    end = grid.next_open(opens[-1])
    truth = simulator.truth(
        series.market, series.symbol, series.interval, iso(opens[0]), iso(end)
    )  # fmt: skip
    of_rest = page_rows(json.dumps(truth).encode(), Market(series.market), grid)
    names = of_rest.columns
    with open_store(store) as opened:
        places = [KLINES.column_names.index(name) for name in names]
        assert [tuple(row[place] for place in places) for row in rows] == list(of_rest.tuples())
        [known] = opened.coverage("klines", [series], *EVER)[series]
    assert (known.start_us, known.end_us, known.state, known.row_count) == (opens[0], end, State.COMPLETE, len(rows))
    assert known.confirmed_by is None


@pytest.mark.parametrize(
    ("market", "symbol", "faults", "connects"),
    [
        ("spot", "BTCUSDT", [], 1),
        ("um", "BTCUSDT", ["server-shutdown=300:1"], 1),
        ("cm", "BTCUSD_PERP", ["stream-cut=70:2", "stream-duplicates"], 3),
        ("spot", "BTCUSDT", ["no-close"], 1),
    ],
    ids=["as-it-is", "announced-end", "cuts", "no-close"],
)
def test_every_closed_kline_is_stored_as_the_exchange_has_it(
    tmp_path: Path, market: str, symbol: str, faults: list[str], connects: int
) -> None:
    store, series = f"sqlite:///{tmp_path}/ingest.db", Series(market, "klines", symbol, "1m")
    with (
        Simulator(seed=7, symbols=[f"{market}:{symbol}"], now=NOW, speed=60, faults=faults) as simulator,
        streaming(simulator, store, "--market", market, "--symbol", symbol, "--interval", "1m") as process,
    ):
        wait_for(store, series, 6, process)
        status, report, log = ended(process)

        assert status == 0, log
        assert report["events"] >= (0 if faults == ["no-close"] else 1)
        assert report["connects"] >= connects
        check(simulator, store, series)


@pytest.mark.postgres
def test_it_goes_on_beside_what_is_there(postgres_database: str) -> None:
    """What lies between the stored klines and the first of the stream is repaired; two intervals are two series."""
    store = postgres_database
    series = [Series("spot", "klines", "BTCUSDT", interval) for interval in ("1m", "3m")]
    words = ["--market", "spot", "--symbol", "BTCUSDT", "--interval", "1m", "3m"]
    with Simulator(seed=7, symbols=["spot:BTCUSDT"], now=NOW, speed=60) as simulator:
        with streaming(simulator, store, *words) as process:
            wait_for(store, series[0], 3, process)
            status, _, log = ended(process, signal.SIGINT)
            assert status == 130, log
        first_end = stored(store, series[0])[-1][0]
        simulator.set_clock("2024-06-15T13:10:20Z")
        with streaming(simulator, store, *words) as process:
            wait_for(store, series[0], 45, process)
            wait_for(store, series[1], 14, process)
            status, report, log = ended(process)
            assert status == 0, log
        assert report["mended_rows"] > 30
        assert stored(store, series[0])[-1][0] > first_end
        for one in series:
            check(simulator, store, one)


def test_health_port_tells_how_it_is(tmp_path: Path) -> None:
    store, series = f"sqlite:///{tmp_path}/ingest.db", Series("spot", "klines", "BTCUSDT", "1m")
    words = ["--market", "spot", "--symbol", "BTCUSDT", "--interval", "1m", "--health-port", "0"]
    with (
        Simulator(seed=7, symbols=["spot:BTCUSDT"], now=NOW, speed=60) as simulator,
        streaming(simulator, store, *words) as process,
    ):
        assert process.stderr is not None
        [port] = next(found for line in process.stderr if (found := re.findall(r"health: port=(\d+)", line)))
        url = f"http://127.0.0.1:{port}"
        wait_for(store, series, 2, process)
        assert requests.get(f"{url}/healthz", timeout=10).json() == {"ok": True, "problems": []}
        assert requests.get(f"{url}/readyz", timeout=10).json() == {"ok": True, "problems": []}
        metrics = requests.get(f"{url}/metrics", timeout=10).text
        told = dict(re.findall(r"^(binance_stream_\w+)(?:{[^}]*})? (\S+)$", metrics, re.MULTILINE))
        assert float(told["binance_stream_events_total"]) >= float(told["binance_stream_commit_lag_seconds_count"]) >= 2
        assert float(told["binance_stream_connections"]) == float(told["binance_stream_connects_total"]) == 1
        simulator.add_fault("http=503:1000")
        simulator.add_fault("stream-reset=1:1000")
        until = time.monotonic() + SECONDS
        while (answer := requests.get(f"{url}/readyz", timeout=10)).ok:
            assert time.monotonic() < until
            time.sleep(0.2)
        assert answer.json()["problems"] == ["does not deliver: connection=1 market=spot path=/ streams=1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--market", "spot", "--interval", "1m"], "--symbol is missing"),
        (["--market", "spot", "--symbol", "BTCUSDT"], "--interval is missing"),
        (["--symbol", "BTCUSDT", "--interval", "7m"], "unknown interval '7m'"),
        (
            ["--market", "um", "--symbol", "BTCUSDT", "--dataset", "trades"],
            "market um has no streams of dataset 'trades'",
        ),
        (["--market", "spot", "--symbol", "BTCUSDT", "--dataset", "mark_prices"], "it has: klines agg_trades trades"),
        (["--symbol", "BTCUSDT", "--interval", "1m", "--shard", "3/2"], "use i/n"),
        (["--market", "mars", "--symbol", "BTCUSDT", "--interval", "1m"], "unknown market 'mars'"),
    ],
)
def test_mistakes_are_told_in_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stream", *words]) == 2
    assert said in capsys.readouterr().err
