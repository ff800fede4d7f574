"""Plan every series of a selection: what the ledger knows first, then what costs no weight, then REST."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace

from airflow_provider_binance.coverage import missing
from airflow_provider_binance.errors import BinanceError, ConfigError, InputError
from airflow_provider_binance.evidence import Evidence, Stretch
from airflow_provider_binance.loading import is_general
from airflow_provider_binance.market import MINUTE_US, grid_of, iso
from airflow_provider_binance.pipeline import SeriesTask
from airflow_provider_binance.planner import ArchivePiece, SourceChoice, plan_stretches
from airflow_provider_binance.records import SETTLED, CoverageRange, Series, State
from airflow_provider_binance.republished import republished_tasks
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.symbols import is_name, spelled
from airflow_provider_binance.tasks import (
    CONFIRM_BACK_US,
    Planned,
    Selection,
    add_task,
    begins,
    due,
    files_read,
    resolved_start,
    touching,
    with_evidence,
)
from airflow_provider_binance.windows import EARLIEST_US, LATEST_US, LISTING, NOW

log = logging.getLogger(__name__)

#: A time that is known to the second says surely what lies so far before it.
_NEAR_US = 5 * MINUTE_US

#: Series that are planned at once: it is the archive's listing that they wait for.
_AT_ONCE = 8

Ledger = dict[Series, list[CoverageRange]]
#: A series without plan is one that cannot be planned without more knowledge.
Found = dict[Series, Planned | None]


def plan_all(runtime: Runtime, selection: Selection) -> list[Planned]:
    """Every series of the selection with its tasks. A series that the ledger answers for alone asks nobody.

    What costs no weight comes first: the archive lists its files, and tells the time with them. REST is asked for the
    exact time where it is to bring rows, or the window ends about now.
    """
    if selection.choice is SourceChoice.ARCHIVE and not runtime.config.has_archive:
        raise ConfigError("source 'archive' is not to be had: the test hosts have no archive; use rest or auto")
    ledger = _read_ledger(runtime, selection)
    selection = replace(selection, few=len(ledger) == 1)
    found: Found = {series: _known(runtime, selection, series, ranges) for series, ranges in ledger.items()}
    if None in found.values() and (near_us := _near_us(runtime, selection)) is not None:
        found |= _plan_each(runtime, selection, _without_plan(ledger, found), near_us, is_exact=False)
    if None in found.values():
        past_us = selection.end if isinstance(selection.end, int) else None
        exact_us = runtime.now_us(selection.market, past_us=past_us)
        found |= _plan_each(runtime, selection, _without_plan(ledger, found), exact_us, is_exact=True)
    planned = [entry for entry in found.values() if entry is not None]
    _add_confirmations(runtime, selection, planned)
    if selection.confirm and selection.republished and not selection.reload and runtime.archive_allowed:
        _add_republished(runtime, planned)
    return planned


def _read_ledger(runtime: Runtime, selection: Selection) -> Ledger:
    """The series of the selection, in order, with what the ledger knows of them in and about the window."""
    market, dataset, store = selection.market, selection.dataset, runtime.store
    begin, stop = EARLIEST_US, LATEST_US
    if isinstance(selection.start, int) and isinstance(selection.end, int):
        # Neighbours too: what ends where the window begins says that the symbol traded.
        begin, stop = selection.start - CONFIRM_BACK_US - 1, selection.end + 1
    plain = [name for name in map(spelled, selection.symbols) if is_name(name)]
    ledger = store.coverage(dataset, _series_of(selection, plain), begin, stop)
    known = {series.symbol for series, ranges in ledger.items() if ranges}
    if not known.issuperset(plain):
        known |= {series.symbol for series in store.series(dataset) if series.market == market}
    wanted = _series_of(selection, runtime.symbols.resolve(selection.symbols, market, dataset, known))
    if matched := [series for series in wanted if series not in ledger]:
        ledger |= store.coverage(dataset, matched, begin, stop)
    return {series: ledger[series] for series in wanted}


def _series_of(selection: Selection, symbols: Iterable[str]) -> list[Series]:
    market, dataset = selection.market.value, selection.dataset
    # A dataset without intervals has one series a symbol.
    intervals = selection.intervals or ("",)
    return [Series(market, dataset, symbol, interval) for symbol in symbols for interval in intervals]


def _without_plan(ledger: Ledger, found: Found) -> Ledger:
    return {series: ranges for series, ranges in ledger.items() if found[series] is None}


def _near_us(runtime: Runtime, selection: Selection) -> int | None:
    """The time to the second, where the window ends so long ago that this is enough, and where it costs no weight."""
    if not isinstance(selection.end, int) or selection.start is NOW:
        return None
    near_us = runtime.near_now_us(selection.market)
    return near_us if near_us is not None and selection.end <= near_us - _NEAR_US else None


def _known(runtime: Runtime, selection: Selection, series: Series, ranges: list[CoverageRange]) -> Planned | None:
    """The series with nothing to do, if the ledger alone says so."""
    start = selection.start
    if not isinstance(selection.end, int) or start is NOW or (start is LISTING and not begins(ranges)):
        return None
    begin_us = resolved_start(runtime, series, start, ranges)
    start_us, end_us = grid_of(series.interval).align(begin_us, selection.end)
    is_through = start is None and start_us >= end_us
    if is_through or (start_us < end_us and _needs_nothing(selection, ranges, start_us, end_us)):
        return Planned(series, start_us, end_us, [], ranges)
    return None


def _plan_each(runtime: Runtime, selection: Selection, ledger: Ledger, now_us: int, *, is_exact: bool) -> Found:
    """A plan for each series; None where REST is to bring rows and `now_us` is not exact. Touches no store.

    What Binance refuses of one series is its error, and the others are planned; what it refuses of all is raised.
    """
    failed: dict[Series, BinanceError] = {}

    def plan_symbol(symbol: str) -> Found:
        found: Found = {}
        for series, ranges in by_symbol[symbol].items():
            try:
                found[series] = _plan_one(runtime, selection, series, ranges, now_us, is_exact=is_exact)
            except BinanceError as error:
                if is_general(error, series, failed):
                    raise
                log.warning("%s cannot be planned, the other series go on: %s", series, error)
                failed[series] = error
                end_us = selection.end if isinstance(selection.end, int) else now_us
                start_us = selection.start if isinstance(selection.start, int) else end_us
                found[series] = Planned(series, start_us, end_us, [], ranges, error=error)
        return found

    by_symbol: dict[str, Ledger] = {}
    for series, ranges in ledger.items():
        by_symbol.setdefault(series.symbol, {})[series] = ranges
    if len(by_symbol) == 1:
        return plan_symbol(next(iter(by_symbol)))
    found: Found = {}
    # In the caller's context: what is asked here counts for it.
    contexts = [copy_context() for _ in by_symbol]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="plan") as pool:
        for part in pool.map(lambda context, symbol: context.run(plan_symbol, symbol), contexts, by_symbol):
            found |= part
    return found


def _plan_one(
    runtime: Runtime,
    selection: Selection,
    series: Series,
    ranges: list[CoverageRange],
    now_us: int,
    *,
    is_exact: bool,
) -> Planned | None:
    grid = grid_of(series.interval)
    closed_us = runtime.closed_end(series.interval, now_us)
    begin_us = resolved_start(runtime, series, selection.start, ranges, now_us)
    stop_us = selection.end if isinstance(selection.end, int) else closed_us
    start_us, end_us = grid.align(begin_us, stop_us)
    entry = Planned(series, start_us, end_us, [], ranges)
    if start_us < end_us and _needs_nothing(selection, ranges, start_us, end_us):
        return entry
    if selection.start is not None and begin_us >= now_us:
        raise InputError(
            f"start {iso(begin_us)} is not before now ({iso(now_us)}): nothing of that window is there yet"
        )
    entry.end_us = end_us = max(start_us, min(end_us, closed_us))
    if start_us >= end_us:
        return entry
    if selection.reload:
        wanted = [Stretch(start_us, end_us)]
    else:
        known = [due(each, selection.choice) for each in ranges]
        wanted = list(with_evidence(missing((start_us, end_us), known, now_us), ranges))
        if selection.confirm:
            wanted = [*_overdue(known, start_us, now_us), *wanted]
    if wanted:
        entry.not_listed = add_task(runtime, selection, entry, wanted, ranges, now_us)
        if not is_exact and any(
            not isinstance(piece, ArchivePiece) for task in entry.tasks for piece in task.first_pieces()
        ):
            return None
    if selection.confirm and not selection.reload and runtime.archive_allowed:
        unconfirmed = [
            Stretch(max(known.start_us, start_us - CONFIRM_BACK_US), min(known.end_us, end_us))
            for known in touching(ranges, start_us - CONFIRM_BACK_US, end_us, provisional=True)
        ]
        is_urgent = selection.choice is SourceChoice.ARCHIVE
        eyes = runtime.sources(series, SourceChoice.ARCHIVE, now_us, is_urgent=is_urgent)
        if unconfirmed and plan_stretches(series, unconfirmed, eyes, now_us):
            entry.confirming = SeriesTask(series, unconfirmed, eyes, now_us, confirms=True)
    return entry


def _add_confirmations(runtime: Runtime, selection: Selection, planned: Iterable[Planned]) -> None:
    """Turn what can be confirmed into tasks, as far as files are out that were not read for it already."""
    waiting = [(entry, entry.confirming) for entry in planned if entry.confirming is not None]
    if not waiting:
        return
    start_us = min(task.stretches[0].start_us for _, task in waiting)
    end_us = max(task.stretches[-1].end_us for _, task in waiting)
    lines = runtime.store.archive_lines_of([entry.series for entry, _ in waiting], start_us, end_us)
    for entry, task in waiting:
        for at, stretch in enumerate(task.stretches):
            read = files_read(lines[entry.series], entry.ranges, stretch.start_us, stretch.end_us)
            task.stretches[at] = replace(stretch, evidence=read)
        if task.first_pieces():
            entry.tasks.append(task)


def _add_republished(runtime: Runtime, planned: Iterable[Planned]) -> None:
    """Add tasks that read what the archive has published again since it was read."""
    entries = {entry.series: entry for entry in planned if entry.start_us < entry.end_us}
    windows = {series: (entry.start_us - CONFIRM_BACK_US, entry.end_us) for series, entry in entries.items()}
    for task in republished_tasks(runtime, windows):
        entries[task.series].tasks.append(task)


def _needs_nothing(selection: Selection, ranges: Iterable[CoverageRange], start_us: int, end_us: int) -> bool:
    """Whether the ledger alone answers: then nobody is asked, not even for the time."""
    if selection.reload:
        return False
    recent = touching(ranges, start_us - CONFIRM_BACK_US, end_us)
    if selection.confirm and (
        touching(recent, start_us - CONFIRM_BACK_US, end_us, provisional=True)
        or any(known.state not in SETTLED for known in recent)
    ):
        return False
    inside = touching(ranges, start_us, end_us)
    return not missing((start_us, end_us), [r for r in inside if r.state in SETTLED], 0)


def _overdue(ranges: Iterable[CoverageRange], start_us: int, now_us: int) -> Iterator[Stretch]:
    """What an earlier load of the days before a window left open, and what may be asked again now."""
    for known in touching(ranges, start_us - CONFIRM_BACK_US, start_us):
        if known.state in (State.UNPUBLISHED, State.FAILED) and (known.next_check_at_us or 0) <= now_us:
            evidence = Evidence() if known.state is State.FAILED else Evidence.parse(known.evidence)
            yield Stretch(max(known.start_us, start_us - CONFIRM_BACK_US), min(known.end_us, start_us), evidence)
