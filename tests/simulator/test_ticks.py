"""Trades and aggregates: they sum up to the candles, and every way to them leads to the same."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from airflow_provider_binance.simulator.candles import to_rows
from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.fills import Trades
from airflow_provider_binance.simulator.instruments import Instrument, parse_symbols
from airflow_provider_binance.simulator.synthetic import SyntheticSeries
from airflow_provider_binance.simulator.ticks import Ticks

DAY = 86_400_000
START = to_ms("2024-01-01")
SPECS = ["spot:BTCUSDT", "um:ADAUSDT", "cm:BTCUSD_PERP", "um:币安人生USDT", "cm:DOGEUSD_PERP"]


def made(spec: str, mean: int = 120) -> tuple[SyntheticSeries, Ticks]:
    series = SyntheticSeries(parse_symbols(spec)[0], 1, mean)
    return series, Ticks(series, 1)


def window(ticks: Ticks, start_ms: int, end_ms: int) -> Trades:
    return ticks.trades(ticks.trades_until(start_ms * 1000 - 1), ticks.trades_until(end_ms * 1000 - 1))


def built(trades: Trades, instrument: Instrument, step_ms: int) -> dict[int, list[Any]]:
    """Candles of trades by plain Decimal arithmetic, one trade after the other."""
    price_step = Decimal(1).scaleb(-instrument.price_decimals)
    lot = Decimal(1).scaleb(-instrument.quantity_decimals)
    worth = Decimal(1).scaleb(-8) if instrument.market == "cm" else price_step * lot
    rows: dict[int, list[Any]] = {}
    columns = (trades.time_us, trades.price, trades.lots, trades.amount, trades.buyer_maker)
    for time_us, price_units, lots, amount, buyer_maker in zip(*(each.tolist() for each in columns), strict=True):
        price, quantity, value = price_units * price_step, lots * lot, amount * worth
        row = rows.setdefault(time_us // 1000 // step_ms * step_ms, [price, price, price, price, *[Decimal(0)] * 5])
        row[1], row[2], row[3] = max(row[1], price), min(row[2], price), price
        for slot, part in ((4, quantity), (5, value), (6, 1)):
            row[slot] += part
        if not buyer_maker:
            row[7] += quantity
            row[8] += value
    return rows


def shown(series: SyntheticSeries, interval: str, start_ms: int, end_ms: int) -> dict[int, list[Decimal]]:
    rows = to_rows(series.candles(interval, start_ms, end_ms - 1, end_ms), series.instrument, interval)
    return {row[0]: [Decimal(row[slot]) for slot in (1, 2, 3, 4, 5, 7, 8, 9, 10)] for row in rows if row[8]}


@pytest.mark.parametrize(("spec", "mean"), [*((spec, 120) for spec in SPECS), ("spot:ETHUSDT", 1000)])
def test_trades_sum_up_to_minutes(spec: str, mean: int) -> None:
    """Open, high, low, close, volumes and counts of every minute with trades, to the last digit."""
    series, ticks = made(spec, mean)
    end = START + DAY // 4
    assert built(window(ticks, START, end), series.instrument, 60_000) == shown(series, "1m", START, end)


def test_trades_sum_up_to_seconds() -> None:
    """Spot's shortest candles come of the same trades."""
    series, ticks = made("spot:BTCUSDT")
    end = START + DAY // 24
    assert built(window(ticks, START, end), series.instrument, 1000) == shown(series, "1s", START, end)


def test_a_forming_minute_is_made_of_the_trades_so_far() -> None:
    """Not of those that come later in the same second."""
    series, ticks = made("um:BTCUSDT")
    as_of = START + 10 * 60_000 + 30_437
    row = to_rows(series.candles("1m", as_of - 60_000, as_of, as_of), series.instrument, "1m")[-1]
    trades = ticks.trades(ticks.trades_until((START + 600_000) * 1000 - 1), ticks.trades_until(as_of * 1000 + 999))
    assert row[8] == len(trades)
    assert Decimal(row[4]) == Decimal(int(trades.price[-1])).scaleb(-2)


