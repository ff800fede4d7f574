"""What the ledger knows once the rows of a stretch were seen, and once nobody can bring what is left of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from airflow_provider_binance.continuity import Scan
from airflow_provider_binance.evidence import Evidence, Stretch, hole, settle
from airflow_provider_binance.joints import beyond_reach, proven
from airflow_provider_binance.pipeline import SeriesTask
from airflow_provider_binance.records import CoverageRange, State
from airflow_provider_binance.store.base import Store


def found_ranges(
    scan: Scan, stretch: Stretch, lacking: Evidence, task: SeriesTask, *, confirmed_by: str | None
) -> Iterator[CoverageRange]:
    """What the ledger knows after a stretch's rows were seen; its holes go on to the next source."""
    # An archive that did not deliver is not forgotten with the rows that REST brought in its place.
    witness = str(Evidence(corrupt=stretch.evidence.corrupt, away=stretch.evidence.away))
    for part in scan.filled():
        yield CoverageRange(
            part.start_us, part.end_us, State.COMPLETE, part.row_count, part.first_id, part.last_id, confirmed_by,
            witness, task.now_us,
        )  # fmt: skip
    for start_us, end_us in scan.holes():
        gap = Stretch(max(start_us, stretch.start_us), min(end_us, stretch.end_us), lacking)
        # What may be missing beyond the stretch is complete by the ledger, and the source was not asked for it now.
        beyond = replace(stretch.evidence, archive=lacking.archive)
        task.left += [
            Stretch(low, high, beyond)
            for low, high in ((start_us, min(end_us, stretch.start_us)), (max(start_us, stretch.end_us), end_us))
            if low < high
        ]
        if gap.start_us >= gap.end_us:
            continue
        task.left.append(gap)
        if not task.confirms:
            yield hole(gap, task.now_us)


def settled_ranges(store: Store, task: SeriesTask) -> list[CoverageRange]:
    """What the ledger is to say of what no source that may be asked could bring."""
    ranges = []
    for stretch, run in _runs(task.left):
        if (stretch.evidence.read or stretch.evidence.rest) and (note := _beyond_life(task, *run)):
            evidence = str(replace(stretch.evidence, note=note))
            bounds = stretch.start_us, stretch.end_us
            ranges.append(CoverageRange(*bounds, State.NOT_LISTED, evidence=evidence, checked_at_us=task.now_us))
        elif (known := proven(store, task.series, stretch, task.now_us)) is not None:
            ranges.append(known)
        else:
            stretch = replace(stretch, evidence=replace(stretch.evidence, forced=task.forced))
            nowhere = beyond_reach(task.series, stretch, task.now_us, is_listed=task.sources.find is not None)
            if nowhere:
                stretch = replace(stretch, evidence=replace(stretch.evidence, note=nowhere))
            ranges.append(settle(stretch, task.now_us, is_gone=task.is_gone, is_nowhere=bool(nowhere)))
    return ranges


def _runs(stretches: Iterable[Stretch]) -> Iterator[tuple[Stretch, tuple[int, int]]]:
    """Each stretch with the whole of the time without rows that it is a part of: a hole is cut where files are."""
    run: list[Stretch] = []
    for stretch in sorted(stretches, key=lambda each: each.start_us):
        if run and run[-1].end_us != stretch.start_us:
            yield from ((part, (run[0].start_us, run[-1].end_us)) for part in run)
            run = []
        run.append(stretch)
    yield from ((part, (run[0].start_us, run[-1].end_us)) for part in run)


def _beyond_life(task: SeriesTask, start_us: int, end_us: int) -> str:
    """Why the time without rows lies outside the symbol's life, or ''."""
    if task.dawn is not None and start_us <= task.dawn[0] and end_us <= task.dawn[1]:
        return "before the first kline"
    if task.dusk is not None and end_us >= task.dusk[1] and start_us >= task.dusk[0]:
        return "after the last kline of a delisted symbol"
    return ""
