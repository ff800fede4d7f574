"""Clients that nobody here wrote load from the simulator unmodified but for the address, and understand its errors."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.clients.driver_cases import ERRORS
from tests.simulator.clients.environment import client_python

NOW = "2026-11-20T12:00:30Z"
DRIVER = Path(__file__).with_name("driver.py")
START, MINUTE = 1704067200000, 60_000
SYMBOL = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP"}
PREFIX = {"spot": "/api/v3", "um": "/fapi/v1", "cm": "/dapi/v1"}

pytestmark = pytest.mark.timeout(900)  # the first run installs the clients


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """A still clock, so that what comes last is the same for all."""
    symbols = ["BTCUSDT", "ETHUSDT", "um:BTCUSDT_261225", "cm:BTCUSD_PERP", "cm:BTCUSD_261225"]
    with Simulator(seed=1, symbols=symbols, now=NOW, speed=0, limits=False) as simulator:
        yield simulator


@pytest.fixture(scope="module", params=sorted(ERRORS))
def told(request: pytest.FixtureRequest, simulator: Simulator) -> tuple[str, dict[str, Any]]:
    """A client, and what its driver printed."""
    address = simulator.settings["BINANCE_SPOT_REST_URL"]
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
    done = subprocess.run(
        [str(client_python()), str(DRIVER), request.param, address, simulator.api_key, simulator.api_secret],
        capture_output=True,
        text=True,
        timeout=120,
        env=clean,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return request.param, json.loads(done.stdout)


def served(simulator: Simulator, market: str, endpoint: str, **params: Any) -> Any:
    url = simulator.settings["BINANCE_SPOT_REST_URL"] + f"{PREFIX[market]}/{endpoint}"
    return requests.get(url, params={"symbol": SYMBOL[market], "limit": 1000, **params}, timeout=20).json()


def as_numbers(row: list[Any]) -> list[float]:
    return [row[0], *map(float, row[1:5])]


def test_klines(simulator: Simulator, told: tuple[str, dict[str, Any]]) -> None:
    """Every candle of the window, in order, as the market has it; ccxt keeps six columns, as floats."""
    client, answer = told
    for market, data in answer["loaded"].items():
        rows = data["klines"]
        truth = simulator.truth(market, SYMBOL[market], "1m", START, START + len(rows) * MINUTE)
        assert len(rows) >= 1000
        if client.startswith("ccxt"):
            assert [row[:5] for row in rows] == [as_numbers(row) for row in truth]
            slot = 7 if market == "cm" else 5
            assert [row[5] for row in rows] == [float(row[slot]) for row in truth]
        else:
            assert rows == truth


def test_trades_and_aggregates(simulator: Simulator, told: tuple[str, dict[str, Any]]) -> None:
    """As served, without a gap; through several pages where the client pages by itself."""
    client, answer = told
    for market, data in answer["loaded"].items():
        if "trades" in data:
            expected = served(simulator, market, "trades")
            assert [row["id"] for row in data["trades"]] == [row["id"] for row in expected]
            assert [Decimal(row["price"]) for row in data["trades"]] == [Decimal(row["price"]) for row in expected]
        aggregates = data["agg_trades"]
        assert len(aggregates) >= 1000
        ids = [int(row["a"]) for row in aggregates]
        assert all(before + 1 == after for before, after in pairwise(ids))
        by_id = {"fromId": ids[0]} if market == "spot" else {}
        expected = served(simulator, market, "aggTrades", **by_id)
        names = "apqflT"
        shown = [[str(row[name]) for name in names] for row in aggregates[: len(expected)]]
        assert shown == [[str(row[name]) for name in names] for row in expected], client


def test_depth(simulator: Simulator, told: tuple[str, dict[str, Any]]) -> None:
    """A thousand levels a side, as served."""
    client, answer = told
    for market, data in answer["loaded"].items():
        expected = served(simulator, market, "depth")
        for side in ("bids", "asks"):
            levels = [[float(text) for text in level[:2]] for level in data["depth"][side]]
            wanted = [[float(text) for text in level] for level in expected[side]]
            if client.startswith("ccxt") and market == "cm":
                # It keeps the contracts.
                assert [level[0] for level in levels] == [level[0] for level in wanted]
            else:
                assert levels == wanted, (client, market)


def test_how_it_reads_errors(told: tuple[str, dict[str, Any]]) -> None:
    """Each case ends in the exception, and with the code, that the client has for Binance's own answer."""
    client, answer = told
    assert answer["errors"] == ERRORS[client]
