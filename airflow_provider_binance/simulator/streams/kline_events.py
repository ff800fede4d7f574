"""Events of klines: the forming candle at intervals while it trades, and once more, closed, after its end.

A candle in which nothing was traded has no event at all: who wants it must ask REST.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from airflow_provider_binance.simulator.candles import aggregate
from airflow_provider_binance.simulator.fills import MINUTE_US
from airflow_provider_binance.simulator.intervals import MINUTE_MS, floor_open
from airflow_provider_binance.simulator.noise import Ints
from airflow_provider_binance.simulator.streams.events import NOTHING, Events
from airflow_provider_binance.simulator.streams.kline_payloads import CLOSE, COUNT, FIRST, HIGH, LOW, OPEN, kline_events
from airflow_provider_binance.simulator.streams.tape import Tape

SALT_OFFSET, SALT_CLOSING = 82, 83
# The closed candle comes so soon after its end, and before the first news of the next one.
LEAST_CLOSING_US, CLOSING_CHOICES_US = 5_000, 85_000
FIRST_NEWS_US = 100_000
LONGEST_OFFSET_US = 900_000
KEPT_MINUTES = 4


@dataclass(frozen=True)
class _Minute:
    """The trades of one minute: times, and the candle after each of them, a column each."""

    time_us: Ints
    after: tuple[Ints, ...]

    def totals(self) -> tuple[int, ...] | None:
        """What the whole minute comes to; None without trades."""
        return tuple(int(column[-1]) for column in self.after) if len(self.time_us) else None


class KlineEvents:
    """``kline_<interval>`` of one instrument, for intervals of a minute or longer."""

    def __init__(self, tape: Tape, interval: str, step_ms: int, unit_us: int, zone_ms: int = 0) -> None:
        self._tape = tape
        self._interval = interval
        self._unit_us = unit_us
        self._zone_ms = zone_ms
        self._step_us = step_ms * 1000
        none = np.zeros(1, dtype=np.int64)
        choices = min(self._step_us, LONGEST_OFFSET_US) - FIRST_NEWS_US
        self._offset_us = FIRST_NEWS_US + int(tape.noise.pick(SALT_OFFSET, none, choices)[0]) // 1000 * 1000
        self._closing_us = LEAST_CLOSING_US + int(tape.noise.pick(SALT_CLOSING, none, CLOSING_CHOICES_US)[0])
        self._minutes: OrderedDict[int, _Minute] = OrderedDict()
        self._before: OrderedDict[int, tuple[int, ...] | None] = OrderedDict()

    def between(self, start_us: int, stop_us: int) -> Events:
        """See :class:`Source`."""
        parts = []
        for minute in range(start_us // MINUTE_US, (stop_us - 1) // MINUTE_US + 1):
            begin = minute * MINUTE_US
            closing = self._closing(minute)
            if closing is not None and start_us <= closing.times_us[0] < stop_us:
                parts.append(closing)
            news = self._news(minute, max(start_us, begin), min(stop_us, begin + MINUTE_US))
            if news.times_us:
                parts.append(news)
        # The parts follow one another in time.
        return Events(
            [each for part in parts for each in part.times_us], [each for part in parts for each in part.payloads]
        )

    def _news(self, minute: int, start_us: int, stop_us: int) -> Events:
        """The forming candle in one minute, wherever it traded since the last news of it."""
        begin = minute * MINUTE_US
        step = self._step_us
        first = begin + self._offset_us
        sent = np.arange(first + max(0, -(-(start_us - first) // step)) * step, stop_us, step, dtype=np.int64)
        if not len(sent):
            return NOTHING
        known = self._minute(minute)
        count = np.searchsorted(known.time_us, sent, "right")
        told = np.searchsorted(known.time_us, sent - step, "right")
        candle_opens = self._open_of(minute) == minute * MINUTE_MS
        fresh = count > told
        if not candle_opens and sent[0] == first:
            # Trades at the end of the last minute are news of this candle still.
            fresh[0] |= len(self._minute(minute - 1).time_us) > np.searchsorted(
                self._minute(minute - 1).time_us, first - step, "right"
            )
        sent, count = sent[fresh], count[fresh]
        if not len(sent):
            return NOTHING
        before = self._totals_before(minute)
        columns = [
            np.where(count > 0, column[np.maximum(count - 1, 0)], 0) if len(column) else np.zeros_like(count)
            for column in known.after
        ]
        return self._told(sent, self._open_of(minute), _together(before, columns), closed=False)

    def _closing(self, minute: int) -> Events | None:
        """The closed candle, told at the beginning of the minute after it."""
        if self._open_of(minute) != minute * MINUTE_MS:
            return None
        totals = self._totals_before(minute, of_last=True)
        if totals is None:
            return None
        sent = np.array([minute * MINUTE_US + self._closing_us], dtype=np.int64)
        columns = [np.array([value], dtype=np.int64) for value in totals]
        return self._told(sent, self._open_of(minute - 1), columns, closed=True)

    def _told(self, sent_us: Ints, open_ms: int, columns: list[Ints], *, closed: bool) -> Events:
        opens_ms = [open_ms] * len(sent_us)
        return kline_events(
            self._tape,
            self._interval,
            self._unit_us,
            sent_us,
            opens_ms,
            columns,
            closed=closed,
            zone_ms=self._zone_ms,
        )

    def _open_of(self, minute: int) -> int:
        return floor_open(self._interval, minute * MINUTE_MS + self._zone_ms) - self._zone_ms

    def _minute(self, minute: int) -> _Minute:
        known = self._minutes.get(minute)
        if known is None:
            trades = self._tape.trades(minute * MINUTE_US, (minute + 1) * MINUTE_US)
            bought = ~trades.buyer_maker
            known = _Minute(
                trades.time_us,
                (
                    np.broadcast_to(trades.price[:1], trades.price.shape),
                    np.maximum.accumulate(trades.price),
                    np.minimum.accumulate(trades.price),
                    trades.price,
                    np.cumsum(trades.lots),
                    np.cumsum(trades.amount),
                    np.arange(1, len(trades) + 1, dtype=np.int64),
                    np.cumsum(trades.lots * bought),
                    np.cumsum(trades.amount * bought),
                    np.broadcast_to(trades.ordinal[:1], trades.ordinal.shape),
                ),
            )
            self._minutes[minute] = known
            if len(self._minutes) > KEPT_MINUTES:
                self._minutes.popitem(last=False)
        return known

    def _totals_before(self, minute: int, *, of_last: bool = False) -> tuple[int, ...] | None:
        """What the candle of a minute came to before it, or, with ``of_last``, the candle that ended with it.

        None where nothing was traded.
        """
        open_ms = self._open_of(minute - 1 if of_last else minute)
        if open_ms == minute * MINUTE_MS:
            return None
        # Kept under the minute that they reach up to.
        known = self._before.get(minute, ())
        if known == ():
            last = minute - 1
            earlier = self._before.get(last) if last in self._before and self._open_of(last) == open_ms else ()
            if self._open_of(last) == last * MINUTE_MS:
                earlier = None
            known = self._counted(open_ms, minute) if earlier == () else _sum(earlier, self._minute(last).totals())
            self._before[minute] = known
            if len(self._before) > KEPT_MINUTES:
                self._before.popitem(last=False)
        return known

    def _counted(self, open_ms: int, minute: int) -> tuple[int, ...] | None:
        """The same from the candles of all its minutes: for who comes in the middle."""
        until_ms = minute * MINUTE_MS
        minutes = self._tape.series.candles("1m", open_ms, until_ms - 1, until_ms)
        candles = aggregate(minutes, np.full(len(minutes), open_ms, dtype=np.int64))
        if not len(candles) or not candles.count[0]:
            return None
        first = self._tape.ticks.trades_until(open_ms * 1000 - 1)
        columns = (
            candles.open,
            candles.high,
            candles.low,
            candles.close,
            candles.volume,
            candles.amount,
            candles.count,
            candles.taker_volume,
            candles.taker_amount,
        )
        return (*(int(column[0]) for column in columns), first)


def _sum(earlier: tuple[int, ...] | None, later: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if earlier is None or later is None:
        return later if earlier is None else earlier
    sums = [one + other for one, other in zip(earlier, later, strict=True)]
    sums[OPEN], sums[CLOSE], sums[FIRST] = earlier[OPEN], later[CLOSE], earlier[FIRST]
    sums[HIGH], sums[LOW] = max(earlier[HIGH], later[HIGH]), min(earlier[LOW], later[LOW])
    return tuple(sums)


def _together(before: tuple[int, ...] | None, columns: list[Ints]) -> list[Ints]:
    """The candle so far: what came before the minute, and the minute's part where it has one."""
    if before is None:
        return columns
    some = columns[COUNT] > 0
    result = [column + value for column, value in zip(columns, before, strict=True)]
    result[OPEN] = np.full_like(columns[OPEN], before[OPEN])
    result[FIRST] = np.full_like(columns[FIRST], before[FIRST])
    result[CLOSE] = np.where(some, columns[CLOSE], before[CLOSE])
    result[HIGH] = np.where(some, np.maximum(columns[HIGH], before[HIGH]), before[HIGH])
    result[LOW] = np.where(some, np.minimum(columns[LOW], before[LOW]), before[LOW])
    return result
