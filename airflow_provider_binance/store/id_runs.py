"""Ids of rows beside what the ledger says of them: which are lacking, and which belong elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from airflow_provider_binance.records import CoverageRange, State
from airflow_provider_binance.store.inspection import Held

#: Runs whose ends are tried as the ends of a range whose first or last id the ledger has lost.
_MOST_TRIED = 64

Ids = tuple[int, int]


class Examined(NamedTuple):
    """What there is of a range: what lacks, what is out of place, and what coverage should say."""

    lacking: list[Held]
    misplaced: list[Held]
    counted: Held


def examine(known: CoverageRange, runs: Sequence[Held], twice: Sequence[Held], *, is_contiguous: bool) -> Examined:
    """Compare a range with the rows of its time: `runs` are those whose ids follow one another (of a market whose ids
    do not: any parts), `twice` each of the rows whose id another one has, too."""
    is_dense = is_contiguous and known.state is State.COMPLETE
    runs = sorted(runs, key=lambda run: (run.first_id or 0, run.last_id or 0))
    ids = _span(known, runs, is_dense=is_dense)
    inside = [part for run in runs for part in _between(run, ids)]
    misplaced = list(twice)
    if ids is not None:
        outside = (None, ids[0] - 1), (ids[1] + 1, None)
        misplaced += [part for run in runs for side in outside for part in _between(run, side)]
    rows = sum(run.rows for run in inside) - sum(1 for row in twice for _ in _between(row, ids)) // 2
    lacking: list[Held] = []
    if is_dense and ids is not None:
        lacking = list(_holes(known, inside, ids))
    elif rows < known.row_count:
        lacking = [Held(known.start_us, known.end_us, known.row_count - rows)]
    if inside and not is_dense:
        firsts, lasts = zip(*((run.first_id, run.last_id) for run in inside), strict=True)
        ids = min(firsts), max(lasts)
    return Examined(lacking, misplaced, Held(known.start_us, known.end_us, rows, *(ids or (None, None))))


def _between(run: Held, ids: tuple[int | None, int | None] | None) -> Iterator[Held]:
    """The part of a run between two ids; of one with holes all or nothing."""
    assert run.first_id is not None
    assert run.last_id is not None
    low, high = ids or (None, None)
    first = run.first_id if low is None else max(low, run.first_id)
    last = run.last_id if high is None else min(high, run.last_id)
    if first <= last and (run.rows == run.last_id - run.first_id + 1 or (first, last) == (run.first_id, run.last_id)):
        yield run._replace(rows=min(run.rows, last - first + 1), first_id=first, last_id=last)


def _span(known: CoverageRange, runs: Sequence[Held], *, is_dense: bool) -> Ids | None:
    """The first and the last id that the range should have, None if nothing tells.

    Where ids have no holes, three things tell them: either end, and how many there are. If they contradict each other,
    somebody has been at the ledger; then those ends stand that most rows speak for.
    """
    first, last, count = known.first_id, known.last_id, known.row_count
    ends = (first, last) if first is not None and last is not None and first <= last else None
    if not is_dense or not runs:
        return ends
    tried: list[Ids] = [ends] if ends else []
    if count > 0:
        lows = [first, *(run.first_id for run in runs[:_MOST_TRIED])]
        highs = [last, *(run.last_id for run in runs[:_MOST_TRIED])]
        tried += [(low, low + count - 1) for low in lows if low is not None]
        tried += [(high - count + 1, high) for high in highs if high is not None]
    if not tried:
        return None

    def speak_for(ids: Ids) -> int:
        rows = sum(part.rows for run in runs for part in _between(run, ids))
        return 2 * rows - (ids[1] - ids[0] + 1)

    return max(tried, key=speak_for)


def _holes(known: CoverageRange, inside: Iterable[Held], ids: Ids) -> Iterator[Held]:
    """What is missing of all ids: from the row before to the row behind, both included."""
    reached, at_us = ids[0] - 1, known.start_us
    for run in inside:
        assert run.first_id is not None
        assert run.last_id is not None
        if run.first_id > reached + 1:
            low, high = sorted((at_us, run.start_us))
            yield Held(low, min(high + 1, known.end_us), run.first_id - reached - 1, reached + 1, run.first_id - 1)
        if run.last_id > reached:
            reached, at_us = run.last_id, run.end_us - 1
    if reached < ids[1]:
        yield Held(at_us, known.end_us, ids[1] - reached, reached + 1, ids[1])
