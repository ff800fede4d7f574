"""How much is traded in each minute, and how much was traded before it: the ids of all trades.

A day's number of trades is a hash of the day, and its minutes share them by hashed weights. So the number before any
minute is that of the days before, of which there are some thousand, and one day's sum. Minutes outside the symbol's
life and halted ones have none, so ids go on without a hole.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.instruments import Instrument
from airflow_provider_binance.simulator.intervals import DAY_MS, MINUTE_MS
from airflow_provider_binance.simulator.noise import Ints, Noise

DAY_MINUTES = 1440
# Stretches without trades are laid out in blocks of this many minutes.
QUIET_BLOCK = 64
QUIET_PERCENT = 12
# Of a thousand; a thin minute has only a few trades.
THIN_MINUTES = 30
THIN_WEIGHT = 60
# The busiest day has 1.3 times the mean, its busiest minute 1.7 times that; quiet minutes leave theirs to the others.
PEAK = 3
LAST_DAY = to_ms("2100-01-01") // DAY_MS
CACHED_DAYS = 256

SALT_QUIET, SALT_DAY_TRADES, SALT_DAY_AGGREGATES, SALT_WEIGHT = 20, 40, 41, 42


@dataclass(frozen=True)
class Day:
    """One day: trades, and aggregates that begin, before each of its minutes and at its end (1,441 each)."""

    trades: Ints
    aggregates: Ints


class Activity:
    """Counts of one instrument; ``mean`` is its trades per minute in the long run."""

    def __init__(self, instrument: Instrument, noise: Noise, mean: int) -> None:
        self._noise = noise
        self._mean = mean
        self.most_per_minute = PEAK * mean
        self._first = instrument.listed_ms // MINUTE_MS
        self._stop = (
            LAST_DAY * DAY_MINUTES if instrument.delisted_ms is None else -(-instrument.delisted_ms // MINUTE_MS)
        )
        self._halts: list[tuple[int, int]] = []
        self._days: OrderedDict[int, Day] = OrderedDict()
        self._before: Day | None = None

    def halt(self, start_minute: int, stop_minute: int) -> None:
        """Nothing is traded in ``[start_minute, stop_minute)``."""
        self._halts.append((start_minute, stop_minute))
        self._forget()

    def clear_halts(self) -> None:
        """Forget all halts."""
        self._halts.clear()
        self._forget()

    def _forget(self) -> None:
        self._days.clear()
        self._before = None

    def present(self, minute: Ints) -> npt.NDArray[np.bool_]:
        """Which minutes lie in the symbol's life and outside all halts."""
        there: npt.NDArray[np.bool_] = (minute >= self._first) & (minute < self._stop)
        for start, stop in self._halts:
            there &= (minute < start) | (minute >= stop)
        return there

    def quiet(self, minute: Ints) -> tuple[npt.NDArray[np.bool_], Ints]:
        """Which minutes belong to a stretch without trades, and where the stretch of their block begins."""
        block = minute // QUIET_BLOCK
        hashes = self._noise.hashes(SALT_QUIET, block)
        first = block * QUIET_BLOCK + 1 + ((hashes >> np.uint64(8)) % np.uint64(50)).astype(np.int64)
        length = 1 + ((hashes >> np.uint64(20)) % np.uint64(8)).astype(np.int64)
        some = (hashes % np.uint64(100)) < np.uint64(QUIET_PERCENT)
        return some & (minute >= first) & (minute < first + length), first

    def counts(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """Trades, and aggregates that begin, of each minute in ``[start, stop)``; halts do not count here."""
        first_day, last_day = start // DAY_MINUTES, (stop - 1) // DAY_MINUTES
        window = slice(start - first_day * DAY_MINUTES, stop - first_day * DAY_MINUTES)
        trades, aggregates = self._cumulated(np.arange(first_day, last_day + 1, dtype=np.int64))
        return np.diff(trades).ravel()[window], np.diff(aggregates).ravel()[window]

    def day(self, day: int) -> Day:
        """The running sums of one day of the calendar, counted from the epoch."""
        known = self._days.get(day)
        if known is None:
            trades, aggregates = (np.diff(sums[0]) for sums in self._cumulated(np.array([day], dtype=np.int64)))
            there = self.present(day * DAY_MINUTES + np.arange(DAY_MINUTES, dtype=np.int64))
            known = Day(*(_running(np.where(there, counts, 0)) for counts in (trades, aggregates)))
            self._days[day] = known
            if len(self._days) > CACHED_DAYS:
                self._days.popitem(last=False)
        return known

    def before(self, minute: int) -> tuple[int, int]:
        """Trades, and aggregates that begin, before a minute: the ordinals of its first ones."""
        day, index = divmod(minute, DAY_MINUTES)
        earlier, today = self._earlier(day), self.day(day)
        return earlier[0] + int(today.trades[index]), earlier[1] + int(today.aggregates[index])

    def total(self) -> tuple[int, int]:
        """Trades and aggregates of the whole life; of one that goes on, up to a day that nobody will see."""
        days = self._all_days()
        return int(days.trades[-1]), int(days.aggregates[-1])

    def minute_of_trade(self, ordinal: int) -> int:
        """The minute of the trade with that ordinal."""
        return self._minute_of(ordinal, lambda day: day.trades)

    def minute_of_aggregate(self, ordinal: int) -> int:
        """The minute in which the aggregate with that ordinal begins."""
        return self._minute_of(ordinal, lambda day: day.aggregates)

    def _minute_of(self, ordinal: int, column: Callable[[Day], Ints]) -> int:
        sums = column(self._all_days())
        index = int(np.searchsorted(sums, ordinal, "right")) - 1
        day = self._first // DAY_MINUTES + index
        within = int(np.searchsorted(column(self.day(day)), ordinal - int(sums[index]), "right")) - 1
        return day * DAY_MINUTES + within

    def _earlier(self, day: int) -> tuple[int, int]:
        index = day - self._first // DAY_MINUTES
        if index <= 0:
            return 0, 0
        days = self._all_days()
        index = min(index, len(days.trades) - 1)
        return int(days.trades[index]), int(days.aggregates[index])

    def _all_days(self) -> Day:
        """The sums before each day of the symbol's life."""
        if self._before is None:
            first = self._first // DAY_MINUTES
            day = np.arange(first, -(-self._stop // DAY_MINUTES), dtype=np.int64)
            trades, aggregates = self._totals(day)
            cut = {int(day[0]), int(day[-1])}
            for start, stop in self._halts:
                cut.update(range(max(start, self._first) // DAY_MINUTES, -(-min(stop, self._stop) // DAY_MINUTES)))
            for each in cut:
                known = self.day(each)
                trades[each - first], aggregates[each - first] = known.trades[-1], known.aggregates[-1]
            self._before = Day(_running(trades), _running(aggregates))
        return self._before

    def _totals(self, day: Ints) -> tuple[Ints, Ints]:
        """Trades and aggregates of whole days: half to nine tenths of the trades are aggregates of their own."""
        trades = self._mean * DAY_MINUTES * (700 + self._noise.pick(SALT_DAY_TRADES, day, 600)) // 1000
        return trades, trades * (500 + self._noise.pick(SALT_DAY_AGGREGATES, day, 400)) // 1000

    def _cumulated(self, day: Ints) -> tuple[Ints, Ints]:
        """For each day a row of running sums, the first of them 0."""
        minute = (day[:, None] * DAY_MINUTES + np.arange(DAY_MINUTES, dtype=np.int64)).ravel()
        hashes = self._noise.hashes(SALT_WEIGHT, minute)
        weights = np.where(
            hashes % np.uint64(1000) < np.uint64(THIN_MINUTES),
            THIN_WEIGHT,
            300 + ((hashes >> np.uint64(20)) % np.uint64(1401)).astype(np.int64),
        )
        weights = np.where(self.quiet(minute)[0], 0, weights).reshape(len(day), DAY_MINUTES)
        reached = np.zeros((len(day), DAY_MINUTES + 1), dtype=np.int64)
        np.cumsum(weights, axis=1, out=reached[:, 1:])
        trades, aggregates = (column[:, None] for column in self._totals(day))
        sums = trades * reached // reached[:, -1:]
        return sums, aggregates * sums // trades


def _running(counts: Ints) -> Ints:
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
