"""Nothing lost and nothing twice, whatever happens to the store, the streams and the process."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from sqlalchemy.engine import make_url

from airflow_provider_binance.records import Series
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.stream.spool import Spool
from tests.stream.gate import Gate
from tests.stream.scene import Streaming, check, is_whole

pytestmark = pytest.mark.postgres

SPOT = [
    Series("spot", "klines", "BTCUSDT", "1m"),
    *(Series("spot", name, "BTCUSDT") for name in ("trades", "agg_trades")),
]
WORDS = ["--market", "spot", "--symbol", "BTCUSDT", "--interval", "1m", "--dataset", "klines", "trades", "agg_trades"]


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(
        seed=7, symbols=["spot:BTCUSDT"], now="2024-06-15T12:30:20Z", speed=60, limits=False, trades_per_minute=120
    ) as simulator:
        yield simulator


@pytest.fixture
def gate(postgres_database: str) -> Iterator[Gate]:
    with Gate(make_url(postgres_database).port or 5432) as gate:
        yield gate


def through(gate: Gate, url: str) -> str:
    """The same database behind the gate."""
    return make_url(url).set(host="127.0.0.1", port=gate.port).render_as_string(hide_password=False)


def batches(folder: Path) -> int:
    return len(list((folder / "spool").glob("*.batch")))


def healed(streaming: Streaming, simulator: Simulator, store: str) -> None:
    """Until the ledger lacks nothing of what has been up to now."""
    now_us = simulator.now_ms() * 1000
    streaming.until(lambda: is_whole(store, SPOT, now_us, now_us), "not whole again")


def test_an_outage_is_spooled_and_a_kill_in_it_loses_nothing(
    simulator: Simulator, gate: Gate, postgres_database: str, tmp_path: Path
) -> None:
    behind = through(gate, postgres_database)
    runs = [Streaming(simulator, behind, tmp_path, *WORDS)]
    try:
        runs[-1].until_said("flushed", 3)
        gate.shut()
        runs[-1].until(lambda: batches(tmp_path) >= 2, "nothing spooled")
        runs[-1].kill()
        assert batches(tmp_path) >= 2

        # While the store is away nothing can begin, and what was spooled stays.
        runs.append(Streaming(simulator, behind, tmp_path, *WORDS))
        assert runs[-1].process.wait(60) == 5
        assert batches(tmp_path) >= 2

        gate.open()
        runs.append(Streaming(simulator, behind, tmp_path, *WORDS))
        healed(runs[-1], simulator, postgres_database)
        status, report = runs[-1].end()
        assert (status, batches(tmp_path)) == (0, 0)
        assert report["gaps"] >= 1
        for series in SPOT:
            assert check(simulator, postgres_database, series) > 5
    finally:
        for run in runs:
            run.close()


@pytest.mark.soak
def test_a_store_that_hangs_blocks_nobody_and_its_rows_are_kept_at_the_end(
    simulator: Simulator, gate: Gate, postgres_database: str, tmp_path: Path
) -> None:
    words = [*WORDS, "--health-port", "0"]
    runs = [run := Streaming(simulator, through(gate, postgres_database), tmp_path, *words)]
    try:
        run.until_said("flushed", 3)
        [port] = {found for line in run.log for found in re.findall(r"health: port=(\d+)", line)}

        def events() -> float:
            metrics = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
            return sum(
                float(value) for value in re.findall(r"^binance_stream_events_total.* (\S+)$", metrics, re.MULTILINE)
            )

        gate.silence()
        before = events()
        run.until(lambda: batches(tmp_path) >= 2 and events() > before + 200, "the loop waits for the store")
        assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=10).ok
        with pytest.raises(Exception, match=f"another process uses the spool {tmp_path}"):
            Spool(tmp_path / "spool", max_bytes=1)

        began = time.monotonic()
        status, report = run.end()
        assert status == 0, "".join(run.log[-30:])
        assert report["events"] > before
        assert time.monotonic() - began < 30
        assert batches(tmp_path) >= 2
        gate.shut()
        gate.open()

        runs.append(run := Streaming(simulator, through(gate, postgres_database), tmp_path, *words))
        run.until(lambda: batches(tmp_path) == 0, "the spool is not drained")
        healed(run, simulator, postgres_database)
        assert run.end(signal.SIGINT)[0] == 130
        for series in SPOT:
            check(simulator, postgres_database, series)
    finally:
        for run in runs:
            run.close()


@pytest.mark.soak
def test_a_full_spool_stops_reading_and_what_was_not_read_is_repaired(
    simulator: Simulator, gate: Gate, postgres_database: str, tmp_path: Path
) -> None:
    """Cuts, stalls and an announced end on top of it."""
    few = ["--spool-bytes", "16384"]
    run = Streaming(simulator, through(gate, postgres_database), tmp_path, *WORDS, *few)
    try:
        run.until_said("flushed", 3)
        gate.shut()
        run.until_said("is full")
        simulator.add_fault("stream-cut=1:1")
        run.until_said("connection lost")
        run.until_said("connected", 2)
        simulator.add_fault("server-shutdown=30:1")
        simulator.add_fault("stream-gap=3:3")
        gate.open()
        run.until_said("gap:")
        run.until(lambda: batches(tmp_path) == 0, "the spool is not drained")
        healed(run, simulator, postgres_database)
        status, report = run.end()
        assert status == 0
        assert report["connects"] >= 2
        assert report["mended_rows"] > 0
        for series in SPOT:
            check(simulator, postgres_database, series)
    finally:
        run.close()
