"""The synthetic market: determined by the seed, consistent from seconds to months."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_binance.simulator.candles import Row, to_rows
from airflow_provider_binance.simulator.clock import from_ms, to_ms
from airflow_provider_binance.simulator.instruments import parse_symbols
from airflow_provider_binance.simulator.synthetic import SyntheticSeries

NOW = to_ms("2026-11-20")
DAY = 86_400_000


def rows(spec: str, interval: str, start: int, end: int, seed: int = 1, as_of: int = NOW) -> list[Row]:
    series = SyntheticSeries(parse_symbols(spec)[0], seed)
    return to_rows(series.candles(interval, start, end - 1, as_of), series.instrument, interval)


def resampled(short: list[Row], open_of: Callable[[int], int]) -> dict[int, tuple[Any, ...]]:
    """Long candles by plain Decimal arithmetic, row by row."""
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in short:
        groups[open_of(row[0])].append(row)
    result = {}
    for open_ms, members in groups.items():
        traded = [row for row in members if row[8]] or members[:1]
        sums = [sum((Decimal(row[slot]) for row in members), Decimal(0)) for slot in (5, 7, 8, 9, 10)]
        high = max(Decimal(row[2]) for row in traded)
        low = min(Decimal(row[3]) for row in traded)
        result[open_ms] = (Decimal(traded[0][1]), high, low, Decimal(members[-1][4]), *sums)
    return result


def values(long: list[Row]) -> dict[int, tuple[Any, ...]]:
    return {row[0]: tuple(Decimal(row[slot]) for slot in (1, 2, 3, 4, 5, 7, 8, 9, 10)) for row in long}


def month_open(moment: int) -> int:
    return to_ms(from_ms(moment).replace(day=1, hour=0, minute=0))


@pytest.mark.parametrize("spec", ["spot:BTCUSDT", "um:ADAUSDT", "cm:BTCUSD_PERP", "spot:币安人生USDT"])
@pytest.mark.parametrize(
    ("interval", "open_of"),
    [
        ("3m", lambda moment: moment // 180_000 * 180_000),
        ("1h", lambda moment: moment // 3_600_000 * 3_600_000),
        ("12h", lambda moment: moment // (DAY // 2) * (DAY // 2)),
        ("1w", lambda moment: (moment - 4 * DAY) // (7 * DAY) * 7 * DAY + 4 * DAY),
    ],
)
def test_longer_intervals_are_the_sum_of_minutes(spec: str, interval: str, open_of: Callable[[int], int]) -> None:
    """Checked by other arithmetic: a week of minutes, row by row, in decimals."""
    start = to_ms("2024-01-01")
    end = start + 7 * DAY
    assert values(rows(spec, interval, start, end)) == resampled(rows(spec, "1m", start, end), open_of)


def test_months_and_three_days_are_the_sum_of_days() -> None:
    """Calendar months of different length, 3d across their ends."""
    start, end = to_ms("2024-01-01"), to_ms("2024-04-01")
    days = rows("um:BTCUSDT", "1d", start, end)
    assert values(rows("um:BTCUSDT", "1M", start, end)) == resampled(days, month_open)
    # 2024-01-04 and 2024-03-31 are on the grid that counts from 1970-01-02.
    first, last = to_ms("2024-01-04"), to_ms("2024-03-31")
    inner = [row for row in days if first <= row[0] < last]
    expected = resampled(inner, lambda moment: moment - (moment - DAY) % (3 * DAY))
    assert len(expected) == 29
    assert values(rows("um:BTCUSDT", "3d", first, last)) == expected


@pytest.mark.parametrize("spec", ["spot:BTCUSDT", "spot:DOGEUSDT"])
def test_minutes_are_the_sum_of_seconds(spec: str) -> None:
    """Three hours of seconds, those without trades skipped for open, high and low."""
    start = to_ms("2024-01-01")
    end = start + DAY // 8
    seconds = rows(spec, "1s", start, end)
    assert len(seconds) == 10_800
    assert values(rows(spec, "1m", start, end)) == resampled(seconds, lambda moment: moment // 60_000 * 60_000)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60 * 24 * 30), st.integers(1, 500))
def test_any_window_shows_the_same_rows(seed: int, offset: int, length: int) -> None:
    """A window is a slice of every larger window."""
    start = to_ms("2022-02-01") + offset * 60_000
    end = start + length * 60_000
    wide = rows("um:BTCUSDT", "1m", start - 7_200_000, end + 7_200_000, seed)
    assert [row for row in wide if start <= row[0] < end] == rows("um:BTCUSDT", "1m", start, end, seed)


def test_seed_decides() -> None:
    """Same seed, same market; another seed, market or symbol, another one."""
    start = to_ms("2024-01-01")
    one = rows("spot:BTCUSDT", "1h", start, start + DAY)
    assert one == rows("spot:BTCUSDT", "1h", start, start + DAY)
    assert one != rows("spot:BTCUSDT", "1h", start, start + DAY, seed=2)
    assert one[0][1] != rows("um:BTCUSDT", "1h", start, start + DAY)[0][1]


def test_first_rows_of_seed_one_never_change() -> None:
    """A recording of our own: the market stays the same from version to version and machine to machine."""
    first = rows("spot:BTCUSDT", "1m", to_ms("2024-01-01T00:01"), to_ms("2024-01-01T00:02"))
    assert first == [
        (
            1704067260000,
            "57928.20000000",
            "57932.12000000",
            "57911.41000000",
            "57917.13000000",
            "1.54090000",
            1704067319999,
            "89244.48391450",
            190,
            "0.86833000",
            "50291.68563560",
            "0",
        )
    ]


def test_rows_are_plausible() -> None:
    """Low below open and close below high, taker part within the whole, flat rows where nobody traded."""
    week = rows("spot:ETHUSDT", "1m", to_ms("2024-01-01"), to_ms("2024-01-08"))
    assert len(week) == 7 * 1440
    quiet = [index for index, row in enumerate(week) if row[8] == 0]
    assert 20 < len(quiet) < 500
    for index in quiet:
        before, row = week[index - 1], week[index]
        assert row[1] == row[2] == row[3] == row[4] == before[4]
        assert {row[5], row[7], row[9], row[10]} == {"0.00000000"}
    for row in week:
        opened, high, low, close = (Decimal(text) for text in row[1:5])
        assert 0 < low <= min(opened, close) <= max(opened, close) <= high
        assert 0 <= Decimal(row[9]) <= Decimal(row[5])


@pytest.mark.parametrize(
    "spec", ["cm:BTCUSD_PERP", "cm:ETHUSD_PERP", "cm:ADAUSD_PERP", "cm:NEWUSD_PERP", "cm:DOGEUSD_PERP"]
)
def test_contracts_are_worth_dollars(spec: str) -> None:
    """Base volume is contracts times their size by price, for every precision without an overflow."""
    size = 100 if "BTC" in spec else 10
    for row in rows(spec, "1m", to_ms("2024-01-01"), to_ms("2024-01-02")):
        assert int(row[9]) <= int(row[5])
        if row[8]:
            assert Decimal(row[3]) <= int(row[5]) * size / Decimal(row[7]) <= Decimal(row[2]) + 1


def test_forming_candles_agree_across_intervals() -> None:
    """Seen from the middle of a minute, the forming hour is the sum of its minutes, the forming one included."""
    as_of = to_ms("2024-01-01T10:17:23.500")
    hour = to_ms("2024-01-01T10:00")
    minutes = rows("spot:BTCUSDT", "1m", hour, hour + 3_600_000, as_of=as_of)
    assert len(minutes) == 18
    assert values(rows("spot:BTCUSDT", "1h", hour, hour + 3_600_000, as_of=as_of)) == resampled(minutes, lambda _: hour)
