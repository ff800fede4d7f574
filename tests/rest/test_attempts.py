"""Attempts to connect a websocket: 300 in any five minutes, for all who share the address, and no waiting before."""

from __future__ import annotations

import pytest

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.market import Market
from airflow_provider_binance.rest.budget_stores import MemoryBudgetStore
from airflow_provider_binance.rest.client import BinanceRest
from airflow_provider_binance.simulator.streams.gate import Gate
from tests.rest.waiting import by

BEGAN = 1_700_000_123.0
MARKETS = [Market.SPOT, Market.UM, Market.CM]


class Clock:
    """A clock that runs while somebody waits, and a little with each attempt."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def client(store: MemoryBudgetStore, clock: Clock, priority: str = "live") -> BinanceRest:
    config = BinanceConfig(environment="simulator", spot_rest_url="http://127.0.0.1:9")
    return BinanceRest(
        config, budget_store=store, priority=priority, sleep=clock.sleep, wait=by(clock.sleep), clock=clock
    )


@pytest.mark.parametrize("pace", [0.0, 0.4, 1.3, 7.0])
def test_two_that_share_an_address_never_exceed_the_limit(pace: float) -> None:
    """The simulator's gate, which counts over a sliding window as strictly as Binance may, lets each of them in."""
    clock, store, gate = Clock(), MemoryBudgetStore(), Gate(enabled=True)
    clients = [client(store, clock), client(store, clock)]
    for number in range(1500):
        clients[number % 2].admit_connection(Market.SPOT)
        assert gate.admits("here", "spot", clock.now * 1000), f"attempt {number} after {clock.now - BEGAN:.0f} s"
        clock.now += pace

    # Not slower than need be, either: 97 in each 150 seconds, of which the first is short.
    assert clock.now - BEGAN <= max(1500 * pace, 1500 / 97 * 150) + 150


def test_a_gate_that_is_not_asked_for_leave_refuses() -> None:
    """What the test above would see."""
    gate = Gate(enabled=True)
    assert [gate.admits("here", "spot", 0.0) for _ in range(301)] == [True] * 300 + [False]


@pytest.mark.parametrize("market", MARKETS)
def test_a_fleet_connects_at_once(market: Market) -> None:
    """97 attempts go without a wait; the next one waits for the window's end."""
    clock = Clock()
    rest = client(MemoryBudgetStore(), clock)
    for _ in range(97):
        rest.admit_connection(market)

    assert clock.now == BEGAN
    rest.admit_connection(market)
    assert 0 < clock.now - BEGAN <= 151


def test_markets_have_attempts_of_their_own() -> None:
    """Spot's are counted apart from futures', which share a pool."""
    clock, store = Clock(), MemoryBudgetStore()
    rest = client(store, clock)
    for _ in range(97):
        rest.admit_connection(Market.SPOT)
    for number in range(97):
        rest.admit_connection(MARKETS[1 + number % 2])

    assert clock.now == BEGAN
    rest.admit_connection(Market.UM)
    assert clock.now > BEGAN
