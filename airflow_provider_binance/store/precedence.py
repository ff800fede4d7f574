"""Which source a stored row came from, told by the ledger, and whether another may take its place.

Archive files outrank REST, REST outranks the stream; among equals the newest wins.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from airflow_provider_binance.records import CoverageRange, Source, State

RANK = {Source.STREAM: 0, Source.REST: 1, Source.ARCHIVE: 2}


class Span(NamedTuple):
    """The rows in `[start_us, end_us)` came from `source`."""

    start_us: int
    end_us: int
    source: Source


def outranks(old: Source, new: Source) -> bool:
    """Whether rows of `old` stay when `new` says otherwise."""
    return RANK[old] > RANK[new]


def sources(start_us: int, end_us: int, coverage: Iterable[CoverageRange], lines: Sequence[Span]) -> list[Span]:
    """Where the rows in `[start_us, end_us)` came from, ascending; spans that the ledger cannot tell are left out.

    `lines` are the ledger's lines that overlap the window, oldest first. What a file confirmed is the archive's. The
    rest is said by the newest line; but a complete range that no file confirms was not filled by one, and the stream
    never hides REST.
    """
    newest = lines[::-1]
    known = list(coverage)
    spans: list[Span] = []
    free = [(start_us, end_us)]

    def paint(claims: Iterable[Span], within: list[tuple[int, int]] | None = None) -> None:
        nonlocal free
        for claim in claims:
            if not free:
                return
            for low, high in within if within is not None else [(claim.start_us, claim.end_us)]:
                start, end = max(low, claim.start_us), min(high, claim.end_us)
                taken, free = _take(free, start, end)
                spans.extend(Span(a, b, claim.source) for a, b in taken)

    paint(Span(r.start_us, r.end_us, Source.ARCHIVE) for r in known if r.confirmed_by)
    provisional = [(r.start_us, r.end_us) for r in known if r.state == State.COMPLETE and not r.confirmed_by]
    if provisional:
        for source in (Source.REST, Source.STREAM):
            paint((line for line in newest if line.source == source), provisional)
    paint(line for line in newest if line.source != Source.STREAM)
    paint(line for line in newest if line.source == Source.STREAM)
    return sorted(spans)


def _take(free: list[tuple[int, int]], start: int, end: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """What of `free` lies in `[start, end)`, and what does not."""
    if start >= end:
        return [], free
    taken, left = [], []
    for low, high in free:
        a, b = max(low, start), min(high, end)
        if a >= b:
            left.append((low, high))
            continue
        taken.append((a, b))
        if low < a:
            left.append((low, a))
        if b < high:
            left.append((b, high))
    return taken, left


class Origins:
    """The spans of a window, asked for one instant at a time."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._starts = [span.start_us for span in spans]

    def at(self, at_us: int) -> Source | None:
        """The source of the row at `at_us`, None if the ledger cannot tell."""
        index = bisect_right(self._starts, at_us) - 1
        return self._spans[index].source if index >= 0 and at_us < self._spans[index].end_us else None
