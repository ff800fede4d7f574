"""Binance's sixteen kline intervals and the grids that their candles open on (UTC)."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

MONTH = "1M"

LENGTH_MS = {
    "1s": SECOND_MS,
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
    # Only a step for paging: months open on the calendar.
    MONTH: 31 * DAY_MS,
}
INTERVALS = tuple(LENGTH_MS)

# 3d counts from 1970-01-02, weeks from the first Monday, 1970-01-05; all others from the epoch.
ANCHOR_MS = {"3d": DAY_MS, "1w": 4 * DAY_MS}


def floor_open(interval: str, moment_ms: int) -> int:
    """Open time of the candle that contains ``moment_ms``."""
    if interval == MONTH:
        moment = datetime.fromtimestamp(moment_ms // 1000, UTC)
        return int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp()) * 1000
    anchor = ANCHOR_MS.get(interval, 0)
    length = LENGTH_MS[interval]
    return (moment_ms - anchor) // length * length + anchor


def next_open(interval: str, open_ms: int) -> int:
    """Open time of the candle after the one that opens at ``open_ms``."""
    if interval == MONTH:
        return floor_open(MONTH, open_ms + LENGTH_MS[MONTH])
    return open_ms + LENGTH_MS[interval]


def ceil_open(interval: str, moment_ms: int) -> int:
    """The first open time at or after ``moment_ms``."""
    floored = floor_open(interval, moment_ms)
    return floored if floored == moment_ms else next_open(interval, floored)


def close_time(interval: str, open_ms: int) -> int:
    """Last included millisecond of the candle that opens at ``open_ms``."""
    return next_open(interval, open_ms) - 1


def floor_opens(interval: str, moments_ms: Times) -> Times:
    """:func:`floor_open` for an array."""
    if interval == MONTH:
        months = moments_ms.astype("datetime64[ms]").astype("datetime64[M]")
        return months.astype("datetime64[ms]").astype(np.int64)
    anchor = ANCHOR_MS.get(interval, 0)
    length = LENGTH_MS[interval]
    return (moments_ms - anchor) // length * length + anchor


def close_times(interval: str, opens_ms: Times) -> Times:
    """:func:`close_time` for an array."""
    if interval == MONTH:
        months = opens_ms.astype("datetime64[ms]").astype("datetime64[M]") + np.timedelta64(1, "M")
        return months.astype("datetime64[ms]").astype(np.int64) - 1
    return opens_ms + (LENGTH_MS[interval] - 1)
