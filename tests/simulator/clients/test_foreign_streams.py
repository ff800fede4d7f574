"""Clients that nobody here wrote listen to the simulator's streams, unmodified but for the addresses."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.clients.environment import client_python

DRIVER = Path(__file__).with_name("driver_streams.py")
NOW = "2026-11-20T12:00:00Z"

pytestmark = pytest.mark.timeout(900)  # the first run installs the clients


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A busy market in fast time, with all limits."""
    symbols = ["BTCUSDT", "cm:BTCUSD_PERP"]
    with Simulator(seed=1, symbols=symbols, trades_per_minute=300, now=NOW, speed=20) as simulator:
        yield simulator


def heard(simulator: Simulator, client: str, hosts: list[str]) -> dict[str, dict[str, list[Any]]]:
    """What the driver printed."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
    done = subprocess.run(
        [str(client_python()), str(DRIVER), client, *hosts],
        capture_output=True,
        text=True,
        timeout=200,
        env=clean,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, dict[str, list[Any]]] = json.loads(done.stdout)
    return answer


def hosts(simulator: Simulator) -> list[str]:
    return [simulator.settings[f"BINANCE_{market}_STREAM_URL"] for market in ("SPOT", "UM", "CM")]


def story(simulator: Simulator, market: str, stream: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the stream said around these events; since the simulator was started where they have no time."""
    window = (events[0]["E"], events[-1]["E"] + 1) if "E" in events[0] else (NOW, simulator.now_ms() + 1)
    return simulator.streamed(market.partition("/")[0].partition(" ")[0], stream, *window)


def bare(value: Any) -> Any:
    """A payload without what the SDKs' models add."""
    if isinstance(value, dict):
        return {name: bare(each) for name, each in value.items() if name != "additional_properties"}
    return [bare(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("client", "streams"), [("python-binance", 15), ("official", 13)])
def test_every_event_as_it_was_sent(simulator: Simulator, client: str, streams: int) -> None:
    """From the first one heard to the last: none missing, none twice, none changed."""
    answer = heard(simulator, client, hosts(simulator))
    assert sum(map(len, answer.values())) == streams
    for market, kinds in answer.items():
        for stream, events in kinds.items():
            received = [bare(event) for event in events]
            told = story(simulator, market, stream, received)
            assert len(received) >= 25
            first = told.index(received[0])
            assert received == told[first : first + len(received)], (market, stream)
