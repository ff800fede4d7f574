"""A simulator for all tests of a module, and one call to ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from airflow_provider_binance.simulator.server import Simulator

NOW = "2026-11-20T12:00:30Z"
SYMBOLS = [
    "BTCUSDT",
    "ETHUSDT",
    "cm:BTCUSD_PERP",
    "um:BTCUSDT_261225",
    "cm:BTCUSD_261225",
    "币安人生USDT",
    "spot:OLDUSDT@2019-01-01..2021-05-01",
    "um:GONEUSDT@2020-01-01..2021-05-01",
    "um:LATELYUSDT@2020-01-01..2026-11-10",
    "um:SOONUSDT@2026-11-22",
]

Ask = Callable[..., requests.Response]


@pytest.fixture(scope="module")
def simulator_of_module() -> Iterator[Simulator]:
    """One simulator for the module: seed 1, a still clock, limits off."""
    with Simulator(seed=1, symbols=SYMBOLS, now=NOW, speed=0, limits=False) as simulator:
        yield simulator


@pytest.fixture
def simulator(simulator_of_module: Simulator) -> Iterator[Simulator]:
    """The module's simulator, as new."""
    yield simulator_of_module
    simulator_of_module.clear_faults()
    simulator_of_module.reset_limits()
    simulator_of_module.clear_requests()
    simulator_of_module.set_clock(NOW, 0)


@pytest.fixture
def ask(simulator: Simulator) -> Iterator[Ask]:
    """GET a path of the simulator."""
    with requests.Session() as session:

        def get(
            path: str, headers: dict[str, str] | None = None, method: str = "GET", json: Any = None, **params: Any
        ) -> requests.Response:
            url = simulator.settings["BINANCE_SPOT_REST_URL"] + path
            return session.request(method, url, params=params, headers=headers, json=json, timeout=20)

        yield get
