"""Hours of streams with every fault again and again; at the end everything is there once, and any other loss is told.

SOAK_HOURS says how many simulated hours (0.5), SOAK_SYMBOLS how many of spot (10), SOAK_SPEED how fast they pass (20),
SOAK_TRADES how many trades a minute a symbol has (100), SOAK_FAULTS how often each fault strikes at least (3);
SOAK_SEED repeats the choices of a run (not its timing).
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from airflow_provider_binance.records import Series, State
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.store.base import open_store
from tests.stream.gate import Gate
from tests.stream.scene import EVER, Streaming, check, is_whole, ledger

HOURS = float(os.environ.get("SOAK_HOURS", "0.5"))
SYMBOLS = int(os.environ.get("SOAK_SYMBOLS", "10"))
SPEED = float(os.environ.get("SOAK_SPEED", "20"))
TRADES = int(os.environ.get("SOAK_TRADES", "100"))
SEED = int(os.environ.get("SOAK_SEED", str(time.time_ns() % 1_000_000)))
REAL_SECONDS = HOURS * 3600 / SPEED

#: Small enough to be filled by an outage.
SPOOL_BYTES = 40 * 4096
MOST_KB = 300 * 1024
#: So often each fault strikes at least, however short the run is.
LEAST = int(os.environ.get("SOAK_FAULTS", "3"))
#: What happens to streams, to the store, and to the process.
STREAM_FAULTS = {
    "cut": "stream-cut=1:1", "reset": "stream-reset=1:1", "stall": "stream-stall=120:1", "gap": "stream-gap=3:5",
    "shutdown": "server-shutdown=60:1", "duplicates": "stream-duplicates=20", "disorder": "stream-disorder=20",
    "no close": "no-close=2",
}  # fmt: skip
OTHERS = ("database down", "database hangs", "spool full", "kill", "kill in drain", "kill in repair", "end")

pytestmark = [pytest.mark.soak, pytest.mark.postgres, pytest.mark.timeout(600 + 20 * REAL_SECONDS)]


class Soak:
    """The processes one after the other, and what was done to them."""

    def __init__(self, simulator: Simulator, gate: Gate, store: str, folder: Path) -> None:
        self.simulator, self.gate, self.folder = simulator, gate, folder
        self.behind = make_url(store).set(host="127.0.0.1", port=gate.port).render_as_string(hide_password=False)
        self.random = random.Random(SEED)
        self.struck: Counter[str] = Counter()
        self.peaks: list[int] = []
        self.events = 0
        self.runs: list[Streaming] = []
        section = folder / "stream.yaml"
        names = [f"S{number:03}USDT" for number in range(SYMBOLS)]
        section.write_text(
            "stream:\n"
            f"  spot: {{symbols: [{', '.join(names)}], datasets: [klines, trades, agg_trades], intervals: [1m]}}\n"
            "  um: {symbols: [BTCUSDT], datasets: [klines, agg_trades, mark_prices], intervals: [1m]}\n"
        )
        self.words = ["--config", str(section), "--spool-bytes", str(SPOOL_BYTES)]
        self.exact = [
            *(Series("spot", "klines", name, "1m") for name in names),
            *(Series("spot", dataset, name) for name in names for dataset in ("trades", "agg_trades")),
            Series("um", "klines", "BTCUSDT", "1m"),
            Series("um", "agg_trades", "BTCUSDT"),
        ]
        self.marks = Series("um", "mark_prices", "BTCUSDT")

    @property
    def run(self) -> Streaming:
        return self.runs[-1]

    def start(self) -> None:
        """Begin, as a supervisor does: again where the store was away."""
        self.runs.append(Streaming(self.simulator, self.behind, self.folder, *self.words))
        self.run.until_said("flushed")

    def kill(self) -> None:
        self.run.kill()
        self.gone()
        self.start()

    def gone(self) -> None:
        self.peaks.append(self.run.peak_kb)
        self.run.close()

    def batches(self) -> int:
        return len(list((self.folder / "spool").glob("*.batch")))

    def strike(self, fault: str) -> None:
        """Let it happen, and have it over before the next."""
        self.struck[fault] += 1
        print(
            f"{time.strftime('%X')} {fault}: process={len(self.runs)} peak_mb={self.run.measure() // 1024}", flush=True
        )
        if fault in STREAM_FAULTS:
            self.simulator.add_fault(STREAM_FAULTS[fault])
            time.sleep(self.random.uniform(0, 1))
            return
        match fault:
            case "kill":
                time.sleep(self.random.uniform(0, 1))
                self.kill()
            case "kill in repair":
                self.simulator.add_fault(STREAM_FAULTS["gap"])
                self.simulator.add_fault(STREAM_FAULTS["cut"])
                self.run.until_said("gap:", self.run.said("gap:") + 1)
                time.sleep(self.random.uniform(0, 0.3))
                self.kill()
            case "end":
                status, report = self.run.end()
                assert status == 0, "".join(self.run.log[-40:])
                self.events += report["events"]
                self.gone()
                self.start()
            case _:
                self._outage(fault)

    def _outage(self, fault: str) -> None:
        begun, full = self.simulator.now_ms(), self.run.said("is full")
        if fault == "database hangs":
            self.gate.silence()
        else:
            self.gate.shut()
        if fault == "spool full":
            self.run.until(lambda: self.run.said("is full") > full, "the spool is not full")
        else:
            lasts_ms = 600_000 if fault == "database down" else 60_000
            self.run.until(lambda: self.simulator.now_ms() - begun > lasts_ms and self.batches() > 0, "nothing spooled")
        if fault == "database hangs":
            self.gate.shut()
        self.gate.open()
        if fault == "kill in drain":
            self.run.until(lambda: True, "")
            time.sleep(self.random.uniform(0, 1.2))
            self.kill()
        self.run.until(lambda: self.batches() == 0, "not drained")


def test_nothing_is_lost_and_nothing_is_twice(postgres_database: str, tmp_path: Path) -> None:
    symbols = [*(f"spot:S{number:03}USDT" for number in range(SYMBOLS)), "um:BTCUSDT"]
    with (
        Simulator(
            seed=SEED, symbols=symbols, now="2024-06-15T12:30:20Z", speed=SPEED, limits=False, trades_per_minute=TRADES
        ) as simulator,
        Gate(make_url(postgres_database).port or 5432) as gate,
    ):
        soak = Soak(simulator, gate, postgres_database, tmp_path)
        try:
            began = time.monotonic()
            soak.start()
            begun_ms = simulator.now_ms()
            todo = [fault for fault in (*STREAM_FAULTS, *OTHERS) for _ in range(LEAST)]
            soak.random.shuffle(todo)
            while todo or time.monotonic() - began < REAL_SECONDS:
                soak.strike(todo.pop() if todo else soak.random.choice([*STREAM_FAULTS, *OTHERS]))
                time.sleep(soak.random.uniform(0, 2) if todo else soak.random.uniform(0, REAL_SECONDS / 50))
            simulator.clear_faults()
            now_us = simulator.now_ms() * 1000
            soak.run.until(lambda: is_whole(postgres_database, soak.exact, now_us, now_us), "not whole again", 240)
            status, report = soak.run.end()
            assert status == 0
            soak.events += report["events"]
            soak.gone()

            rows = sum(check(simulator, postgres_database, series) for series in soak.exact)
            lost_seconds = _marks_are_there_or_told(simulator, postgres_database, soak.marks)
            hours = (simulator.now_ms() - begun_ms) / 3_600_000
            print(
                f"\nsoak: seed={SEED} hours={hours:.2f} symbols={SYMBOLS} rows={rows} lost=0 twice=0 "
                f"mark_prices_told_lost_seconds={lost_seconds:.0f} processes={len(soak.runs)} "
                f"peak_mb={max(soak.peaks) / 1024:.0f} peaks_mb={[peak // 1024 for peak in soak.peaks]}\n"
                f"faults: {dict(sorted(soak.struck.items()))}"
            )
            assert max(soak.peaks) <= MOST_KB
        finally:
            for run in soak.runs:
                run.close()


def _marks_are_there_or_told(simulator: Simulator, store: str, series: Series) -> float:
    """Each event is a row, or lies in a range that says why not; how many seconds such ranges have."""
    known = ledger(store, series)
    assert {one.state for one in known} <= {State.COMPLETE, State.UNAVAILABLE}
    assert all(one.evidence for one in known if one.state is State.UNAVAILABLE)
    assert all(a.end_us == b.start_us for a, b in pairwise(known)), "something is not told"
    with open_store(store) as opened:
        there = [row[0] for row in opened.rows(series.dataset, series, *EVER)]
    start_us, end_us = known[0].start_us, known[-1].end_us
    name = f"{series.symbol.lower()}@markPrice@1s"
    sent = [event["E"] * 1000 for event in simulator.streamed(series.market, name, start_us // 1000, end_us // 1000)]
    gone = [(one.start_us, one.end_us) for one in known if one.state is State.UNAVAILABLE]
    lost = set(sent) - set(there)
    assert [at for at in sorted(lost) if not any(low <= at < high for low, high in gone)] == []
    assert len(there) == len(set(there))
    assert set(there) <= set(sent) | {at for at in there if not start_us <= at < end_us}
    return sum(high - low for low, high in gone) / 1e6
