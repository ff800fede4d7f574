"""One market, whatever the seed: trades, aggregates, klines of all lengths, books, files and streams agree."""

from __future__ import annotations

import io
import zipfile
from collections import defaultdict
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.test_stream_story import FOLDER, KLINE_SLOTS, MARKETS, PREFIX, SYMBOL, lower, plain

DAY, NOW = "2026-11-20", "2026-11-22T00:00:00Z"
MINUTE = 60_000
LENGTHS = {"5m": 5, "15m": 15, "1h": 60}
# What changes nothing of what was traded.
FAULTS = ["republished={series}", "stream-gap=5:9", "missing-monthly={series}", "stream-duplicates", "latency=1"]
Rows = list[list[Any]]


def from_trades(market: str, trades: list[dict[str, Any]]) -> dict[int, list[Any]]:
    """Candles of the minutes with a trade, as far as trades tell them."""
    minutes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for trade in trades:
        minutes[trade["time"] // MINUTE * MINUTE].append(trade)
    other = "baseQty" if market == "cm" else "quoteQty"
    found = {}
    for open_ms, some in minutes.items():
        prices = [Decimal(each["price"]) for each in some]
        sums = [sum(Decimal(each[name]) for each in some) for name in ("qty", other)]
        found[open_ms] = [prices[0], max(prices), min(prices), prices[-1], *sums, len(some)]
    return found


def as_numbers(row: list[Any]) -> list[Any]:
    return [*(Decimal(row[slot]) for slot in (1, 2, 3, 4, 5, 7)), row[8]]


def together(rows: Rows, count: int) -> dict[int, list[Any]]:
    """Candles of so many minutes out of those of one: prices are those of the minutes with a trade."""
    groups: dict[int, Rows] = defaultdict(list)
    for row in rows:
        groups[row[0] // (count * MINUTE) * count * MINUTE].append(row)
    found = {}
    for open_ms, group in groups.items():
        traded = [as_numbers(row) for row in group if row[8]]
        if len(group) == count and traded:
            highest, lowest = max(row[1] for row in traded), min(row[2] for row in traded)
            sums = [sum(row[slot] for row in traded) for slot in (4, 5, 6)]
            found[open_ms] = [traded[0][0], highest, lowest, traded[-1][3], *sums]
    return found


def filed(simulator: Simulator, market: str) -> list[list[str]]:
    """The rows of the day's file of minutes."""
    name = f"{SYMBOL[market]}-1m-{DAY}"
    path = f"/archive/data/{FOLDER[market]}/daily/klines/{SYMBOL[market]}/1m/{name}.zip"
    answer = requests.get(simulator.settings["BINANCE_SPOT_REST_URL"] + path, timeout=20)
    assert answer.status_code == 200, path
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        lines = archive.read(f"{name}.csv").decode().splitlines()
    return [line.split(",") for line in lines if line[0].isdigit()]


def told(simulator: Simulator, market: str, start: int, end: int) -> list[Any]:
    """The story of a window, every part of it held against the others."""
    symbol, name = SYMBOL[market], lower(market)
    trades = simulator.true_ticks(market, "trades", symbol, start, end)
    minutes = simulator.truth(market, symbol, "1m", start, end)
    assert from_trades(market, trades) == {row[0]: as_numbers(row) for row in minutes if row[8]}
    for interval, count in LENGTHS.items():
        rows = {row[0]: as_numbers(row) for row in simulator.truth(market, symbol, interval, start, end)}
        made = together(minutes, count)
        assert made == {open_ms: rows[open_ms] for open_ms in made}

    aggregates = simulator.true_ticks(market, "aggTrades", symbol, start, end)
    assert all(before["a"] + 1 == after["a"] for before, after in pairwise(aggregates))
    by_id = {trade["id"]: Decimal(trade["qty"]) for trade in trades}
    for each in aggregates:
        # At the ends an aggregate may have trades beyond the window.
        if each["f"] in by_id and each["l"] in by_id:
            parts = [by_id[number] for number in range(each["f"], each["l"] + 1) if number in by_id]
            assert Decimal(each["q"]) == sum(parts)
    url = f"{simulator.settings['BINANCE_SPOT_REST_URL']}{PREFIX[market]}/klines"
    window: dict[str, Any] = {"symbol": symbol, "interval": "1m", "startTime": start, "endTime": end - 1, "limit": 1000}
    shown = requests.get(url, params=window, timeout=20).json()
    assert shown == minutes

    events = simulator.streamed(market, f"{name}@aggTrade", start, end)
    known = {each["a"]: each for each in aggregates}
    both = [event for event in events if event["a"] in known]
    assert len(both) > 10
    assert all(event[key] == known[event["a"]][key] for event in both for key in "pqflTm")
    closed = [
        [event["k"][slot] for slot in KLINE_SLOTS]
        for event in simulator.streamed(market, f"{name}@kline_1m", start + 1000, end + 1000)
        if event["k"]["x"]
    ]
    assert closed == [row for row in minutes if row[8]]
    tickers = [event["u"] for event in simulator.streamed(market, f"{name}@bookTicker", start, start + 2 * MINUTE)]
    assert all(before < after for before, after in pairwise(tickers))
    lines = [
        [plain(each) for each in row[1:6]]
        for row in filed(simulator, market)
        if start <= int(row[0]) // (1000 if market == "spot" else 1) < end
    ]
    assert lines == [[plain(each) for each in row[1:6]] for row in minutes]
    return [trades, minutes, aggregates, events, closed, tickers, lines]


@pytest.mark.parametrize("market", MARKETS)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**63), quarter=st.integers(0, 90), fault=st.sampled_from(FAULTS))
def test_one_story(market: str, seed: int, quarter: int, fault: str) -> None:
    """The same before and after something went wrong that changes nothing of what was traded."""
    start = to_ms(DAY) + quarter * 15 * MINUTE
    series = f"{market}:{SYMBOL[market]}:*:2026-11-20..2026-11-21"
    with Simulator(seed=seed, symbols=[f"{market}:{SYMBOL[market]}"], now=NOW, speed=0, limits=False) as simulator:
        story = told(simulator, market, start, start + 60 * MINUTE)
        simulator.add_fault(fault.format(series=series))
        assert told(simulator, market, start, start + 60 * MINUTE) == story
