"""One series' records in the order of their keys, whatever order they come in. Pure.

What comes early waits until what is lacking before it came, was fetched, or is known not to come. What is lacking for
good goes its way as a gap, in its place.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from airflow_provider_binance.market import INTERVALS
from airflow_provider_binance.market_data import Cause, MarketData
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.sequences import KeySequence, RecentSequence, Verdict, sequence_of

#: A record as it came, one that is made already, or why the keys from `start` to `end` lack.
Content = Record | MarketData | Cause

#: Where connections overlap, records whose keys do not follow one another wait for those of the slower one.
OVERLAP_HOLD_SECONDS = 0.5


class Piece(NamedTuple):
    """What goes on to the user: a record, or a gap. `[start, end)` are keys, or times where keys have holes."""

    line: Line
    start: int
    end: int
    content: Content


class Work(NamedTuple):
    """Keys `[start, end)` that REST is to bring; `is_late`: a kline whose close has not come."""

    start: int
    end: int
    is_late: bool = False


@dataclass
class Held:
    """How much all lines of a stream hold back."""

    count: int = 0


class KeyLine:
    """A series whose keys follow one another: ids, or the open times of a grid.

    `work` is what REST is to bring, ascending. Each method returns what may go on now.
    """

    def __init__(self, series: Series, all_held: Held) -> None:
        sequence = sequence_of(series)
        assert isinstance(sequence, KeySequence)
        self.series = series
        self.work: list[Work] = []
        self.open_since: float | None = None
        self._after: Callable[[int], int] = INTERVALS[series.interval].next_open if series.interval else _next_id
        self._sequence = sequence
        self._all_held = all_held
        self._held: list[tuple[int, int, Piece]] = []
        self._numbers = count()

    def __len__(self) -> int:
        """How much waits for what is lacking."""
        return len(self._held)

    @property
    def next_key(self) -> int | None:
        """The key that should come next; None before the first."""
        return self._sequence.next_key

    def take(self, key: int, content: Content, at: float) -> list[Piece]:
        """A record came at `at`."""
        verdict = self._sequence.take_key(key)
        if verdict is Verdict.STALE:
            return []
        piece = Piece(self, key, self._after(key), content)
        if verdict is Verdict.ACCEPT and not self._held and not self.work:
            return [piece]  # nothing lacks: a hole that is open has the record behind it held
        if verdict is Verdict.GAP and self.open_since is None:
            self.open_since = at
        self._hold(piece)
        return self._released()

    def begin(self, key: int) -> None:
        """The first record is to be `key`."""
        self._sequence.pass_over(key)

    def expect(self, end: int) -> None:
        """What should have come before `end` and has not is to be fetched."""
        start = self._sequence.next_key
        if start is not None and start < end:
            self._sequence.pass_over(end)
            insort(self.work, Work(start, end, is_late=True))

    def settle(self) -> None:
        """The holes that are open are to be fetched from now on; what comes late is stale."""
        self.open_since = None
        for start, end in self._sequence.settle():
            insort(self.work, Work(start, end))

    def filled(self, work: Work, upto: int, found: Iterable[tuple[int, Content]]) -> list[Piece]:
        """All that there is of the first `work` before `upto` was `found`; what is not among it is a gap."""
        if not self.work or self.work[0] != work:
            return []  # it was given up meanwhile
        at, upto = work.start, min(upto, work.end)
        for key, content in found:
            if not at <= key < upto:
                continue
            self._lack(at, key, Cause.NOT_SERVED)
            at = self._after(key)
            self._hold(Piece(self, key, at, content))
        self._lack(at, upto, Cause.NOT_SERVED)
        self.work[:1] = [work._replace(start=upto)] if upto < work.end else []
        return self._released()

    def give_up(self, cause: Cause, only: Work | None = None) -> list[Piece]:
        """All that is lacking, or `only` that first `work`, will not be fetched."""
        if only is None:
            self.settle()
        for work in [work for work in self.work if only in (None, work)]:
            self._lack(work.start, work.end, cause)
            self.work.remove(work)
        return self._released()

    def _lack(self, start: int, end: int, cause: Cause) -> None:
        if start < end:
            self._hold(Piece(self, start, end, cause))

    def _hold(self, piece: Piece) -> None:
        self._all_held.count += 1
        heapq.heappush(self._held, (piece.start, next(self._numbers), piece))

    def _released(self) -> list[Piece]:
        holes = self._sequence.holes
        if not holes:
            self.open_since = None
        before = min((lacking[0] for lacking in (*self.work[:1], *holes[:1])), default=None)
        released = []
        while self._held and (before is None or self._held[0][0] < before):
            released.append(heapq.heappop(self._held)[2])
        self._all_held.count -= len(released)
        return released


class RecentLine:
    """A series whose keys grow but have holes: what was lost shows by time alone, and cannot be had again."""

    def __init__(self, series: Series, all_held: Held) -> None:
        sequence = sequence_of(series)
        assert isinstance(sequence, RecentSequence)
        self.series = series
        self._sequence = sequence
        self._all_held = all_held
        self._held: list[tuple[int, int, float, Piece]] = []
        self._numbers = count()
        self._last = -1

    def __len__(self) -> int:
        """How much waits for what is slower."""
        return len(self._held)

    def take(self, record: Record, at: float, *, overlaps: bool) -> list[Piece]:
        """A record came at `at`; `overlaps`: of more than one connection."""
        verdict = self._sequence.take(record)
        if verdict is Verdict.STALE:
            return []
        key = record.values[0]
        assert isinstance(key, int)
        for start, end in self._sequence.settle():
            if start < end:
                self._hold(key, at, Piece(self, start, end, Cause.NO_SOURCE))
        at_us = record.received_us if record.event_us is None else record.event_us
        self._hold(key, at, Piece(self, at_us, at_us + 1, record))
        return self.release(at if not overlaps else at - OVERLAP_HOLD_SECONDS)

    def cut(self) -> None:
        """No connection was there."""
        self._sequence.cut()

    def release(self, before: float) -> list[Piece]:
        """What came at `before` at the latest, in order. A record that is older than one that went on is a gap: never
        out of order, and never lost in silence."""
        released = []
        while self._held and self._held[0][2] <= before:
            key, _, _, piece = heapq.heappop(self._held)
            if key < self._last and isinstance(piece.content, Record):
                piece = piece._replace(content=Cause.OUT_OF_ORDER)
            self._last = max(self._last, key)
            released.append(piece)
        self._all_held.count -= len(released)
        return released

    def _hold(self, key: int, at: float, piece: Piece) -> None:
        self._all_held.count += 1
        heapq.heappush(self._held, (key, next(self._numbers), at, piece))


Line = KeyLine | RecentLine


def _next_id(key: int) -> int:
    return key + 1
