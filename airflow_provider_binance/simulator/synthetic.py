"""A seeded market that can be computed at any instant, without state and without floats.

Minutes are computed at once (:mod:`.minutes`), trades are made to fit them (:mod:`.fills`); seconds, and what is known
of a minute that has not ended, are made of the trades, and longer intervals of the minutes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import numpy as np

from airflow_provider_binance.simulator.activity import Activity
from airflow_provider_binance.simulator.candles import Candles, aggregate, join
from airflow_provider_binance.simulator.fills import Fills, Trades
from airflow_provider_binance.simulator.instruments import Instrument
from airflow_provider_binance.simulator.intervals import (
    HOUR_MS,
    LENGTH_MS,
    MINUTE_MS,
    SECOND_MS,
    floor_open,
    floor_opens,
    next_open,
)
from airflow_provider_binance.simulator.minutes import MinutePlan
from airflow_provider_binance.simulator.noise import Ints, Noise

Range = tuple[int, int]

DEFAULT_TRADES_PER_MINUTE = 120
FEWEST_TRADES_PER_MINUTE, MOST_TRADES_PER_MINUTE = 100, 4000
# 30 days of hours in one cached block; 1,024 blocks are some 60 MB.
BLOCK_HOURS = 720
CACHED_BLOCKS = 1024
# Seconds are made of trades, of which an hour has thousands.
SECONDS_AT_ONCE_MINUTES = 360


class SyntheticSeries:
    """All intervals of one synthetic instrument, consistent with one another to the last digit.

    ``halts`` are half-open ranges in milliseconds during which the exchange stood still: no rows in any source.
    """

    def __init__(self, instrument: Instrument, seed: int, trades_per_minute: int = DEFAULT_TRADES_PER_MINUTE) -> None:
        if not FEWEST_TRADES_PER_MINUTE <= trades_per_minute <= MOST_TRADES_PER_MINUTE:
            raise ValueError(
                f"{trades_per_minute} trades per minute; the simulator takes {FEWEST_TRADES_PER_MINUTE} to "
                f"{MOST_TRADES_PER_MINUTE}"
            )
        self.instrument = instrument
        noise = Noise(seed, instrument.market, instrument.symbol)
        self.activity = Activity(instrument, noise, trades_per_minute)
        self._plan = MinutePlan(instrument, noise, self.activity)
        self.fills = Fills(instrument.market, noise, self.activity, self._plan)
        self._hours: OrderedDict[int, Candles] = OrderedDict()
        self.halts: list[Range] = []

    def halt(self, start_ms: int, end_ms: int) -> None:
        """Let the exchange have stood still in all minutes that open in ``[start_ms, end_ms)``."""
        self.halts.append((start_ms, end_ms))
        self.activity.halt(-(-start_ms // MINUTE_MS), -(-end_ms // MINUTE_MS))
        self._hours.clear()

    def clear_halts(self) -> None:
        """Forget all halts."""
        self.halts.clear()
        self.activity.clear_halts()
        self._hours.clear()

    def candles(self, interval: str, start_ms: int, end_ms: int, as_of_ms: int, zone_ms: int = 0) -> Candles:
        """Candles that open in ``[start_ms, end_ms]`` as they were known at ``as_of_ms``, a forming one included.

        They open on the grid of a time zone that is ``zone_ms`` ahead of UTC.
        """

        def opening(moment_ms: int) -> int:
            return floor_open(interval, moment_ms + zone_ms) - zone_ms

        first = max(opening(start_ms), opening(self.instrument.listed_ms))
        last = min(opening(end_ms), opening(as_of_ms))
        if last < first:
            return join([])
        base_end = min(next_open(interval, last + zone_ms) - zone_ms, as_of_ms + 1)
        if interval == "1s":
            base = self._base(first, base_end, as_of_ms, seconds=True)
        elif interval == "1m":
            base = self._base(first, base_end, as_of_ms)
        else:
            whole_hours = LENGTH_MS[interval] >= HOUR_MS and zone_ms % HOUR_MS == 0
            parts = (self._hourly if whole_hours else self._base)(first, base_end, as_of_ms)
            base = aggregate(parts, floor_opens(interval, parts.open_time + zone_ms) - zone_ms)
        return base.between(start_ms, end_ms)

    def _hourly(self, start_ms: int, end_ms: int, as_of_ms: int) -> Candles:
        block_ms = BLOCK_HOURS * HOUR_MS
        parts = []
        for block in range(start_ms // block_ms, (end_ms - 1) // block_ms + 1):
            block_end = (block + 1) * block_ms
            # A block that is complete by now knows too much for someone who looks from within it.
            known = self._hours.get(block) if block_end <= as_of_ms else None
            if known is None:
                minutes = self._base(block * block_ms, min(block_end, as_of_ms + 1), as_of_ms)
                known = aggregate(minutes, floor_opens("1h", minutes.open_time))
                if block_end <= as_of_ms:
                    self._hours[block] = known
                    if len(self._hours) > CACHED_BLOCKS:
                        self._hours.popitem(last=False)
            parts.append(known)
        return join(parts).between(start_ms, end_ms - 1)

    def _base(self, start_ms: int, end_ms: int, as_of_ms: int, *, seconds: bool = False) -> Candles:
        """Minutes (or seconds) that open in ``[start_ms, end_ms)``, inside the life and outside the halts."""
        instrument = self.instrument
        first = max(start_ms, instrument.listed_ms) // MINUTE_MS
        stop_ms = end_ms if instrument.delisted_ms is None else min(end_ms, instrument.delisted_ms)
        stop = -(-stop_ms // MINUTE_MS)
        forming = as_of_ms // MINUTE_MS
        parts = []
        whole_stop = min(stop, forming)
        if first < whole_stop:
            parts.append(self._seconds(first, whole_stop) if seconds else self._plan.candles(first, whole_stop))
        if first <= forming < stop:
            second = self._seconds(forming, forming + 1, as_of_ms)
            parts.append(second if seconds else aggregate(second, floor_opens("1m", second.open_time)))
        base = join(parts)
        if seconds:
            base = base.between(max(start_ms, floor_open("1s", instrument.listed_ms)), stop_ms - 1)
        return base.keep(self.activity.present(base.open_time // MINUTE_MS)) if self.halts else base

    def _seconds(self, start: int, stop: int, as_of_ms: int | None = None) -> Candles:
        """All seconds of the minutes in ``[start, stop)``, or of the one minute that goes on, up to ``as_of_ms``."""
        parts = []
        for first in range(start, stop, SECONDS_AT_ONCE_MINUTES):
            last = min(first + SECONDS_AT_ONCE_MINUTES, stop)
            opens = np.arange(first * MINUTE_MS, last * MINUTE_MS, SECOND_MS, dtype=np.int64)
            trades = self.fills.trades(first, last)
            minutes = self._plan.candles(first, last)
            if as_of_ms is not None:
                # Nobody knows at which price it will open before it has traded.
                minutes = replace(minutes, open=self._plan.candles(first - 1, first).close)
                opens = opens[opens <= as_of_ms]
                trades = trades.slice(0, int(np.searchsorted(trades.time_us, as_of_ms * 1000 + 999, "right")))
            parts.append(_candles_of_trades(opens, trades, minutes))
        return join(parts)


def _candles_of_trades(opens: Ints, trades: Trades, minutes: Candles) -> Candles:
    """A candle for each second: what was traded in it, else flat at the last price.

    A minute with trades has one in its first second, so only quiet minutes need their own price.
    """
    second = (trades.time_us // 1_000_000 * SECOND_MS - opens[0]) // SECOND_MS
    count = np.bincount(second, minlength=len(opens))
    stop = np.cumsum(count)
    begin = stop - count
    traded = count > 0

    def total(column: Ints) -> Ints:
        sums = np.concatenate(([0], np.cumsum(column)))
        result: Ints = sums[stop] - sums[begin]
        return result

    flat = minutes.open[np.arange(len(opens)) // 60]
    quiet = (minutes.count == 0)[np.arange(len(opens)) // 60]
    if len(trades):
        last = trades.price[np.maximum(stop - 1, 0)]
        flat = np.where(quiet | (stop == 0), flat, last)
        opened = np.where(traded, trades.price[np.minimum(begin, len(trades) - 1)], flat)
        starts = begin[traded]
        high, low, close = flat.copy(), flat.copy(), np.where(traded, last, flat)
        high[traded] = np.maximum.reduceat(trades.price, starts)
        low[traded] = np.minimum.reduceat(trades.price, starts)
    else:
        opened = high = low = close = flat
    bought = np.where(trades.buyer_maker, 0, 1)
    return Candles(
        opens,
        opened,
        high,
        low,
        close,
        total(trades.lots),
        total(trades.amount),
        count,
        total(trades.lots * bought),
        total(trades.amount * bought),
    )
