"""Window texts: what users may write for `start` and `end`, and the instant that is meant.

================================  ==================================================================
`2024-01-31T12:00:00Z`, `…+01:00`  that instant; also an aware `datetime`
`2024-01-31`, `2024-01`, `2024`    the first instant of the day, month or year, UTC (in `end` too)
`90m` `12h` `30d` `2w`             that long before now
`now`                              now, when it is needed
`listing`                          the first kline of the symbol (in `start` only)
================================  ==================================================================

Pure: now is the caller's callable, asked only when the text needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from enum import Enum
from typing import Final, Literal

from airflow_provider_binance.errors import InputError, NaiveTimeError
from airflow_provider_binance.market import DAY_US, HOUR_US, MINUTE_US, iso, to_us


class Marker(Enum):
    """An instant that only the one who loads can tell."""

    LISTING = "listing"
    NOW = "now"


LISTING: Final = Marker.LISTING
NOW: Final = Marker.NOW

#: Microseconds since the epoch, a marker, or None for "not given".
Instant = int | Literal[Marker.LISTING, Marker.NOW] | None

#: Instants are moved into this range, so that arithmetic on them stays within `datetime`; nothing is listed outside.
EARLIEST_US: Final = to_us(datetime(2, 1, 1, tzinfo=UTC))
LATEST_US: Final = to_us(datetime(9990, 1, 1, tzinfo=UTC))

_AGO = re.compile(r"([0-9]{1,18})([mhdw])")
_AGO_UNITS = {"m": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US}
_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?")
_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9].*", re.ASCII)
_ACCEPTED = (
    "an ISO time with offset (2024-01-01T00:00:00Z), a day (2024-01-31), a month (2024-01), "
    "so long before now (90m, 12h, 30d, 2w), now or listing"
)


def parse_instant(value: object, *, now_us: Callable[[], int] | None = None, name: str = "start") -> Instant:
    """The instant that `value` names; None stays None.

    Args:
        value: an aware datetime, a date (its first instant UTC), a text of the table above, or None.
        now_us: gives the server's now; called only for texts such as `30d`.
        name: what the value is called in errors. `listing` is refused for `end`.

    Raises:
        NaiveTimeError: a time without offset; the message shows the aware spelling.
        InputError: anything else that names no instant.
    """
    if value is None or isinstance(value, Marker):
        return _marker(value, name)
    if isinstance(value, datetime) and str(value) != "NaT":  # pandas' NaT calls itself a datetime
        return _aware(value, str(value), name)
    if isinstance(value, date) and not isinstance(value, datetime):
        return _bounded(to_us(datetime(value.year, value.month, value.day, tzinfo=UTC)))
    if not isinstance(value, str):
        raise InputError(
            f"{name}={value!r} is no instant but a bare {type(value).__name__}: give {_ACCEPTED}", argument=name
        )
    text = value.strip()
    if text.lower() in ("now", "listing"):
        return _marker(Marker(text.lower()), name)
    if ago := _AGO.fullmatch(text):
        if now_us is None:
            raise InputError(f"{name}={text!r} counts back from now, which is not known here", argument=name)
        return _bounded(now_us() - int(ago[1]) * _AGO_UNITS[ago[2]])
    try:
        if day := _DATE.fullmatch(text):
            return _bounded(to_us(datetime(int(day[1]), int(day[2] or 1), int(day[3] or 1), tzinfo=UTC)))
        if _DATE_TIME.fullmatch(text):
            return _aware(datetime.fromisoformat(text.upper()), text, name)
    except ValueError as error:
        raise InputError(f"{name}={text!r} is no instant ({error}): give {_ACCEPTED}", argument=name) from None
    raise InputError(f"{name}={text!r} is no instant: give {_ACCEPTED}", argument=name)


def check_window(start_us: int, end_us: int) -> None:
    """Nothing if `[start_us, end_us)` holds an instant; raises InputError naming both bounds if not."""
    if start_us >= end_us:
        relation = "is" if start_us == end_us else "is after"
        raise InputError(
            f"the window is empty: start {iso(_bounded(start_us))} {relation} end {iso(_bounded(end_us))}; "
            f"end is exclusive and must come after start",
            argument="start",
        )


def _marker(marker: Marker | None, name: str) -> Instant:
    if marker is LISTING and name.lstrip("-") == "end":
        raise InputError(f"{name}='listing' would end before the first kline; listing is for start", argument=name)
    return marker


def _aware(at: datetime, text: str, name: str) -> int:
    if at.utcoffset() is None:
        plain = at.isoformat()
        raise NaiveTimeError(
            f"{name}={text!r} has no UTC offset: write {plain}Z or {plain}+01:00, "
            f"or pass a datetime with tzinfo (datetime.UTC)",
            argument=name,
        )
    return _bounded(to_us(at))


def _bounded(at_us: int) -> int:
    return min(max(at_us, EARLIEST_US), LATEST_US)
