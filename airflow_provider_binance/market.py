"""Markets and intervals: their names, their spellings and the arithmetic of their grids.

All instants here are integer microseconds since the epoch, UTC (``_us``); ranges are half-open. Sources: Binance's
documentation for 1s … 1d, 1w and 1M; the anchor of ``3d`` (1970-01-02) was measured by two observers.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from airflow_provider_binance.errors import InputError, UnknownIntervalError

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Market(StrEnum):
    """Binance's own archive words: spot, USDⓈ-M futures, COIN-M futures."""

    SPOT = "spot"
    UM = "um"
    CM = "cm"

    @classmethod
    def parse(cls, text: str) -> Market:
        """The market called `text`; raises InputError with the accepted names."""
        try:
            return cls(str(text).strip().lower())
        except ValueError:
            raise InputError(f"unknown market {text!r}: use spot, um (USDⓈ-M futures) or cm (COIN-M futures)") from None


@dataclass(frozen=True, slots=True)
class Interval:
    """A kline length, spelled as REST spells it (`1m` … `1M`), with the grid of its open times."""

    name: str
    size_us: int
    anchor_us: int = 0
    markets: tuple[Market, ...] = tuple(Market)

    @property
    def is_calendar(self) -> bool:
        """Whether the grid is the calendar's months, so that `size_us` is only the shortest length."""
        return self.name == "1M"

    @property
    def archive_name(self) -> str:
        """How the archive spells it: `1mo`, since `1M` and `1m` are one name on some file systems."""
        return "1mo" if self.is_calendar else self.name

    @property
    def has_daily_files(self) -> bool:
        """Whether the archive has a file per day (it has none for 3d, 1w, 1mo)."""
        return self.size_us <= DAY_US

    def floor(self, at_us: int) -> int:
        """The open time of the kline that contains `at_us`."""
        if self.is_calendar:
            at = from_us(at_us)
            return to_us(at.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
        return at_us - (at_us - self.anchor_us) % self.size_us

    def ceil(self, at_us: int) -> int:
        """The first open time at or after `at_us`."""
        opened = self.floor(at_us)
        return opened if opened == at_us else self.next_open(opened)

    def next_open(self, open_us: int) -> int:
        """The open time after `open_us`, which must be an open time itself."""
        if self.is_calendar:
            opened = from_us(open_us)
            return to_us(opened.replace(year=opened.year + opened.month // 12, month=opened.month % 12 + 1))
        return open_us + self.size_us

    def close_time(self, open_us: int) -> int:
        """The last included millisecond of the kline that opens at `open_us`."""
        return self.next_open(open_us) - 1_000

    def count(self, start_us: int, end_us: int) -> int:
        """How many klines open in `[start_us, end_us)`."""
        if end_us <= start_us:
            return 0
        first, stop = self.ceil(start_us), self.ceil(end_us)
        if self.is_calendar:
            a, b = from_us(first), from_us(stop)
            return (b.year - a.year) * 12 + b.month - a.month
        return (stop - first) // self.size_us

    def opens(self, start_us: int, end_us: int) -> Iterator[int]:
        """The open times in `[start_us, end_us)`, ascending."""
        if not self.is_calendar:
            yield from range(self.ceil(start_us), end_us, self.size_us)
            return
        open_us = self.ceil(start_us)
        while open_us < end_us:
            yield open_us
            open_us = self.next_open(open_us)

    def advance(self, open_us: int, steps: int) -> int:
        """The open time `steps` klines after `open_us` (an open time; `steps` ≥ 0)."""
        if not self.is_calendar:
            return open_us + steps * self.size_us
        opened = from_us(open_us)
        months = opened.year * 12 + opened.month - 1 + steps
        return to_us(opened.replace(year=months // 12, month=months % 12 + 1))

    def align(self, start_us: int, end_us: int) -> tuple[int, int]:
        """The window between open times that holds the same klines as `[start_us, end_us)`."""
        first = self.ceil(start_us)
        return first, max(first, self.ceil(end_us))

    def split(self, start_us: int, end_us: int, most: int) -> Iterator[tuple[int, int]]:
        """`[start_us, end_us)` in consecutive windows of at most `most` klines each."""
        at, stop = self.align(start_us, end_us)
        while at < stop:
            upto = min(self.advance(at, most), stop)
            yield at, upto
            at = upto

    def closed_end(self, now_us: int, lag_us: int = 2 * SECOND_US) -> int:
        """The open time before which every kline is closed: its close_time < now − lag."""
        return self.floor(now_us - lag_us + 999)  # close_time is the last millisecond, not the next open

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Instants(Interval):
    """The time of a dataset without intervals, such as trades: every microsecond is an instant, and none is awaited.

    `rows_per_day` is what is expected of the series, so that `count` can be priced; no row follows from it.
    """

    name: str = ""
    size_us: int = 1
    rows_per_day: float = 0.0

    def count(self, start_us: int, end_us: int) -> int:
        """About how many rows lie in `[start_us, end_us)`: one at least, if that is any time at all."""
        return max(int(start_us < end_us), math.ceil((end_us - start_us) * self.rows_per_day / DAY_US))


def _fixed(name: str, size_us: int, anchor_us: int = 0, markets: tuple[Market, ...] = tuple(Market)) -> Interval:
    return Interval(name, size_us, anchor_us, markets)


#: All intervals, shortest first.
INTERVALS: dict[str, Interval] = {
    interval.name: interval
    for interval in (
        _fixed("1s", SECOND_US, markets=(Market.SPOT,)),
        *(_fixed(f"{n}m", n * MINUTE_US) for n in (1, 3, 5, 15, 30)),
        *(_fixed(f"{n}h", n * HOUR_US) for n in (1, 2, 4, 6, 8, 12)),
        _fixed("1d", DAY_US),
        _fixed("3d", 3 * DAY_US, anchor_us=DAY_US),
        _fixed("1w", 7 * DAY_US, anchor_us=4 * DAY_US),
        _fixed("1M", 28 * DAY_US),
    )
}


_INSTANTS = Instants()


def grid_of(interval: str) -> Interval:
    """The grid of a series: of its interval's open times, or of all instants where it has no interval."""
    return INTERVALS[interval] if interval else _INSTANTS


def parse_interval(text: str, market: Market | None = None) -> Interval:
    """The interval called `text`, checked against `market`; raises UnknownIntervalError with the accepted names."""
    name = str(text).strip()
    interval = INTERVALS.get(name) or INTERVALS.get({"1mo": "1M", "1Mo": "1M"}.get(name, ""))
    accepted = [i.name for i in INTERVALS.values() if market is None or market in i.markets]
    if interval is None:
        near = _near(name, accepted)
        hint = f"; did you mean {' or '.join(near)}?" if near else ";"
        raise UnknownIntervalError(f"unknown interval {name!r}{hint} Accepted: {' '.join(accepted)}")
    if market is not None and market not in interval.markets:
        raise UnknownIntervalError(
            f"interval {name!r} does not exist in market {market}. Accepted: {' '.join(accepted)}"
        )
    return interval


_LENGTH = re.compile(r"(\d{1,12})\s*([A-Za-z]*)")
_UNITS = {"s": SECOND_US, "m": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US, "mo": 28 * DAY_US}


def _near(text: str, accepted: Sequence[str]) -> list[str]:
    """The intervals that `text` may mean: of the same letters, of the same length, else the nearest in length."""
    if text.lower() in accepted:
        return [text.lower()]
    if (match := _LENGTH.match(text)) is None:
        return difflib.get_close_matches(text.lower(), accepted, n=2, cutoff=0.4)
    unit = match[2].lower()
    size_us = int(match[1]) * _UNITS.get("mo" if unit.startswith("mo") else unit[:1], MINUTE_US)
    by_distance = sorted(accepted, key=lambda name: abs(math.log(INTERVALS[name].size_us / max(size_us, 1))))
    return by_distance[: 1 if INTERVALS[by_distance[0]].size_us == size_us else 2]


def to_us(at: datetime) -> int:
    """An aware datetime as microseconds since the epoch, exactly."""
    if type(at) is not datetime:  # pendulum's, which Airflow hands out, gives differences that refuse to be divided
        at = datetime.combine(at.date(), at.time(), at.tzinfo)
    return (at - EPOCH) // timedelta(microseconds=1)


def from_us(at_us: int) -> datetime:
    """Microseconds since the epoch as an aware UTC datetime, exactly."""
    return EPOCH + timedelta(microseconds=at_us)


def iso(at_us: int) -> str:
    """Microseconds since the epoch as ISO 8601 with `Z`, as short as exactness allows."""
    at = from_us(at_us).replace(tzinfo=None)
    return at.isoformat(timespec="auto" if at_us % 1000 else ("milliseconds" if at_us % SECOND_US else "seconds")) + "Z"


def iso_or_number(at_us: int) -> str:
    """As `iso`; beyond what a calendar can say the bare number."""
    try:
        return iso(at_us)
    except OverflowError:
        return str(at_us)
