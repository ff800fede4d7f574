"""Events of the order book: its best prices, its changes and its upper part, all of one book that REST shows, too."""

from __future__ import annotations

import numpy as np

from airflow_provider_binance.simulator.book import STEP_US, Book
from airflow_provider_binance.simulator.noise import Ints
from airflow_provider_binance.simulator.rest_trades import price_texts, quantity_texts
from airflow_provider_binance.simulator.streams.events import NOTHING, Events, origin, quoted
from airflow_provider_binance.simulator.streams.tape import Tape

STEP_MS = STEP_US // 1000
# The best level is nearly always among the first few, and always among as many as REST looks at.
FEW_LEVELS, ALL_LEVELS = 6, 41
# Changes are told so far from the middle: farther than REST shows levels, also after the middle has jumped.
TOLD_LEVELS = {"spot": 8000, "um": 4000, "cm": 4000}
LARGEST_ID_HOLE = 5
SALT_HOLES = 84


class BookMoments:
    """The moments at which a stream tells of the book, and what it needs of the last trades."""

    def __init__(self, tape: Tape, step_ms: int) -> None:
        self._tape = tape
        self.step_us = max(step_ms, STEP_MS) * 1000

    def between(self, start_us: int, stop_us: int) -> tuple[Ints, Ints] | None:
        """The moments told of in a window, with the one before them, and the highest bid price at each."""
        first, last = ((edge - self._tape.delay_us - 1) // self.step_us for edge in (start_us, stop_us))
        if last <= first:
            return None
        moments = np.arange(first, last + 1, dtype=np.int64) * self.step_us
        steps = moments // STEP_US
        found = self._tape.prices_at(steps * STEP_US)
        if found is None:
            return None
        prices, makers = found
        return moments, np.where(makers, prices, prices - 1)


class BookTickerEvents:
    """``bookTicker``: the best level of both sides whenever it changes."""

    def __init__(self, tape: Tape, book: Book, step_ms: int) -> None:
        self._tape = tape
        self._book = book
        self._moments = BookMoments(tape, step_ms)

    def between(self, start_us: int, stop_us: int) -> Events:
        """See :class:`Source`."""
        found = self._moments.between(start_us, stop_us)
        if found is None:
            return NOTHING
        moments, highest = found
        steps = moments // STEP_US
        columns = (*self._best(highest, steps, -1), *self._best(highest + 1, steps, 1))
        changed = np.zeros(len(steps), dtype=np.bool_)
        for column in columns:
            changed[1:] |= column[1:] != column[:-1]
        instrument = self._tape.instrument
        bid, bid_lots, ask, ask_lots = (column[changed] for column in columns)
        texts = zip(
            self._book.update_ids(steps[changed]).tolist(),
            (steps[changed] * STEP_MS).tolist(),
            price_texts(instrument, bid),
            quantity_texts(instrument, bid_lots),
            price_texts(instrument, ask),
            quantity_texts(instrument, ask_lots),
            strict=True,
        )
        symbol, delay_ms = quoted(instrument.symbol), self._tape.delay_us // 1000
        sent_us: list[int] = (moments[changed] + self._tape.delay_us).tolist()
        if instrument.market == "spot":
            payloads = [
                f'{{"u":{number},"s":{symbol},"b":"{bid}","B":"{size}","a":"{ask}","A":"{asked}"}}'
                for number, _, bid, size, ask, asked in texts
            ]
        else:
            tail = f',"ps":{quoted(instrument.pair)}{origin(instrument.market)}}}'
            payloads = [
                f'{{"e":"bookTicker","u":{number},"E":{time + delay_ms},"T":{time},"s":{symbol},"b":"{bid}",'
                f'"B":"{size}","a":"{ask}","A":"{asked}"{tail}'
                for number, time, bid, size, ask, asked in texts
            ]
        return Events(sent_us, payloads)

    def _best(self, nearest: Ints, steps: Ints, direction: int) -> tuple[Ints, Ints]:
        """Price and lots of the first level with anything at it, going away from the middle."""
        for levels in (FEW_LEVELS, ALL_LEVELS):
            prices = nearest[:, None] + direction * np.arange(levels, dtype=np.int64)
            lots = self._book.lots(prices, steps[:, None])
            place = np.argmax(lots > 0, axis=1)
            rows = np.arange(len(steps))
            if (lots[rows, place] > 0).all():
                break
        return prices[rows, place], lots[rows, place]


class DepthEvents:
    """``depth``: all levels that have changed since the last event."""

    def __init__(self, tape: Tape, book: Book, step_ms: int, unit_us: int) -> None:
        self._tape = tape
        self._book = book
        self._unit_us = unit_us
        self._moments = BookMoments(tape, step_ms)
        self._told = TOLD_LEVELS[tape.instrument.market]
        # The rhythms of prices around the middle, looked up again when it has wandered off.
        self._known = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def between(self, start_us: int, stop_us: int) -> Events:
        """See :class:`Source`."""
        found = self._moments.between(start_us, stop_us)
        if found is None:
            return NOTHING
        moments, highest = found
        steps = (moments // STEP_US).tolist()
        ids = self._book.update_ids(moments // STEP_US).tolist()
        payloads = []
        for place, best in enumerate(highest.tolist()[1:], start=1):
            sides = self._changes(steps[place - 1], steps[place], int(highest[place - 1]), best)
            texts = ",".join(
                f'"{name}":{level_texts(self._tape, *side)}' for name, side in zip("ba", sides, strict=True)
            )
            moment_us = steps[place] * STEP_US
            head = depth_head(self._tape, ids[place - 1], ids[place], moment_us, self._unit_us)
            payloads.append(f"{head},{texts}{depth_tail(self._tape)}")
        return Events((moments[1:] + self._tape.delay_us).tolist(), payloads)

    def _changes(self, before: int, now: int, best_before: int, best: int) -> tuple[tuple[Ints, Ints], ...]:
        """Prices and lots of the bids, then the asks, that are others now; 0 where nobody waits any more."""
        prices, rhythms = self._around(min(best_before, best), max(best_before, best))
        was_bid, is_bid = prices <= best_before, prices <= best
        maybe = ((before + prices) // rhythms != (now + prices) // rhythms) | (was_bid != is_bid)
        prices, was_bid, is_bid = prices[maybe], was_bid[maybe], is_bid[maybe]
        old, new = self._book.lots(prices, before), self._book.lots(prices, now)
        sides = []
        for was, stays in ((was_bid, is_bid), (~was_bid, ~is_bid)):
            one, other = np.where(was, old, 0), np.where(stays, new, 0)
            changed = one != other
            sides.append((prices[changed], other[changed]))
        # The best come first.
        return (sides[0][0][::-1], sides[0][1][::-1]), sides[1]

    def _around(self, low: int, high: int) -> tuple[Ints, Ints]:
        first, last = max(low - self._told, 1), high + self._told
        prices, rhythms = self._known
        if not len(prices) or prices[0] > first or prices[-1] < last:
            prices = np.arange(max(first - self._told, 1), last + self._told, dtype=np.int64)
            rhythms = self._book.rhythms(prices)
            self._known = prices, rhythms
        begin = first - int(prices[0])
        return prices[begin : begin + last - first + 1], rhythms[begin : begin + last - first + 1]


class PartialDepthEvents:
    """``depth<n>``: the upper levels of the book, whole."""

    def __init__(self, tape: Tape, book: Book, levels: int, step_ms: int, unit_us: int) -> None:
        self._tape = tape
        self._book = book
        self._levels = levels
        self._unit_us = unit_us
        self._moments = BookMoments(tape, step_ms)

    def between(self, start_us: int, stop_us: int) -> Events:
        """See :class:`Source`."""
        found = self._moments.between(start_us, stop_us)
        if found is None:
            return NOTHING
        moments, highest = found
        spot = self._tape.instrument.market == "spot"
        steps = (moments // STEP_US).tolist()
        ids = self._book.update_ids(moments // STEP_US).tolist()
        payloads = []
        for place, best in enumerate(highest.tolist()[1:], start=1):
            sides = self._book.sides(best, steps[place], self._levels)
            bids, asks = (level_texts(self._tape, *np.array(side, dtype=np.int64).T) for side in sides)
            if spot:
                payloads.append(f'{{"lastUpdateId":{ids[place]},"bids":{bids},"asks":{asks}}}')
            else:
                head = depth_head(self._tape, ids[place - 1], ids[place], steps[place] * STEP_US, self._unit_us)
                payloads.append(f'{head},"b":{bids},"a":{asks}{depth_tail(self._tape)}')
        return Events((moments[1:] + self._tape.delay_us).tolist(), payloads)


def level_texts(tape: Tape, prices: Ints, lots: Ints) -> str:
    """Levels as JSON."""
    instrument = tape.instrument
    pairs = zip(price_texts(instrument, prices), quantity_texts(instrument, lots), strict=True)
    return "[" + ",".join(f'["{price}","{quantity}"]' for price, quantity in pairs) + "]"


def depth_head(tape: Tape, before: int, now: int, moment_us: int, unit_us: int) -> str:
    """The beginning of a ``depthUpdate``; futures share their ids with all symbols, so only ``pu`` is a chain."""
    event, symbol = (moment_us + tape.delay_us) // unit_us, quoted(tape.instrument.symbol)
    if tape.instrument.market == "spot":
        return f'{{"e":"depthUpdate","E":{event},"s":{symbol},"U":{before + 1},"u":{now}'
    hole = int(tape.noise.pick(SALT_HOLES, np.array([now], dtype=np.int64), LARGEST_ID_HOLE)[0])
    first = min(before + 1 + hole, now)
    return (
        f'{{"e":"depthUpdate","E":{event},"T":{moment_us // unit_us},"s":{symbol},"U":{first},"u":{now},"pu":{before}'
    )


def depth_tail(tape: Tape) -> str:
    """The end of a ``depthUpdate``."""
    instrument = tape.instrument
    return "}" if instrument.market == "spot" else f',"ps":{quoted(instrument.pair)}{origin(instrument.market)}}}'
