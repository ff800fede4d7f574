"""A pytest fixture with a local Binance.

Load it with ``pytest_plugins = "airflow_provider_binance.simulator.pytest_plugin"``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_binance.simulator.server import Simulator


@pytest.fixture
def binance_simulator() -> Iterator[Simulator]:
    """A simulator with seed 1 and the default symbols, its clock held at 2026-11-20 12:00 UTC."""
    with Simulator(seed=1, now="2026-11-20T12:00:00Z", speed=0) as simulator:
        yield simulator
