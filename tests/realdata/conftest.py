"""The recordings, served by one simulator for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.reports import LoadReport
from airflow_provider_binance.simulator.server import Simulator
from tests.realdata.stored import config_for

NOW = "2026-07-01T00:00:00Z"

Load = Callable[..., LoadReport]


@pytest.fixture(scope="package")
def _replaying(realdata: Path) -> Iterator[Simulator]:
    with Simulator(replay=realdata, now=NOW) as simulator:
        yield simulator


@pytest.fixture
def simulator(_replaying: Simulator) -> Simulator:
    """The replaying simulator, as new."""
    _replaying.clear_faults()
    _replaying.reset_limits()
    _replaying.clear_requests()
    _replaying.set_clock(NOW)
    return _replaying


@pytest.fixture
def load(simulator: Simulator, store_url: str) -> Load:
    """`ingest.load` from the simulator into the test's store; with jobs for one series by default."""

    def call(market: str, symbol: str, interval: str, start: str, end: str, **more: Any) -> LoadReport:
        config = config_for(simulator, store_url)
        return ingest.load(
            market=market, symbols=symbol, intervals=interval, start=start, end=end, config=config, **more
        )

    return call


def asked_for_klines(simulator: Simulator) -> list[str]:
    """The requests for klines so far, by REST and of the archive."""
    return [
        request.path for request in simulator.requests if "klines" in request.path and "listing" not in request.path
    ]
