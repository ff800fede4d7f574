"""What of a series must be looked at again: decided from what its ledger said before and says now.

A time up to which all is done would miss what is filled in or corrected behind it. So the ledger itself is compared:
lines that are new, ranges whose coverage is new, other or gone, and rows that were corrected.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from airflow_provider_binance.market import HOUR_US, Interval
from airflow_provider_binance.records import CoverageRange, State

#: Corrections are ordered by a clock that several hosts may disagree about, and are seen when they commit.
LOOK_BACK_US = HOUR_US

#: A covered range with a word that changes when what is known of it does.
Known = tuple[int, int, str]
Span = tuple[int, int]


@dataclass(slots=True)
class Mark:
    """Up to where a series was looked at: the state that is kept between two runs.

    `line` is the last line of the ledger, `coverage` what it covered, `corrected_us` and `corrections` the last
    correction and how many there were in the hour before it. `compare` and `prune` are still to be done; in the latter
    rows that the store has not are taken out.
    """

    line: int = 0
    corrected_us: int = 0
    corrections: int = 0
    coverage: list[Known] = field(default_factory=list)
    compare: list[Span] = field(default_factory=list)
    prune: list[Span] = field(default_factory=list)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Mark:
        """As it was kept."""
        return cls(
            told["line"], told["corrected_us"], told["corrections"],
            [(start, end, word) for start, end, word in told["coverage"]],
            [(start, end) for start, end in told["compare"]], [(start, end) for start, end in told["prune"]],
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As it is kept, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Corrected:
    """A correction: of the row at `at_us`, made at `when_us`; `is_gone` if a value was taken away."""

    at_us: int
    when_us: int
    is_gone: bool


def known(ranges: Iterable[CoverageRange]) -> list[Known]:
    """What is complete, each with a word for how that is known."""
    return [(r.start_us, r.end_us, _word(r)) for r in ranges if r.state is State.COMPLETE]


def advanced(
    before: Mark,
    lines: Sequence[tuple[int, int, int]],
    coverage: Sequence[Known],
    corrections: Sequence[Corrected],
    interval: Interval,
    *,
    full: bool = False,
) -> Mark:
    """The mark of now, with what is to be done to get there from `before`, its own unfinished work included.

    `lines` are those behind `before.line`, `corrections` those since an hour before `before.corrected_us`. `full`: look
    at everything, whatever was known.
    """
    new, vanished = _differences([] if full else before.coverage, coverage)
    if full:
        vanished = [(start, end) for start, end, _ in (*before.coverage, *coverage)]
    last_us = max((c.when_us for c in corrections), default=before.corrected_us)
    recent = sum(c.when_us > last_us - LOOK_BACK_US for c in corrections)
    points: Sequence[Corrected] = corrections
    is_new = not before.line and not before.coverage
    if is_new or (last_us, recent) == (before.corrected_us, before.corrections):
        points = ()
    changed = [(start, end) for _, start, end in lines] + new + [(c.at_us, c.at_us + 1) for c in points]
    gone = [(c.at_us, c.at_us + 1) for c in points if c.is_gone]
    prune = merged([*before.prune, *vanished, *gone], gap_us=0)
    return Mark(
        max((number for number, _, _ in lines), default=before.line),
        last_us,
        recent,
        list(coverage),
        # Rows that were corrected here and there are read together; those of `prune` are compared anyway.
        without(merged([*before.compare, *changed], gap_us=1000 * interval.size_us), prune),
        prune,
    )


def pieces(span: Span, interval: Interval, most: int) -> Iterator[Span]:
    """`span` in consecutive pieces of at most `most` klines and a bit."""
    at, end = span
    while at < end:
        upto = min(interval.advance(interval.ceil(at), most), end)
        yield at, upto
        at = upto


def merged(spans: Iterable[Span], *, gap_us: int) -> list[Span]:
    """The spans in order, those that overlap, or lie no further apart than `gap_us`, as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1] + gap_us:
            found[-1] = found[-1][0], max(found[-1][1], end)
        elif start < end:
            found.append((start, end))
    return found


def without(spans: Iterable[Span], taken: Sequence[Span]) -> list[Span]:
    """The spans without what `taken` (in order, apart) has of them."""
    left: list[Span] = []
    for start, end in spans:
        for first, stop in taken:
            if stop <= start or first >= end:
                continue
            if start < first:
                left.append((start, first))
            start = stop
        if start < end:
            left.append((start, end))
    return left


def _differences(old: Sequence[Known], new: Sequence[Known]) -> tuple[list[Span], list[Span]]:
    """Where `new` covers what `old` did not, or for another reason; and where it does not cover what `old` did."""
    edges = sorted({edge for start, end, _ in (*old, *new) for edge in (start, end)})
    was, now = _Lookup(old), _Lookup(new)
    changed: list[Span] = []
    vanished: list[Span] = []
    for start, end in pairwise(edges):
        before, after = was.at(start), now.at(start)
        if after is not None and before != after:
            changed.append((start, end))
        elif after is None and before is not None:
            vanished.append((start, end))
    return changed, vanished


class _Lookup:
    def __init__(self, ranges: Sequence[Known]) -> None:
        self._ranges = sorted(ranges)
        self._starts = [start for start, _, _ in self._ranges]

    def at(self, at_us: int) -> str | None:
        place = bisect_right(self._starts, at_us) - 1
        if place < 0 or self._ranges[place][1] <= at_us:
            return None
        return self._ranges[place][2]


def _word(known: CoverageRange) -> str:
    return hashlib.sha256(f"{known.confirmed_by}\0{known.evidence}".encode()).hexdigest()[:12]
