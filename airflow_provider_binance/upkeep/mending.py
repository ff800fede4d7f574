"""Carries out what was found to be needed: takes back what is wrong, and loads again by the normal path.

First what no source has is taken out of the table, and what the table has not is taken out of the ledger, in one
transaction: from then on the ledger is true, whatever comes. Then the loader brings what is lacking, piece by piece.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from airflow_provider_binance.archive.files import published_sha256
from airflow_provider_binance.archive.layout import ArchiveFile
from airflow_provider_binance.coverage import missing
from airflow_provider_binance.errors import BinanceError
from airflow_provider_binance.evidence import Stretch
from airflow_provider_binance.loading import Loader, is_general
from airflow_provider_binance.market import Market
from airflow_provider_binance.pipeline import SeriesTask
from airflow_provider_binance.planner import Preferred, SourceChoice, plan_stretches
from airflow_provider_binance.progress import Progress
from airflow_provider_binance.records import SETTLED, CoverageRange, Series, Source
from airflow_provider_binance.republished import republished_tasks
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.store.inspection import Audit, Held
from airflow_provider_binance.tasks import Planned, Selection, add_task, due, provisional, with_evidence
from airflow_provider_binance.upkeep.ledger import ledgered
from airflow_provider_binance.upkeep.origins import Origins
from airflow_provider_binance.upkeep.spans import Span, aligned, united, without

log = logging.getLogger(__name__)

OnProgress = Callable[[Progress], None] | None


@dataclass(slots=True)
class Done:
    """What was loaded of each series, and what Binance refused first, if it did; the others are done all the same."""

    planned: list[Planned] = field(default_factory=list)
    error: BinanceError | None = None


@dataclass(slots=True)
class Order:
    """What is to be done to one series, as it was looked at.

    `reload`: ask for the rows again, where they came from or whom `told` names. `lost`: complete by the ledger and
    without rows. `foreign`: rows that `refused_by` has not. `astray`: rows that nobody can have, `beyond`: those whose
    time is none, `misdated`: those under another day than theirs. `overfull`: where columns are filled that the market
    has not. `gaps`: fill what is due; `early`: what is not due, too. `confirm`: have what is provisional confirmed by
    its file, if that is out, and read files that are
    published again.
    """

    series: Series
    audit: Audit
    reload: list[Span] = field(default_factory=list)
    lost: list[Span] = field(default_factory=list)
    foreign: list[Held] = field(default_factory=list)
    refused_by: Source = Source.ARCHIVE
    astray: list[Held] = field(default_factory=list)
    beyond: bool = False
    misdated: bool = False
    overfull: list[Span] = field(default_factory=list)
    told: list[Preferred] = field(default_factory=list)
    gaps: bool = False
    early: bool = False
    confirm: bool = False


def carry_out(
    runtime: Runtime,
    orders: Iterable[Order],
    choice: SourceChoice,
    *,
    jobs: int = 4,
    run_ref: str = "",
    on_progress: OnProgress = None,
) -> Done:
    """Do it, and tell per series what was loaded. Where Binance refuses one series, the others are done first."""
    done = Done()
    failed: dict[Series, BinanceError] = {}
    for order in orders:
        planned = _begin(order)
        done.planned.append(planned)
        try:
            _prepare(runtime, order, planned, choice)
        except BinanceError as error:
            planned.error, planned.tasks, planned.not_listed = error, [], ()
            if is_general(error, order.series, failed):
                break
            log.warning("%s cannot be planned, the other series go on: %s", order.series, error)
            failed[order.series] = error
    done.error = next(filter(None, (planned.error for planned in done.planned)), None)
    tasks = [task for planned in done.planned for task in planned.tasks]
    if not tasks:
        return done
    runtime.store.ensure_environment(str(runtime.config.environment))
    runtime.keep_time(Market(tasks[0].series.market))
    for planned in done.planned:
        if planned.not_listed:
            runtime.store.record_coverage(planned.series.dataset, planned.series, planned.not_listed)

    def tell(series: Series, count: int, total: int) -> None:
        if on_progress is not None:
            on_progress(Progress(series, count, total))

    loader = Loader(runtime.store, runtime.rest, runtime.fetch_file, runtime.listing.forget, jobs, run_ref, tell)
    try:
        loader.run(tasks)
    except BinanceError as error:
        done.error = done.error or error
    return done


def published_by(runtime: Runtime) -> Callable[[ArchiveFile], str] | None:
    """What tells the hash of a published file, None where there is no archive to be asked."""
    return partial(published_sha256, runtime.config, runtime.http) if runtime.archive_allowed else None


def _begin(order: Order) -> Planned:
    """The series with nothing to be done yet."""
    return Planned(order.series, *_hull([_bounds(order.audit), *order.reload, *order.lost]), [])


def _bounds(audit: Audit) -> Span:
    return ledgered(audit) or (audit.start_us, audit.start_us)


def _prepare(runtime: Runtime, order: Order, entry: Planned, choice: SourceChoice) -> None:
    """Take back what is wrong, and plan what is to be loaded."""
    series, audit = order.series, order.audit
    bounds = _bounds(audit)
    market = Market(series.market)
    if order.astray or order.beyond or order.overfull or order.misdated:
        runtime.refuse_foreign()
        window = (audit.start_us, audit.end_us) if order.beyond else None
        runtime.store.withdraw(
            series,
            rows=order.astray,
            overfull=order.overfull,
            beyond=window,
            misdated=order.misdated,
            source=None,
            seen_line=audit.last_line,
        )
    again_published: list[SeriesTask] = []
    if order.confirm and runtime.archive_allowed and bounds[0] < bounds[1]:
        again_published = republished_tasks(runtime, {series: bounds})
    if not (again_published or _has_work(order, bounds)):
        return
    now_us = runtime.now_us(market)
    runtime.refuse_foreign()
    ranges: Sequence[CoverageRange] = audit.ranges
    if order.lost or order.foreign:
        back = runtime.store.withdraw(
            series, rows=order.foreign, ranges=order.lost, source=order.refused_by, seen_line=audit.last_line
        )
        if back.is_late:
            log.warning("%s was written to while it was looked at: nothing is taken back; run again", series)
            return
        log.info("%s: %d rows taken back, %d ranges of coverage", series, back.rows, back.ranges)
        ranges = runtime.store.coverage(series.dataset, [series], audit.start_us, audit.end_us)[series]
    closed_us = runtime.closed_end(series.interval, now_us)
    wide = (aligned(series.interval, start, end) for start, end in [*order.reload, *order.lost])
    again = united((start, min(end, closed_us)) for start, end in wide)
    wanted = [Stretch(start, end) for start, end in again]
    if order.gaps:
        known = [replace(r, next_check_at_us=None) if order.early else due(r, choice) for r in ranges]
        lacking = missing((bounds[0], min(bounds[1], closed_us)), known, now_us) if bounds[0] < closed_us else []
        wanted += with_evidence(without(lacking, again), ranges)
    wanted.sort(key=lambda stretch: stretch.start_us)
    if wanted:
        selection = Selection(
            market, series.dataset, (series.symbol,), (series.interval,), entry.start_us, entry.end_us, choice,
            reload=False, confirm=False,
        )  # fmt: skip
        entry.not_listed = add_task(runtime, selection, entry, wanted, ranges, now_us)
        origins = Origins(series, audit, published_by(runtime))
        elsewhere = [(choice.start_us, choice.end_us) for choice in order.told]
        spans = without([(stretch.start_us, stretch.end_us) for stretch in wanted], elsewhere)
        preferred = (*origins.preferred(spans), *order.told)
        preferred = tuple(sorted(preferred, key=lambda choice: choice.start_us))
        for task in entry.tasks:
            task.sources = replace(task.sources, preferred=preferred)
    if order.confirm and runtime.archive_allowed:
        entry.tasks += again_published
        unconfirmed = list(provisional(runtime, series, ranges, *bounds))
        eyes = runtime.sources(series, SourceChoice.ARCHIVE, now_us)
        if unconfirmed and plan_stretches(series, unconfirmed, eyes, now_us):
            entry.tasks.append(SeriesTask(series, unconfirmed, eyes, now_us, confirms=True))


def _has_work(order: Order, bounds: Span) -> bool:
    """Whether anybody has to be asked, if only for the time."""
    if order.reload or order.lost or order.foreign:
        return True
    ranges = order.audit.ranges
    if order.gaps and missing(bounds, [r for r in ranges if r.state in SETTLED], 0):
        return True
    return order.confirm and any(r.is_provisional for r in ranges)


def _hull(spans: Iterable[Span]) -> Span:
    kept = [span for span in spans if span[0] < span[1]]
    return (min(start for start, _ in kept), max(end for _, end in kept)) if kept else (0, 0)
