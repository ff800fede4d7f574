"""Where two stretches of ticks meet: the ids on either side of an edge tell whether rows are missing between them."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_binance.archive.layout import Partition, file_at, published_by
from airflow_provider_binance.continuity import IdRun, IdScan, Scan
from airflow_provider_binance.evidence import Evidence, Stretch
from airflow_provider_binance.market import DAY_US, HOUR_US, Market
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.store.base import Store

#: A file that is so much later than files are is not awaited any more.
_OVERDUE_US = 14 * DAY_US


def joints(store: Store, series: Series, scan: Scan, stretch: Stretch, lacking: Evidence) -> Evidence:
    """Let the scan know the ids that the ledger has right before and behind the stretch.

    Returns `lacking`, with the files of the other side of an edge: they were read, and what is missing may be theirs.
    """
    if not isinstance(scan, IdScan) or Market(series.market) not in registered(series.dataset).contiguous:
        return lacking
    before, behind = _neighbours(store, series, stretch)
    ends = scan.ends()
    if before is not None and before.last_id is not None:
        at_us = stretch.start_us - 1
        if ends is not None and ends[0].first_id != before.last_id + 1:
            at_us = store.id_time(series, before.last_id, before.start_us, before.end_us) or at_us
            lacking = _with_files(lacking, series, at_us, before)
        scan.join(IdRun(before.last_id, before.last_id, at_us, at_us))
    if behind is not None and behind.first_id is not None:
        at_us = stretch.end_us
        if ends is not None and ends[1].last_id + 1 != behind.first_id:
            at_us = store.id_time(series, behind.first_id, behind.start_us, behind.end_us) or at_us
            lacking = _with_files(lacking, series, at_us, behind)
        scan.join(IdRun(behind.first_id, behind.first_id, at_us, at_us))
    return lacking


def proven(store: Store, series: Series, stretch: Stretch, now_us: int) -> CoverageRange | None:
    """The stretch as complete, if the ids on either side of it leave room for just the rows that it has, or for none:
    then nobody traded."""
    if Market(series.market) not in registered(series.dataset).contiguous:
        return None
    before, behind = _neighbours(store, series, stretch)
    if before is None or behind is None or before.last_id is None or behind.first_id is None:
        return None
    [rows] = store.row_counts(series.dataset, series, [(stretch.start_us, stretch.end_us)])
    if behind.first_id - before.last_id - 1 != rows:
        return None
    first, last = (before.last_id + 1, behind.first_id - 1) if rows else (None, None)
    note = f"between the ids {before.last_id} and {behind.first_id} of its neighbours nothing is missing"
    evidence = str(replace(stretch.evidence, note=note))
    return CoverageRange(stretch.start_us, stretch.end_us, State.COMPLETE, rows, first, last, None, evidence, now_us)


def beyond_reach(series: Series, stretch: Stretch, now_us: int, *, is_listed: bool) -> str:
    """Why no source will ever bring the stretch, or ''. `is_listed`: the archive was asked what it has."""
    paging, evidence = registered(series.dataset).by_id.get(Market(series.market)), stretch.evidence
    if paging is None or paging.reach_us is None or stretch.end_us > now_us - paging.reach_us:
        return ""
    reach = f"REST goes back {paging.reach_us // HOUR_US} h"
    if evidence.archive:
        return f"the archive lacks it, and {reach}"
    due_us = published_by(file_at(series, Partition.DAILY, stretch.end_us - 1)) + _OVERDUE_US
    if is_listed and due_us < now_us and not (evidence.corrupt or evidence.away):
        return f"the archive has no file of it, and {reach}"
    return ""


def _neighbours(store: Store, series: Series, stretch: Stretch) -> tuple[CoverageRange | None, CoverageRange | None]:
    """The complete ranges that end where the stretch begins, and begin where it ends."""
    known = store.coverage(series.dataset, [series], stretch.start_us - 1, stretch.end_us + 1)[series]
    complete = [each for each in known if each.state is State.COMPLETE]
    before = next((each for each in complete if each.end_us == stretch.start_us), None)
    behind = next((each for each in complete if each.start_us == stretch.end_us), None)
    return before, behind


def _with_files(lacking: Evidence, series: Series, at_us: int, side: CoverageRange) -> Evidence:
    if not side.confirmed_by:
        return lacking
    for partition in Partition:
        lacking = lacking.with_archive(file_at(series, partition, at_us).name)
    return lacking
