"""A workshop: a simulator, a store of either kind, and words to load, damage behind the ledger's back, and look."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.findings import Finding, RepairReport, VerifyReport
from airflow_provider_binance.reports import LoadReport
from airflow_provider_binance.simulator.server import Simulator
from tests.realdata.stored import config_for, select
from tests.store.helpers import plain

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Shop:
    """One simulator, one store and the settings that join them."""

    sim: Simulator
    url: str
    config: BinanceConfig

    def load(self, symbols: str = "BTCUSDT", intervals: str = "1m", **arguments: Any) -> LoadReport:
        """`ingest.load`, with the request log emptied before."""
        self.sim.clear_requests()
        return ingest.load(**{"market": "spot", "symbols": symbols, "intervals": intervals, "config": self.config,
                              **arguments})  # fmt: skip

    def repair(self, **arguments: Any) -> RepairReport:
        """`ingest.repair`, likewise."""
        self.sim.clear_requests()
        return ingest.repair(**{"config": self.config, **arguments})

    def verify(self, **arguments: Any) -> VerifyReport:
        """`ingest.verify`, likewise."""
        self.sim.clear_requests()
        return ingest.verify(**{"config": self.config, **arguments})

    def asked(self, part: str) -> list[str]:
        """The paths of received requests that contain `part`, with their queries."""
        return [f"{r.path}?{r.query}" for r in self.sim.requests if part in r.path]

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a plain statement past the ledger; datetimes as the database has them."""
        return plain(self.url, statement, [self.time(v) if isinstance(v, datetime) else v for v in values])

    def time(self, at: datetime) -> Any:
        """A time as a value of a statement."""
        if not self.url.startswith("sqlite"):
            return at
        return round((at - _EPOCH).total_seconds()) * 1_000_000

    def state(self) -> str:
        """A digest of all rows and of what coverage says, but for when it was asked."""
        return hashlib.sha256(repr((self.rows(), self.ranges())).encode()).hexdigest()

    def rows(self) -> list[tuple[str, ...]]:
        """All rows, every value as text."""
        return _plain(select(self.url, 'SELECT * FROM klines ORDER BY market, symbol, "interval", open_time'))

    def ranges(self) -> list[tuple[Any, ...]]:
        """What coverage says, but for its evidence and when it was asked."""
        return select(
            self.url,
            'SELECT market, symbol, "interval", range_start, range_end, state, row_count, confirmed_by FROM coverage '
            'ORDER BY market, symbol, "interval", range_start',
        )


def _plain(rows: list[tuple[Any, ...]]) -> list[tuple[str, ...]]:
    return [tuple(f"{value}" for value in row) for row in rows]


def at(text: str) -> datetime:
    """An instant of a test."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def told(findings: tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    """Kind, class and status of each."""
    return [(str(f.kind), str(f.blame), str(f.status)) for f in findings]


@pytest.fixture
def shop(store_url: str) -> Iterator[Callable[..., Shop]]:
    """Makes the `Shop` of a test; arguments are the simulator's."""
    running: list[Simulator] = []

    def make(now: str = "2024-06-15T12:30:20Z", symbols: list[str] | None = None, **arguments: Any) -> Shop:
        sim = Simulator(seed=7, symbols=symbols or ["BTCUSDT"], now=now, **arguments)
        sim.__enter__()
        running.append(sim)
        return Shop(sim, store_url, config_for(sim, store_url))

    yield make
    for sim in running:
        sim.__exit__(None, None, None)
