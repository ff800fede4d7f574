"""Markets and the grids of their intervals, against a calendar that counts by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.errors import InputError, UnknownIntervalError
from airflow_provider_binance.market import INTERVALS, Market, from_us, iso, parse_interval, to_us

NAMES = ["1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"]
instants = st.datetimes(datetime(2016, 1, 1), datetime(2034, 1, 1)).map(lambda at: to_us(at.replace(tzinfo=UTC)))
intervals = st.sampled_from([INTERVALS[name] for name in NAMES])


def test_all_sixteen_intervals_are_there_shortest_first():
    """The registry of intervals is Binance's list."""
    assert list(INTERVALS) == NAMES


def test_one_second_exists_on_spot_only():
    """Futures answer −1120 to 1s."""
    assert parse_interval("1s", Market.SPOT).name == "1s"
    for market in (Market.UM, Market.CM):
        with pytest.raises(UnknownIntervalError, match="does not exist in market"):
            parse_interval("1s", market)


def test_months_are_spelled_mo_in_the_archive_only():
    """1M and 1m are one name on some file systems."""
    assert INTERVALS["1M"].archive_name == "1mo"
    assert parse_interval("1mo").name == "1M"
    assert INTERVALS["1m"].archive_name == "1m"


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("1hour", "1h"),
        ("60m", "1h"),
        ("1D", "1d"),
        ("1H", "1h"),
        ("1W", "1w"),
        ("7d", "1w"),
        ("45m", "1h or 30m"),
        ("1month", "1M"),
    ],
)
def test_unknown_interval_is_refused_with_near_matches(text: str, near: str):
    """The message names what was meant and all that exist."""
    with pytest.raises(UnknownIntervalError, match=near) as caught:
        parse_interval(text)
    assert "3d 1w 1M" in str(caught.value)


def test_unknown_market_names_the_accepted_ones():
    """Markets are spot, um and cm."""
    assert Market.parse("UM") is Market.UM
    with pytest.raises(InputError, match="spot, um"):
        Market.parse("futures")


@pytest.mark.parametrize(
    ("name", "at", "opened"),
    [
        ("3d", "2017-08-17", "2017-08-17"),  # measured grid: anchored at 1970-01-02
        ("3d", "2026-07-09", "2026-07-07"),
        ("3d", "2026-07-10", "2026-07-10"),
        ("1w", "2024-01-07", "2024-01-01"),  # a Sunday belongs to its Monday
        ("1w", "2024-01-08", "2024-01-08"),
        ("1M", "2024-02-29", "2024-02-01"),
        ("8h", "2024-02-29T15:59:59", "2024-02-29T08:00"),
    ],
)
def test_floor_is_the_documented_or_measured_grid(name: str, at: str, opened: str):
    """Odd anchors are as Binance has them."""
    day = lambda text: to_us(datetime.fromisoformat(text).replace(tzinfo=UTC))  # noqa: E731
    assert INTERVALS[name].floor(day(at)) == day(opened)


@given(intervals, instants)
def test_every_instant_lies_in_exactly_one_kline(interval, at):
    """floor ≤ at < next, ceil is the first open at or after, close_time is 1 ms before the next open."""
    opened = interval.floor(at)
    following = interval.next_open(opened)
    assert opened <= at < following
    assert interval.floor(following) == following
    assert interval.ceil(at) == (opened if opened == at else following)
    assert interval.close_time(opened) == following - 1000
    if interval.is_calendar:
        assert from_us(opened).day == 1
    else:
        assert following - opened == interval.size_us


@given(intervals, instants, st.integers(0, 400), st.integers(1, 90))
def test_every_split_of_a_window_has_the_same_opens(interval, start, steps, most):
    """count, opens, align and split agree, whatever the window's ends."""
    end = interval.advance(interval.floor(start), steps) + interval.size_us // 2
    opens = list(interval.opens(start, end))
    assert interval.count(start, end) == len(opens)
    assert opens == sorted(set(opens))
    assert all(start <= at < end and interval.floor(at) == at for at in opens)
    windows = list(interval.split(start, end, most))
    assert [at for a, b in windows for at in interval.opens(a, b)] == opens
    assert all(interval.count(a, b) <= most for a, b in windows)
    first, stop = interval.align(start, end)
    assert list(interval.opens(first, stop)) == opens


@given(intervals, instants)
def test_closed_end_leaves_out_what_may_still_change(interval, now):
    """A kline is closed when its close_time < now − 2 s."""
    stop = interval.closed_end(now)
    last = interval.floor(stop - 1)
    assert interval.close_time(last) < now - 2_000_000
    assert interval.close_time(stop) >= now - 2_000_000


def test_times_go_to_microseconds_and_back_exactly():
    """No float is involved."""
    at = datetime(2025, 1, 1, 12, 0, 0, 123457, tzinfo=UTC)
    assert from_us(to_us(at)) == at
    assert to_us(at + timedelta(microseconds=1)) - to_us(at) == 1
    assert iso(to_us(at)) == "2025-01-01T12:00:00.123457Z"
    assert iso(to_us(at.replace(microsecond=0))) == "2025-01-01T12:00:00Z"
    assert iso(to_us(at.replace(microsecond=5000))) == "2025-01-01T12:00:00.005Z"
