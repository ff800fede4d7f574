"""Which source a stored row came from, told by the ledger, and whether another may take its place.

Archive files outrank REST, REST outranks the stream. Of two archive files the one that was published last counts, a
daily file before a monthly one of the same moment, whichever was loaded first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from airflow_provider_binance.records import CoverageRange, Source

RANK = {Source.STREAM: 0, Source.REST: 1, Source.ARCHIVE: 2}


class Standing(NamedTuple):
    """What a source's word is worth: the greater one stays, and of two equal ones the one that comes last."""

    rank: int
    published_us: int = 0
    is_daily: bool = False


class Line(NamedTuple):
    """A line of `ingest_log`, as far as it tells where rows came from."""

    start_us: int
    end_us: int
    source: Source
    standing: Standing
    sha256: str | None = None


class Span(NamedTuple):
    """The rows in `[start_us, end_us)` came from `source`."""

    start_us: int
    end_us: int
    source: Source
    standing: Standing


def standing(source: Source, source_ref: str = "", published_us: int | None = None) -> Standing:
    """The standing of what `source_ref` names; a file of unknown date is older than any other."""
    if published_us is None:
        return Standing(RANK[source])
    return Standing(RANK[source], published_us, "/daily/" in source_ref)


def file_standings(lines: Iterable[Line]) -> dict[str, Standing]:
    """The standing of each archive file, by its SHA-256; one that was published twice has its last date's."""
    found: dict[str, Standing] = {}
    for line in lines:
        if line.sha256:
            found[line.sha256] = max(line.standing, found.get(line.sha256, line.standing))
    return found


def sources(start_us: int, end_us: int, coverage: Iterable[CoverageRange], lines: Sequence[Line]) -> list[Span]:
    """Where the rows in `[start_us, end_us)` came from, ascending; spans that the ledger cannot tell are left out.

    `lines` are the ledger's lines that overlap the window, oldest first. What a file confirmed is that file's. The rest
    is said by the line of the highest standing, the newest among equals; but a complete range that no file confirms was
    not filled by one.
    """
    best = sorted(lines, key=lambda line: line.standing)[::-1]
    files = file_standings(lines)
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
                spans.extend(Span(a, b, claim.source, claim.standing) for a, b in taken)

    unknown = standing(Source.ARCHIVE)
    paint(
        Span(r.start_us, r.end_us, Source.ARCHIVE, files.get(r.confirmed_by, unknown)) for r in known if r.confirmed_by
    )
    claims = [Span(*line[:4]) for line in best]
    provisional = [(r.start_us, r.end_us) for r in known if r.is_provisional]
    if provisional:
        paint((claim for claim in claims if claim.source != Source.ARCHIVE), provisional)
    paint(claims)
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

    def at(self, at_us: int) -> Span | None:
        """The span of the row at `at_us`, None if the ledger cannot tell."""
        index = bisect_right(self._starts, at_us) - 1
        return self._spans[index] if index >= 0 and at_us < self._spans[index].end_us else None
