"""What the ledger knows of a stretch without rows: who was asked, what follows from it. Pure.

A halt of the exchange is believed (`exchange_gap`) when archive and REST agree, or when two REST answers at least 24 h
apart do. Before that the stretch is `unpublished` and asked again, first after a quarter of an hour, then ever later.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from airflow_provider_binance.market import DAY_US, MINUTE_US, Interval, iso, to_us
from airflow_provider_binance.records import CoverageRange, State

#: Two REST answers this far apart are believed without the archive.
BELIEVED_AFTER_US = DAY_US
_FIRST_PAUSE_US = 15 * MINUTE_US
#: A file name per source is enough evidence; a ledger line is no log.
_MOST_NAMES = 4


@dataclass(frozen=True, slots=True)
class Evidence:
    """Who was asked about a stretch and had no rows: archive files by name, REST by time (first, last).

    `early` names archive files that were made before the stretch's klines had closed: they were read, and say nothing
    of it. `away` tells when the archive could not be reached (first, last). `forced` names the one source that was
    allowed: a load that may ask others need not wait.
    """

    archive: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()
    rest: tuple[int, ...] = ()
    note: str = ""
    forced: str = ""
    early: tuple[str, ...] = ()
    away: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Evidence:
        """Read what `str()` wrote; a text of another hand is kept as the note."""
        if not text:
            return cls()
        try:
            loaded = json.loads(text)
            return cls(
                tuple(loaded.get("archive", ())),
                tuple(loaded.get("corrupt", ())),
                _times(loaded.get("rest", ())),
                str(loaded.get("note", "")),
                str(loaded.get("forced", "")),
                tuple(loaded.get("early", ())),
                _times(loaded.get("away", ())),
            )
        except (ValueError, AttributeError, TypeError):
            return cls(note=text)

    def __str__(self) -> str:
        facts = {
            "archive": list(self.archive),
            "corrupt": list(self.corrupt),
            "rest": [iso(at) for at in self.rest],
            "note": self.note,
            "forced": self.forced,
            "early": list(self.early),
            "away": [iso(at) for at in self.away],
        }
        kept = {name: value for name, value in facts.items() if value}
        return json.dumps(kept, ensure_ascii=False, sort_keys=True) if kept else ""

    @property
    def read(self) -> tuple[str, ...]:
        """The archive files that need not be read again."""
        return self.archive + self.early

    def with_early(self, name: str) -> Evidence:
        """The archive file called `name` was made too early to have the stretch."""
        return self if name in self.early else replace(self, early=(*self.early, name)[-_MOST_NAMES:])

    def with_archive(self, name: str) -> Evidence:
        """The archive file called `name` lacks the stretch."""
        return self if name in self.archive else replace(self, archive=(*self.archive, name)[-_MOST_NAMES:])

    def with_corrupt(self, name: str) -> Evidence:
        """The archive file called `name` could not be read."""
        return self if name in self.corrupt else replace(self, corrupt=(*self.corrupt, name)[-_MOST_NAMES:])

    def with_rest(self, at_us: int) -> Evidence:
        """REST had no rows at `at_us`."""
        return replace(self, rest=(self.rest[0], at_us) if self.rest else (at_us,))

    def with_away(self, at_us: int) -> Evidence:
        """The archive could not be reached at `at_us`."""
        return replace(self, away=(self.away[0], at_us) if self.away else (at_us,))


def _times(texts: Iterable[str]) -> tuple[int, ...]:
    return tuple(to_us(datetime.fromisoformat(at)) for at in texts)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of a series' time that is to be loaded, with what earlier answers said of it."""

    start_us: int
    end_us: int
    evidence: Evidence = Evidence()


def hole(stretch: Stretch, now_us: int) -> CoverageRange:
    """The stretch as a gap that is asked again at once: another source may have it."""
    return CoverageRange(
        stretch.start_us,
        stretch.end_us,
        State.UNPUBLISHED,
        evidence=str(stretch.evidence),
        checked_at_us=now_us,
        next_check_at_us=None,  # whatever clock the next load goes by, to the second or finer
    )


def settle(stretch: Stretch, now_us: int, *, is_gone: bool, is_nowhere: bool = False) -> CoverageRange:
    """The stretch after every source that could be asked now was asked; `is_gone`: REST will never serve it again;
    `is_nowhere`: no source has it, nor will have."""
    evidence = stretch.evidence
    rest_agrees = bool(evidence.rest) and (
        bool(evidence.archive) or evidence.rest[-1] - evidence.rest[0] >= BELIEVED_AFTER_US
    )
    if rest_agrees:
        state, next_check_us = State.EXCHANGE_GAP, None
        evidence = replace(evidence, forced="")
    elif (evidence.read and is_gone) or is_nowhere:
        state, next_check_us = State.UNAVAILABLE, None
    elif (evidence.corrupt or evidence.away) and not evidence.rest and not evidence.archive:
        state, next_check_us = State.FAILED, now_us + _FIRST_PAUSE_US
    else:
        state, next_check_us = State.UNPUBLISHED, next_check(evidence, now_us)
    return CoverageRange(
        stretch.start_us,
        stretch.end_us,
        state,
        evidence=str(evidence),
        checked_at_us=now_us,
        next_check_at_us=next_check_us,
    )


def next_check(evidence: Evidence, now_us: int) -> int:
    """When to ask again: after three times as long as it has been missing, a quarter of an hour to a day; but as soon
    as a second REST answer would be believed."""
    first = evidence.rest[0] if evidence.rest else now_us
    again = now_us + min(max(3 * (now_us - first), _FIRST_PAUSE_US), DAY_US)
    believed = first + BELIEVED_AFTER_US
    return min(again, believed) if evidence.rest and believed > now_us else again


class ContinuityScan:
    """Finds the holes of a grid stretch while its rows pass by in ascending order, in any number of blocks."""

    def __init__(self, interval: Interval, start_us: int, end_us: int) -> None:
        self._interval = interval
        self._start, self._end = interval.align(start_us, end_us)
        self._next = self._start
        self._holes: list[tuple[int, int]] = []
        self.rows = 0

    def feed(self, times_us: list[int]) -> None:
        """Take the next open times of the stretch."""
        if not times_us:
            return
        self.rows += len(times_us)
        first, last = times_us[0], times_us[-1]
        size = self._interval.size_us
        if not self._interval.is_calendar and first == self._next and times_us == list(range(first, last + 1, size)):
            self._next = last + size
            return
        for at in times_us:
            if at < self._next or self._interval.floor(at) != at:
                continue  # off the grid: kept in the table, but no open time that anyone waits for
            if at > self._next:
                self._holes.append((self._next, at))
            self._next = self._interval.next_open(at)

    def holes(self) -> list[tuple[int, int]]:
        """The stretches without rows, once all rows were fed."""
        tail = [(self._next, self._end)] if self._next < self._end else []
        return self._holes + tail

    def complete(self) -> list[tuple[int, int]]:
        """The stretches with every row."""
        found, at = [], self._start
        for start_us, end_us in self.holes():
            if at < start_us:
                found.append((at, start_us))
            at = end_us
        if at < self._end:
            found.append((at, self._end))
        return found