@pytest.mark.parametrize("spec", SPECS)
def test_aggregates_follow_binance_rule(spec: str) -> None:
    """One price and side, one instant on spot and 100 ms on futures, and no two of them could be one."""
    _, ticks = made(spec)
    trades = window(ticks, START, START + DAY // 4)
    groups: dict[int, list[int]] = defaultdict(list)
    for index, ordinal in enumerate(trades.aggregate.tolist()):
        groups[ordinal].append(index)
    aggregates = ticks.aggregates(min(groups), max(groups) + 1)
    assert aggregates.ordinal.tolist() == sorted(groups)
    ids = ticks.ids(trades.ordinal)
    longest = 0 if spec.startswith("spot") else 100_000
    inner = list(zip(aggregates.ordinal.tolist(), range(len(aggregates)), strict=True))[1:-1]
    previous = None
    for ordinal, index in inner:
        members = groups[ordinal]
        kind = {(int(trades.price[each]), bool(trades.buyer_maker[each])) for each in members}
        assert kind == {(int(aggregates.price[index]), bool(aggregates.buyer_maker[index]))}
        assert sum(int(trades.lots[each]) for each in members) == aggregates.lots[index]
        assert (aggregates.first[index], aggregates.last[index]) == (ids[members[0]], ids[members[-1]])
        assert aggregates.time_us[index] == trades.time_us[members[0]]
        assert trades.time_us[members[-1]] - trades.time_us[members[0]] <= longest
        if previous is not None and longest:
            assert previous[0] != kind or trades.time_us[members[0]] - previous[1] > longest
        previous = (kind, int(trades.time_us[members[0]]))


def test_what_aggregates_do_at_the_edges() -> None:
    """On futures some reach into the next minute, never into the next day; many share a millisecond; some ids burn."""
    _, um = made("um:BTCUSDT")
    first, stop = um.aggregates_until(START * 1000 - 1), um.aggregates_until((START + DAY) * 1000 - 1)
    aggregates = um.aggregates(first, stop)
    straddling = aggregates.time_us // 60_000_000 != aggregates.last_time_us // 60_000_000
    assert 20 < straddling.sum() < 120
    assert aggregates.last_time_us[-1] < (START + DAY) * 1000
    assert np.bincount((aggregates.time_us - START * 1000) // 1000).max() > 100
    ids = um.ids(um.trades(0, 6300).ordinal)
    assert ids[-1] - ids[0] - len(ids) + 1 in (99, 100)
    _, spot = made("spot:BTCUSDT")
    aggregates = spot.aggregates(10_000, 20_000)
    assert (aggregates.time_us == aggregates.last_time_us).all()
    assert (aggregates.first[1:] == aggregates.last[:-1] + 1).all()


@pytest.mark.parametrize("spec", ["spot:BTCUSDT", "um:BTCUSDT"])
def test_places_ids_and_times_agree(spec: str) -> None:
    """From a place to its id and back, from an instant to the place; the same whatever window is asked for."""
    _, ticks = made(spec)
    whole = window(ticks, START, START + 3_600_000)
    for index in (0, 1, 777, len(whole) - 1):
        place = int(whole.ordinal[index])
        one = ticks.trades(place, place + 1)
        assert [int(column[0]) for column in vars(one).values()] == [
            int(column[index]) for column in vars(whole).values()
        ]
        assert ticks.place_of(int(ticks.ids(one.ordinal)[0])) == place
        assert ticks.trades_until(int(one.time_us[0])) > place >= ticks.trades_until(int(one.time_us[0]) - 1)
    seen = set(ticks.ids(np.arange(2000, dtype=np.int64)).tolist())
    for missing in set(range(1500)) - seen:
        assert int(ticks.ids(np.array([ticks.place_of(missing)]))[0]) == missing + 1


def test_ids_go_on_across_halts_and_end_with_the_symbol() -> None:
    """A halt takes no id; before the first trade and after the last one there is nothing."""
    series, ticks = made("spot:OLDUSDT@2019-01-01..2019-03-01")
    halt = to_ms("2019-02-01T10:00:30"), to_ms("2019-02-03T00:00:00")
    before = window(ticks, halt[0] - 3_600_000, halt[0])
    total = ticks.trades_until(to_ms("2030-01-01") * 1000)
    series.halt(*halt)
    minutes = series.candles("1m", halt[0] - 60_000, halt[1] + 60_000, to_ms("2020-01-01"))
    assert np.diff(minutes.open_time).max() == halt[1] - to_ms("2019-02-01T10:00")
    assert int(window(ticks, halt[0] - 3_600_000, halt[0]).ordinal[0]) == int(before.ordinal[0])
    after = window(ticks, halt[0], halt[1] + 120_000)
    assert after.time_us[-1] > halt[1] * 1000 > after.time_us[0]
    assert (np.diff(after.ordinal) == 1).all()
    assert ticks.trades_until(to_ms("2030-01-01") * 1000) < total
    assert ticks.trades_until(to_ms("2018-12-31") * 1000) == 0
    last = ticks.trades(ticks.trades_until(to_ms("2019-03-01") * 1000) - 1, 10**12)
    assert len(last) == 1
    assert last.time_us[0] < to_ms("2019-03-01") * 1000
    assert len(ticks.aggregates(10**12, 10**12 + 5)) == 0
    assert ticks.aggregates_complete(to_ms("2030-01-01") * 1000) == ticks.aggregates_until(to_ms("2030-01-01") * 1000)
