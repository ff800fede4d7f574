"""What follows what in a stream, as state machines without I/O: each record is accepted, stale, or tells of a gap.

Where two connections overlap, their records interleave. So a hole stays open for a while: a late record that lies in
one is accepted and makes it smaller. What is still open when the caller settles is the repair's to fill, and whatever
comes of it later is stale. That way each key is accepted at most once, and each one that was not lies in a hole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from airflow_provider_binance.market import INTERVALS, SECOND_US
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream.frames import Record

#: `[first, end)`: keys that were not seen, or times between which something was lost.
Hole = tuple[int, int]
#: What tells records apart; its first part grows.
Key = tuple[int, *tuple[int | str | None, ...]]

#: Mark prices come every second: of one that is lost the next comes after two.
MARK_PRICE_SILENCE_US = 3 * SECOND_US // 2


class Verdict(Enum):
    """What becomes of a record: `GAP` is accepted, and tells that something before it is lacking."""

    ACCEPT = "accept"
    STALE = "stale"
    GAP = "gap"


_ACCEPT, _STALE = Verdict.ACCEPT, Verdict.STALE  # an enum is asked slowly


class Sequence(Protocol):
    """The state of one series."""

    def take(self, record: Record) -> Verdict:
        """Judge a record, and remember it."""

    def cut(self) -> None:
        """The connection was lost: where the records do not tell themselves, what comes next comes after a gap."""

    @property
    def holes(self) -> list[Hole]:
        """The holes that are open, ascending."""

    def settle(self) -> list[Hole]:
        """The holes that are open; they are the caller's from now on, and what lies in them is stale."""


class KeySequence:
    """Keys that follow one another without a hole: ids, or the open times of a grid.

    `after(key)` is the key that follows. `last`: the one that is there already; None begins with whatever comes first.
    """

    def __init__(self, after: Callable[[int], int], last: int | None = None) -> None:
        self._after = after
        self._next = None if last is None else after(last)
        self._holes: list[Hole] = []

    @property
    def next_key(self) -> int | None:
        """The key that should come next; None before the first."""
        return self._next

    @property
    def holes(self) -> list[Hole]:
        """The holes that are open, ascending."""
        return list(self._holes)

    def pass_over(self, key: int) -> None:
        """What comes before `key` is brought by somebody else; it is stale from now on."""
        if self._next is None or key > self._next:
            self._next = key

    def take(self, record: Record) -> Verdict:
        """Judge a record by its first value."""
        key: Any = record.values[0]
        if key == self._next:  # as nearly always
            self._next = self._after(key) if self._after is not _next_id else key + 1
            return _ACCEPT
        return self.take_key(key)

    def take_key(self, key: int) -> Verdict:
        """Judge a key, and remember it."""
        expected = self._next
        if expected is None or key == expected:
            self._next = self._after(key)
            return Verdict.ACCEPT
        if key > expected:
            self._holes.append((expected, key))
            self._next = self._after(key)
            return Verdict.GAP
        return self._late(key)

    def cut(self) -> None:
        """Nothing: the keys tell."""

    def settle(self) -> list[Hole]:
        """The holes that are open, which are the caller's from now on."""
        holes, self._holes = self._holes, []
        return holes

    def _late(self, key: int) -> Verdict:
        at = bisect_right(self._holes, key, key=lambda hole: hole[0]) - 1
        if at < 0 or key >= self._holes[at][1]:
            return Verdict.STALE
        first, end = self._holes[at]
        self._holes[at : at + 1] = [hole for hole in ((first, key), (self._after(key), end)) if hole[0] < hole[1]]
        return Verdict.ACCEPT


class RecentSequence:
    """Keys that grow, but not by one: what was lost shows by time alone.

    A key that was seen is stale, and so is one that is not above those that are remembered no more: the `keep` last
    ones are, which is further than connections that overlap are apart. A gap is told when the connection was cut, or
    when nothing came for longer than `silence_us` where records come in a steady beat. `last_us`: when the last record
    was that is there already.
    """

    def __init__(
        self,
        key: Callable[[Record], Key],
        *,
        silence_us: int | None = None,
        last_us: int | None = None,
        keep: int = 256,
    ) -> None:
        self._key = key
        self._silence_us = silence_us
        self._last_us = last_us
        self._is_cut = last_us is not None
        self._floor = self._top = -1
        self._seen: set[Key] = set()
        self._order: deque[Key] = deque()
        self._keep = keep
        self._holes: list[Hole] = []

    @property
    def holes(self) -> list[Hole]:
        """The times between which something may be lacking, ascending."""
        return list(self._holes)

    def take(self, record: Record) -> Verdict:
        """Judge a record by its key, and its time: when it was sent, else when it came."""
        key = self._key(record)
        if key[0] <= self._top and (key[0] <= self._floor or key in self._seen):
            return _STALE
        self._remember(key)
        at_us = record.received_us if record.event_us is None else record.event_us
        last_us = self._last_us
        if last_us is not None and at_us <= last_us:
            return _ACCEPT
        self._last_us = at_us
        if not self._is_cut and (self._silence_us is None or last_us is None or at_us - last_us <= self._silence_us):
            return _ACCEPT
        self._is_cut = False
        if last_us is None:
            return _ACCEPT
        self._holes.append((last_us + 1, at_us))
        return Verdict.GAP

    def cut(self) -> None:
        """The connection was lost."""
        self._is_cut = self._last_us is not None

    def settle(self) -> list[Hole]:
        """The holes that are open, which are the caller's from now on."""
        holes, self._holes = self._holes, []
        return holes

    def _remember(self, key: Key) -> None:
        if key[0] > self._top:
            self._top = key[0]
        self._seen.add(key)
        self._order.append(key)
        if len(self._order) > self._keep:
            gone = self._order.popleft()
            self._seen.discard(gone)
            if gone[0] > self._floor:
                self._floor = gone[0]


def sequence_of(series: Series, last: int | None = None) -> Sequence:
    """The state machine of a series. `last`: the key, or where there is none that tells of gaps the time, of the last
    record that is there already."""
    match series.dataset:
        case "klines":
            return KeySequence(INTERVALS[series.interval].next_open, last)
        case "agg_trades" | "trades":
            return KeySequence(_next_id, last)
        case "mark_prices":
            return RecentSequence(_first, silence_us=MARK_PRICE_SILENCE_US, last_us=last)
        case "liquidations":
            return RecentSequence(_liquidation_key, last_us=last)
        case _:
            return RecentSequence(_first, last_us=last)


def _next_id(key: int) -> int:
    return key + 1


def _first(record: Record) -> Key:
    return (record.values[0],)  # type: ignore[return-value]


def _liquidation_key(record: Record) -> Key:
    event_time, side, _, _, quantity, price, *_ = record.values
    assert isinstance(event_time, int)
    return event_time, side, price, quantity
