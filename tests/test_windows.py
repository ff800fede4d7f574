"""Window texts."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.errors import InputError, NaiveTimeError
from airflow_provider_binance.market import DAY_US, HOUR_US, INTERVALS, MINUTE_US, from_us, iso, to_us
from airflow_provider_binance.windows import EARLIEST_US, LATEST_US, LISTING, NOW, check_window, parse_instant

NOW_US = to_us(datetime(2026, 3, 1, 12, 30, tzinfo=UTC))


def no_clock() -> int:
    raise AssertionError("now was asked for without need")


def instant(text: str) -> datetime:
    parsed = parse_instant(text, now_us=no_clock)
    assert isinstance(parsed, int)
    return from_us(parsed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-01T00:00:00Z", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-01-01T00:00:00z", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-01-01T00:00:00+01:00", datetime(2023, 12, 31, 23, tzinfo=UTC)),
        ("2024-01-01 05:30:00.25+05:30", datetime(2024, 1, 1, 0, 0, 0, 250000, tzinfo=UTC)),
        ("2024-01-01T00:00Z", datetime(2024, 1, 1, tzinfo=UTC)),
        (" 2024-02-29 ", datetime(2024, 2, 29, tzinfo=UTC)),
        ("2024-02", datetime(2024, 2, 1, tzinfo=UTC)),
        ("2024", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2010-01-01", datetime(2010, 1, 1, tzinfo=UTC)),
    ],
)
def test_absolute_texts_name_their_first_instant_utc(text: str, expected: datetime) -> None:
    """Dates, months and ISO times mean one instant, and need no clock."""
    assert instant(text) == expected
    assert parse_instant(text, now_us=no_clock, name="end") == to_us(expected)


@pytest.mark.parametrize(
    ("text", "before_us"), [("90m", 90 * MINUTE_US), ("12h", 12 * HOUR_US), ("30d", 30 * DAY_US), ("2w", 14 * DAY_US)]
)
def test_durations_count_back_from_the_servers_now(text: str, before_us: int) -> None:
    """`30d` is thirty days before what the callable says."""
    assert parse_instant(text, now_us=lambda: NOW_US) == NOW_US - before_us


def test_markers_and_none_pass_without_a_clock() -> None:
    """`now` and `listing` are resolved by the one who loads; None is "not given"."""
    assert parse_instant("now", now_us=no_clock) is NOW
    assert parse_instant(" Listing", now_us=no_clock) is LISTING
    assert parse_instant(LISTING, now_us=no_clock) is LISTING
    assert parse_instant(None, now_us=no_clock) is None


def test_datetimes_and_dates_are_taken() -> None:
    """An aware datetime is that instant, a date its first instant UTC, whatever the zone of the machine."""
    berlin = datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    assert parse_instant(berlin) == to_us(datetime(2024, 10, 27, 1, 30, tzinfo=UTC))
    assert parse_instant(date(2024, 5, 1)) == to_us(datetime(2024, 5, 1, tzinfo=UTC))


@pytest.mark.parametrize("value", ["2024-01-01T00:00:00", "2024-01-01 00:00", datetime(2024, 1, 1)])
def test_naive_times_are_refused_with_the_aware_spelling(value: object) -> None:
    """The message can be copied from."""
    with pytest.raises(NaiveTimeError, match=r"2024-01-01T00:00:00Z or 2024-01-01T00:00:00\+01:00"):
        parse_instant(value, now_us=no_clock)


@pytest.mark.parametrize(
    "value",
    ["", "yesterday", "2024-13", "2024-02-30", "30D", "1M", "-3d", "30 d", "20240101", "2024-W01", "0000", "٣d",
     "2024-01-01T25:00:00Z", "2024-01-01T", "2024-1-1", 1704067200000, 1.5, True, b"now"],
)  # fmt: skip
def test_what_is_no_instant_is_refused_by_name(value: object) -> None:
    """Nothing is guessed; the error names the argument and what is accepted."""
    with pytest.raises(InputError, match=r"--end=.* give an ISO time with offset"):
        parse_instant(value, now_us=lambda: NOW_US, name="--end")


def test_pandas_nat_is_refused() -> None:
    """NaT calls itself a datetime, and is no instant."""
    import pandas as pd

    with pytest.raises(InputError, match="NaT is no instant"):
        parse_instant(pd.NaT)


def test_listing_is_refused_as_an_end() -> None:
    """A window that ends where the series begins is empty."""
    with pytest.raises(InputError, match="listing is for start"):
        parse_instant("listing", name="--end")


def test_a_duration_without_a_clock_is_refused() -> None:
    """Without a server there is no now."""
    with pytest.raises(InputError, match="counts back from now"):
        parse_instant("30d")


@pytest.mark.parametrize(
    "value",
    ["0001-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "9999", "999999999999999999w",
     datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), datetime.max.replace(tzinfo=UTC)],
)  # fmt: skip
def test_absurd_instants_stay_within_the_calendar(value: object) -> None:
    """They can be printed and aligned to every grid, which is all that is needed to find nothing listed there."""
    at = parse_instant(value, now_us=lambda: NOW_US)
    assert isinstance(at, int)
    assert EARLIEST_US <= at <= LATEST_US
    for interval in INTERVALS.values():
        iso(interval.ceil(at))


def test_windows_need_a_start_before_their_end() -> None:
    """Equal or reversed bounds are refused, both named."""
    check_window(NOW_US - 1, NOW_US)
    with pytest.raises(InputError, match="start 2026-03-01T12:30:00Z is end 2026-03-01T12:30:00Z"):
        check_window(NOW_US, NOW_US)
    with pytest.raises(InputError, match="2026-03-02T12:30:00Z is after end 2026-03-01T12:30:00Z"):
        check_window(NOW_US + DAY_US, NOW_US)


offsets = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
aware = st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1), timezones=offsets)


@given(aware)
def test_text_and_datetime_agree(at: datetime) -> None:
    """An instant survives its ISO spelling in any offset, to the microsecond."""
    assert parse_instant(at) == parse_instant(at.isoformat()) == parse_instant(iso(to_us(at))) == to_us(at)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1)))
def test_every_naive_time_is_refused(at: datetime) -> None:
    """No naive spelling slips through."""
    for value in (at, at.isoformat(), at.isoformat(sep=" ")):
        with pytest.raises(NaiveTimeError):
            parse_instant(value)


@given(st.text(max_size=30))
def test_any_text_is_an_instant_or_an_input_error(text: str) -> None:
    """No other exception comes out."""
    with contextlib.suppress(InputError):
        assert parse_instant(text, now_us=lambda: NOW_US) is not None
