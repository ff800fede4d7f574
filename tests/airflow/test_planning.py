"""Consecutive days, each loaded when it ends, have every closed kline; runs without a date are few tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.example_dags.planning import plan_latest, plan_window
from airflow_provider_binance.hooks.binance import BinanceHook
from airflow_provider_binance.market import INTERVALS, from_us, to_us
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.universe import UniverseEntry, cut
from tests.airflow.conftest import NOW, extras, opens_of

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("connections")]

#: Which source a row comes from is not the matter here, and listing the archive anew for each day takes long.
REST: dict[str, Any] = {"source": "rest"}
LONG = ("1d", "3d", "1w", "1M")


def load_window(entries: list[UniverseEntry], start: datetime, end: datetime) -> list[dict[str, Any]]:
    """What the two tasks of `binance_daily` do with a data interval; the chunks."""
    with closing(BinanceHook(priority="daily")) as hook:
        planned, _ = plan_window(hook, entries, start, end, by_close=True, **REST)
        chunks = cut(planned)
        for chunk in chunks:
            hook.load(**chunk, **REST)
    return chunks


def load_latest(entries: list[UniverseEntry]) -> list[dict[str, Any]]:
    """What they do in a run without a date; the chunks."""
    with closing(BinanceHook(priority="daily")) as hook:
        planned, _ = plan_latest(hook, entries, **REST)
        chunks = cut(planned)
        for chunk in chunks:
            hook.load(**chunk, **REST)
    return chunks


def days(first: datetime, count: int) -> Iterator[tuple[datetime, datetime]]:
    """Consecutive days from `first` on, local ones where it is local, as instants."""
    for n in range(count):
        yield (first + timedelta(days=n)).astimezone(UTC), (first + timedelta(days=n + 1)).astimezone(UTC)


def truth(simulator: Simulator, interval: str, start: datetime, end: datetime) -> list[int]:
    """Open times of what had closed at `end`, from the kline on that was open at `start`."""
    first_us = INTERVALS[interval].floor(to_us(start))
    rows = simulator.truth("spot", "BTCUSDT", interval, from_us(first_us), end)
    return [row[0] * 1000 for row in rows]


def load_daily(simulator: Simulator, entry: UniverseEntry, windows: list[tuple[datetime, datetime]]) -> None:
    for start, end in windows:
        simulator.set_clock(end + timedelta(minutes=1))
        load_window([entry], start, end)


def test_consecutive_days_have_every_closed_kline(simulator: Simulator, store_path: Path) -> None:
    windows = list(days(datetime(2026, 9, 24, tzinfo=UTC), 40))
    load_daily(simulator, UniverseEntry("spot", ("BTCUSDT",), LONG), windows)
    start, end = windows[0][0], windows[-1][1]
    found = {interval: opens_of(store_path, "BTCUSDT", interval) for interval in LONG}
    assert found == {interval: truth(simulator, interval, start, end) for interval in LONG}
    assert [len(found[interval]) for interval in LONG] == [40, 13, 6, 2]


@pytest.mark.parametrize("first", [datetime(2026, 3, 25), datetime(2026, 10, 21)], ids=["spring", "autumn"])
def test_days_of_berlin_have_every_closed_kline_over_a_clock_change(
    simulator: Simulator, store_path: Path, first: datetime
) -> None:
    intervals = ("4h", "12h", "1d")
    windows = list(days(first.replace(tzinfo=ZoneInfo("Europe/Berlin")), 8))
    load_daily(simulator, UniverseEntry("spot", ("BTCUSDT",), intervals), windows)
    for interval in intervals:
        found = opens_of(store_path, "BTCUSDT", interval)
        assert found == truth(simulator, interval, windows[0][0], windows[-1][1]), interval
    assert len(opens_of(store_path, "BTCUSDT", "1d")) == 8


def test_since_bounds_the_kline_that_is_open_at_the_start(simulator: Simulator, store_path: Path) -> None:
    """2026-10-05 and 12 are Mondays: the week that opens before `since` is not loaded, the one after it is."""
    windows = list(days(datetime(2026, 10, 5, tzinfo=UTC), 14))
    load_daily(simulator, UniverseEntry("spot", ("BTCUSDT",), ("1d", "1w"), "2026-10-07"), windows)
    assert opens_of(store_path, "BTCUSDT", "1w") == [to_us(datetime(2026, 10, 12, tzinfo=UTC))]
    assert opens_of(store_path, "BTCUSDT", "1d")[0] == to_us(datetime(2026, 10, 7, tzinfo=UTC))


def test_intervals_share_a_chunk_where_their_windows_are_one(simulator: Simulator) -> None:
    start = datetime(2026, 11, 18, tzinfo=UTC)
    chunks = load_window([UniverseEntry("spot", ("BTCUSDT",), ("1h", *LONG))], start, start + timedelta(days=1))
    starts = {tuple(chunk["intervals"]): chunk["start"] for chunk in chunks}
    assert starts == {
        ("1h", "1d"): "2026-11-18T00:00:00Z",
        ("3d", "1w"): "2026-11-16T00:00:00Z",
        ("1M",): "2026-11-01T00:00:00Z",
    }


def test_without_by_close_a_window_is_what_opens_in_it(simulator: Simulator, store_path: Path) -> None:
    start = datetime(2026, 11, 18, tzinfo=UTC)
    with closing(BinanceHook()) as hook:
        planned, _ = plan_window(hook, [UniverseEntry("spot", ("BTCUSDT",), LONG)], start, start + timedelta(days=1))
    assert {one.start for one in planned} == {to_us(start)}


MANY = tuple(f"A{n:02d}USDT" for n in range(100))


@pytest.fixture
def many(set_connection: Any) -> Iterator[Simulator]:
    """A Binance with a hundred symbols."""
    with Simulator(seed=7, now=NOW, speed=0, symbols=MANY, limits=False) as simulator:
        set_connection("binance_default", conn_type="binance", extra=extras(simulator))
        yield simulator


def test_a_hundred_series_that_end_at_different_instants_are_few_chunks(many: Simulator, store_path: Path) -> None:
    """Each goes on from its own last covered instant, and one that is new starts at `since`."""
    midnight = datetime(2026, 11, 20, tzinfo=UTC)
    ends = {symbol: midnight - timedelta(hours=n + 1) for n, symbol in enumerate(MANY)}
    new = MANY[-1]
    with closing(BinanceHook()) as hook:
        for symbol in MANY[:-1]:
            hook.load(
                market="spot",
                symbols=symbol,
                intervals="1h",
                start=ends[symbol] - timedelta(hours=2),
                end=ends[symbol],
                **REST,
            )
    chunks = load_latest([UniverseEntry("spot", MANY, ("1h",), "2026-11-19")])
    assert len(chunks) <= 16
    assert {chunk["start"] for chunk in chunks} == {None, "2026-11-19T00:00:00Z"}
    hour = timedelta(hours=1)
    for symbol in MANY:
        first = datetime(2026, 11, 19, tzinfo=UTC) if symbol == new else ends[symbol] - 2 * hour
        expected = [to_us(first + n * hour) for n in range((midnight - first) // hour)]
        assert opens_of(store_path, symbol, "1h") == expected, symbol
    assert load_latest([UniverseEntry("spot", MANY, ("1h",))]) == []


def test_without_a_date_and_without_since_a_new_series_is_an_error() -> None:
    with pytest.raises(InputError, match="no start given"):
        load_latest([UniverseEntry("spot", ("BTCUSDT",), ("1h",))])


def test_without_a_date_a_since_to_come_is_left_out(store_path: Path) -> None:
    assert load_latest([UniverseEntry("spot", ("BTCUSDT",), ("1h",), "2026-11-21")]) == []
    assert not store_path.exists()
