"""What the ledger knows of a series' time line, as pure functions over ranges.

A range is never less known than before: each state has a rank, and an incoming range takes the place of what has the
same rank or a lower one. A confirmation by an archive file is not lost to a later provisional answer, nor to a file
that was published before it.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from airflow_provider_binance.records import SETTLED, CoverageRange, State
from airflow_provider_binance.reports import UNCOVERED

#: An incoming range replaces what has its own rank or a lower one. `retired` and `complete` replace each other: rows
#: are dropped on purpose, and loaded again on purpose.
_RANK = {
    State.FAILED: 0,
    State.UNPUBLISHED: 1,
    State.EXCHANGE_GAP: 2,
    State.NOT_LISTED: 2,
    State.UNAVAILABLE: 2,
    State.RETIRED: 3,
    State.COMPLETE: 3,
}

#: States that are asked about again, when their next check is due.
_WAITING = frozenset({State.UNPUBLISHED, State.FAILED})

Stretch = tuple[int, int, str, str]


def overlay(
    existing: Sequence[CoverageRange],
    incoming: Iterable[CoverageRange],
    *,
    count: Callable[[int, int], int],
    outranks: Callable[[str, str], bool] = lambda old, new: False,
) -> list[CoverageRange]:
    """The ranges after `incoming`, one after the other, was laid over `existing`: ascending, not overlapping, merged.

    Neighbours merge only when they say the same (state, confirmation, evidence, time of the next check).
    `count(start_us, end_us)` gives the rows of the fragment of a range that had rows and was split.
    `outranks(old, new)` tells, by their SHA-256, whether the rows of one archive file stay though another one differs.
    """
    ranges = sorted(existing, key=lambda r: r.start_us)
    for new in incoming:
        if new.start_us < new.end_us:
            ranges = _lay(ranges, new, count, outranks)
    return _merge(ranges)


def erased(
    existing: Sequence[CoverageRange], start_us: int, end_us: int, *, count: Callable[[int, int], int]
) -> list[CoverageRange]:
    """The ranges without what they say of `[start_us, end_us)`."""
    left: list[CoverageRange] = []
    for known in existing:
        low, high = max(known.start_us, start_us), min(known.end_us, end_us)
        if low >= high:
            left.append(known)
            continue
        left += _part(known, known.start_us, low, count) + _part(known, high, known.end_us, count)
    return left


def missing(window: tuple[int, int], ranges: Iterable[CoverageRange], now_us: int) -> list[tuple[int, int]]:
    """What a load of `window` has to try: all that is neither settled nor waiting for its next check."""
    done = (r for r in ranges if r.state in SETTLED or _is_waiting(r, now_us))
    gaps: list[tuple[int, int]] = []
    at, end = window
    for known in sorted(done, key=lambda r: r.start_us):
        if known.end_us <= at:
            continue
        if known.start_us >= end:
            break
        if known.start_us > at:
            gaps.append((at, known.start_us))
        at = known.end_us
    if at < end:
        gaps.append((at, end))
    return gaps


def stretches(window: tuple[int, int], ranges: Iterable[CoverageRange]) -> list[Stretch]:
    """`window` without holes as (start, end, state or `uncovered`, evidence), neighbours of one state merged.

    Merged evidence is the one they share, or a JSON list of the different ones.
    """
    out: list[Stretch] = []
    notes: list[list[str]] = []

    def add(start: int, end: int, state: str, evidence: str) -> None:
        if out and out[-1][2] == state:
            out[-1] = (out[-1][0], end, state, "")
        else:
            out.append((start, end, state, ""))
            notes.append([])
        if evidence and evidence not in notes[-1]:
            notes[-1].append(evidence)

    at, end = window
    for known in sorted(ranges, key=lambda r: r.start_us):
        start, stop = max(known.start_us, at), min(known.end_us, end)
        if start >= stop:
            continue
        if start > at:
            add(at, start, UNCOVERED, "")
        add(start, stop, str(known.state), known.evidence)
        at = stop
    if at < end:
        add(at, end, UNCOVERED, "")
    return [(a, b, state, _joined(told)) for (a, b, state, _), told in zip(out, notes, strict=True)]


def _joined(told: Sequence[str]) -> str:
    if len(told) < 2:
        return told[0] if told else ""
    return json.dumps([_read(evidence) for evidence in told], ensure_ascii=False)


def _read(evidence: str) -> object:
    try:
        return json.loads(evidence)
    except ValueError:
        return evidence


def _is_waiting(known: CoverageRange, now_us: int) -> bool:
    return known.state in _WAITING and known.next_check_at_us is not None and known.next_check_at_us > now_us


def _lay(
    ranges: list[CoverageRange],
    new: CoverageRange,
    count: Callable[[int, int], int],
    outranks: Callable[[str, str], bool],
) -> list[CoverageRange]:
    """`ranges` with `new` on top, where `new` may take the place of what is there."""
    first = bisect_right(ranges, new.start_us, key=lambda r: r.end_us)
    out = ranges[:first]
    at = new.start_us
    for index in range(first, len(ranges)):
        old = ranges[index]
        if old.start_us >= new.end_us:
            out.extend(_part(new, at, new.end_us, count))
            return out + ranges[index:]
        out.extend(_part(old, old.start_us, new.start_us, count))
        out.extend(_part(new, at, old.start_us, count))
        start, end = max(old.start_us, new.start_us), min(old.end_us, new.end_us)
        out.extend(_part(*_winner(old, new, start, end, outranks), count))
        out.extend(_part(old, new.end_us, old.end_us, count))
        at = end
    out.extend(_part(new, at, new.end_us, count))
    return out


def _winner(
    old: CoverageRange, new: CoverageRange, start: int, end: int, outranks: Callable[[str, str], bool]
) -> tuple[CoverageRange, int, int]:
    """Which of two overlapping ranges holds for their common `[start, end)`."""
    if _RANK[new.state] < _RANK[old.state]:
        return old, start, end
    if (
        new.state == old.state == State.COMPLETE
        and old.confirmed_by
        and (not new.confirmed_by or outranks(old.confirmed_by, new.confirmed_by))
    ):
        # Asked again by a lower source: the file's word stands, only the time of the check is newer.
        kept = replace(old, checked_at_us=max(old.checked_at_us, new.checked_at_us))
        if (start, end) == (new.start_us, new.end_us):
            kept = replace(new, confirmed_by=old.confirmed_by, evidence=old.evidence, checked_at_us=kept.checked_at_us,
                           next_check_at_us=old.next_check_at_us)  # fmt: skip
        return kept, start, end
    return new, start, end


def _part(known: CoverageRange, start: int, end: int, count: Callable[[int, int], int]) -> list[CoverageRange]:
    """The part of `known` in `[start, end)`, none if that is empty."""
    if start >= end:
        return []
    if (start, end) == (known.start_us, known.end_us):
        return [known]
    # Only the id at an end that is kept is known; the others would have to be looked up.
    return [
        replace(
            known,
            start_us=start,
            end_us=end,
            row_count=count(start, end) if known.row_count else 0,
            first_id=known.first_id if start == known.start_us else None,
            last_id=known.last_id if end == known.end_us else None,
        )
    ]


def _merge(ranges: Iterable[CoverageRange]) -> list[CoverageRange]:
    out: list[CoverageRange] = []
    for known in ranges:
        if out and out[-1].end_us == known.start_us and _says(out[-1]) == _says(known):
            before = out[-1]
            out[-1] = replace(
                before,
                end_us=known.end_us,
                row_count=before.row_count + known.row_count,
                first_id=_least(before.first_id, known.first_id),
                last_id=_most(before.last_id, known.last_id),
                checked_at_us=max(before.checked_at_us, known.checked_at_us),
            )
        else:
            out.append(known)
    return out


def _says(known: CoverageRange) -> tuple[object, ...]:
    return known.state, known.confirmed_by, known.evidence, known.next_check_at_us


def _least(a: int | None, b: int | None) -> int | None:
    return min((i for i in (a, b) if i is not None), default=None)


def _most(a: int | None, b: int | None) -> int | None:
    return max((i for i in (a, b) if i is not None), default=None)
