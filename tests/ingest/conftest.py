"""A workbench: a simulator, a store, and short words for loading from one into the other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.reports import LoadReport
from airflow_provider_binance.simulator.server import Simulator


@pytest.fixture(autouse=True)
def at_once(no_pauses: None) -> None:
    """What is tried again is tried at once."""


@dataclass
class Bench:
    """One simulator, one SQLite store and the settings that join them."""

    sim: Simulator
    file: Path
    config: BinanceConfig

    def load(self, symbols: str = "BTCUSDT", intervals: str = "1m", **arguments: Any) -> LoadReport:
        """`ingest.load` with the request log emptied before."""
        self.sim.clear_requests()
        arguments.setdefault("market", "spot")
        return ingest.load(symbols=symbols, intervals=intervals, config=self.config, **arguments)

    def plan(self, symbols: str = "BTCUSDT", intervals: str = "1m", **arguments: Any) -> list[dict[str, Any]]:
        """The pieces of the first series of `ingest.plan`."""
        self.sim.clear_requests()
        arguments.setdefault("market", "spot")
        report = ingest.plan(symbols=symbols, intervals=intervals, config=self.config, **arguments)
        pieces: list[dict[str, Any]] = report.to_dict()["plan"][0]["pieces"]
        return pieces

    def asked(self, part: str) -> list[str]:
        """The paths of received requests that contain `part`, with their queries."""
        return [f"{r.path}?{r.query}" for r in self.sim.requests if part in r.path]

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a plain SQL question."""
        with closing(sqlite3.connect(self.file)) as connection, connection:
            return connection.execute(statement).fetchall()

    def opens(self, interval: str = "1m") -> list[int]:
        """Open times in the store, milliseconds, ascending."""
        asked = f"select open_time / 1000 from klines where interval = '{interval}' order by open_time"
        return [at for (at,) in self.sql(asked)]

    def coverage(self) -> list[tuple[str, str, int]]:
        """`(state, evidence, seconds)` of the ledger, ascending."""
        return self.sql(
            "select state, evidence, (range_end - range_start) / 1000000 from coverage order by range_start"
        )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes a `Bench`; arguments are the simulator's."""
    running: list[Simulator] = []

    def make(now: str = "2024-06-15T12:30:20Z", symbols: list[str] | None = None, **arguments: Any) -> Bench:
        sim = Simulator(seed=7, symbols=symbols or ["BTCUSDT"], now=now, **arguments)
        sim.__enter__()
        running.append(sim)
        settings = {name.removeprefix("BINANCE_").lower(): value for name, value in sim.settings.items()}
        file = tmp_path / f"ingest{len(running)}.db"
        config = BinanceConfig(store_url=f"sqlite:///{file}", rate_limit_store="memory://", **settings)
        return Bench(sim, file, config)

    yield make
    for sim in running:
        sim.__exit__(None, None, None)
