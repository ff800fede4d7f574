"""A sidecar as a process of its own, and what it has to leave in the store, whatever was done to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from airflow_provider_binance.market import INTERVALS, Market, iso
from airflow_provider_binance.normalize import page_rows
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.registry import dataset
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.store.base import open_store

EVER = (0, 2**53)
SECONDS = 90
_OF_REST = {
    "trades": ("trades", "id", "time", ("price", "qty")),
    "agg_trades": ("aggTrades", "a", "T", ("p", "q")),
}


class Streaming:
    """`binance-ingest stream` with `words`; `log` has what it said so far."""

    def __init__(self, simulator: Simulator, store: str, folder: Path, *words: str) -> None:
        environ = {**os.environ, **simulator.env(), "BINANCE_RATE_LIMIT_STORE": f"file://{folder}/budget.json"}
        command = [sys.executable, "-m", "airflow_provider_binance.cli", "stream", "--store", store, "--json", "-v"]
        self.process = subprocess.Popen(
            [*command, "--spool", str(folder / "spool"), *words],
            env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.log: list[str] = []
        self.peak_kb = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)

    def until(self, met: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
        """Wait until so it is, while the process lives."""
        deadline = time.monotonic() + seconds
        while not met():
            assert self.process.poll() is None, "".join(self.log[-60:])
            assert time.monotonic() < deadline, f"{what}\n" + "".join(self.log[-60:])
            time.sleep(0.05)
        self.measure()

    def until_said(self, text: str, count: int = 1) -> None:
        """Wait until its log has said that so often."""
        self.until(lambda: self.said(text) >= count, f"never said {text!r}")

    def said(self, text: str) -> int:
        """How many lines of its log have that in them."""
        return sum(text in line for line in self.log)

    def measure(self) -> int:
        """The most memory it took so far, in kB."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            self.peak_kb = max(self.peak_kb, *(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line))
        except (OSError, ValueError, TypeError):
            pass
        return self.peak_kb

    def kill(self) -> None:
        """As the kernel does it."""
        self.measure()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(SECONDS)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, dict[str, int]]:
        """Its exit status and report."""
        self.measure()
        self.process.send_signal(number)
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return self.process.returncode, json.loads(out)["stream"] if out else {}

    def close(self) -> None:
        """Whatever it does."""
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def ledger(store: str, series: Series) -> list[CoverageRange]:
    """What is known of the series."""
    with open_store(store) as opened:
        return opened.coverage(series.dataset, [series], *EVER)[series]


def is_whole(store: str, wanted: Sequence[Series], since_us: int, until_us: int) -> bool:
    """Whether nothing of that time is unexplained, for any of them."""
    with open_store(store) as opened:
        for series in wanted:
            at = None
            for known in opened.coverage(series.dataset, [series], *EVER)[series]:
                if known.state is not State.COMPLETE or (at is not None and known.start_us != at):
                    return False
                if at is None and known.start_us > since_us:
                    return False
                at = known.end_us
            if at is None or at < until_us:
                return False
    return True


def check(simulator: Simulator, store: str, series: Series) -> int:
    """Every row of what is complete is the exchange's own, there once, and none is lacking; how many there are."""
    known = ledger(store, series)
    assert [one.state for one in known if one.state is not State.COMPLETE] == []
    assert all(a.end_us == b.start_us for a, b in pairwise(known))
    start_us, end_us = known[0].start_us, known[-1].end_us
    with open_store(store) as opened:
        rows = list(opened.rows(series.dataset, series, start_us, end_us))
    expected = _klines(simulator, series, start_us, end_us) if series.interval else _ticks(
        simulator, series, start_us, end_us
    )  # fmt: skip
    found = [tuple(row[place] for place in expected[0]) for row in rows]
    lost, odd = set(expected[1]) - set(found), set(found) - set(expected[1])
    assert (sorted(lost)[:5], sorted(odd)[:5], len(found) - len(set(found))) == ([], [], 0), str(series)
    assert sum(one.row_count for one in known) == len(rows)
    return len(rows)


def _klines(simulator: Simulator, series: Series, start_us: int, end_us: int) -> tuple[list[int], list[Any]]:
    truth = simulator.truth(series.market, series.symbol, series.interval, iso(start_us), iso(end_us))
    of_rest = page_rows(json.dumps(truth).encode(), Market(series.market), INTERVALS[series.interval])
    names = dataset(series.dataset).column_names
    return [names.index(name) for name in of_rest.columns], list(of_rest.tuples())


def _ticks(simulator: Simulator, series: Series, start_us: int, end_us: int) -> tuple[list[int], list[Any]]:
    name, key, time_field, values = _OF_REST[series.dataset]
    is_spot = series.market == Market.SPOT
    truth = simulator.true_ticks(
        series.market, name, series.symbol, start_us // 1000, -(-end_us // 1000), microseconds=is_spot
    )
    names = dataset(series.dataset).column_names
    entry = dataset(series.dataset)
    places = [names.index(one) for one in (entry.key[0], entry.time_column, "price", "quantity")]
    unit = 1 if is_spot else 1000
    expected = [
        (row[key], row[time_field] * unit, *(_plain(row[value]) for value in values))
        for row in truth
        if start_us <= row[time_field] * unit < end_us
    ]
    return places, expected


def _plain(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number
