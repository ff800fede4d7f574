"""The front doors that command line, operators and users' scripts share: `load`, `plan`, `coverage`, `migrate`,
`fetch_klines`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.coverage import missing, stretches
from airflow_provider_binance.errors import ConfigError, InputError
from airflow_provider_binance.evidence import Evidence, Stretch
from airflow_provider_binance.loading import Loader, SeriesTask
from airflow_provider_binance.market import INTERVALS, Market, parse_interval, to_us
from airflow_provider_binance.normalize import page_rows
from airflow_provider_binance.planner import SourceChoice, piece_report, plan_stretches
from airflow_provider_binance.progress import Progress
from airflow_provider_binance.records import SETTLED, CoverageRange, Kline, Series, State
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.reports import (
    UNCOVERED,
    CoverageReport,
    LoadReport,
    PlanReport,
    RangeReport,
    SeriesCoverage,
    SeriesLoad,
    SeriesPlan,
)
from airflow_provider_binance.rest.pages import plan_pages
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.store.base import Store
from airflow_provider_binance.windows import LISTING, NOW, Instant, check_window, parse_instant

#: Nothing was listed at Binance before its first trade on 2017-07-14.
GENESIS_US = 1_498_867_200_000_000
_FOREVER_US = 253_370_764_800_000_000

When = datetime | str | None
StoreLike = Store | str | Path | None


@dataclass(frozen=True, slots=True)
class _Selection:
    """The checked words of a caller."""

    market: Market
    dataset: str
    symbols: tuple[str, ...]
    intervals: tuple[str, ...]
    start: Instant
    end: Instant
    choice: SourceChoice
    reload: bool
    confirm: bool


@dataclass(slots=True)
class _Planned:
    """One series of a plan: its window, what is to be loaded, and what needs no source (`not_listed`)."""

    series: Series
    start_us: int
    end_us: int
    task: SeriesTask | None = None
    confirming: SeriesTask | None = None
    not_listed: tuple[CoverageRange, ...] = ()


def load(
    *,
    market: str,
    dataset: str = "klines",
    symbols: Sequence[str] | str,
    intervals: Sequence[str] | str | None = None,
    start: When = None,
    end: When = None,
    source: str = "auto",
    reload: bool = False,
    confirm: bool = False,
    store: StoreLike = None,
    config: BinanceConfig | None = None,
    priority: str = "backfill",
    run_ref: str = "",
    jobs: int = 4,
    on_progress: Callable[[Progress], None] | None = None,
) -> LoadReport:
    """Bring into the store what the ledger lacks of `[start, end)`; a second call fetches nothing and changes nothing.

    Args:
        market: `spot`, `um` or `cm`.
        symbols: names as Binance spells them (`btc/usdt` is understood), or patterns over what trades now (`*USDT`).
        start: aware datetime or window text (`2024-01`, `30d`, `listing` …); None goes on from the last covered instant.
        end: likewise; None is now. A kline belongs to the window by its open_time, and only closed ones are stored.
        source: `auto` picks the cheapest per piece; `archive` or `rest` forces one.
        reload: ignore coverage, fetch and compare again.
        confirm: also re-load provisional ranges whose archive file is out now.
        jobs: how many fetches run ahead.

    Raises:
        InputError: malformed or unknown arguments; nothing was done.
        BinanceError, StoreError: what was committed stays; the same call goes on from there.
    """
    begun = time.monotonic()
    selection = _selected(market, dataset, symbols, intervals, start, end, source, reload, confirm)
    if not 1 <= jobs <= 64:
        raise InputError(f"jobs={jobs} must be 1 … 64")
    choice = selection.choice
    with Runtime(config, store, priority=priority, archive=choice is not SourceChoice.REST) as runtime:
        _refuse_archive_without(runtime, choice)
        planned = _plan_all(runtime, selection)
        if any(entry.task or entry.confirming or entry.not_listed for entry in planned):
            runtime.store.ensure_environment(str(runtime.config.environment))
        for entry in planned:
            if entry.not_listed:
                runtime.store.record_coverage(dataset, entry.series, entry.not_listed)

        def tell(series: Series, done: int, total: int) -> None:
            if on_progress is not None:
                on_progress(Progress(series, done, total))

        tasks = [task for entry in planned for task in (entry.task, entry.confirming) if task is not None]
        if tasks:
            Loader(
                runtime.store, runtime.rest, runtime.fetch_file, runtime.listing.forget, jobs, run_ref, tell
            ).run(tasks)  # fmt: skip
        return LoadReport(tuple(_load_report(runtime.store, entry, time.monotonic() - begun) for entry in planned))


def plan(
    *,
    market: str,
    dataset: str = "klines",
    symbols: Sequence[str] | str,
    intervals: Sequence[str] | str | None = None,
    start: When = None,
    end: When = None,
    source: str = "auto",
    reload: bool = False,
    confirm: bool = False,
    store: StoreLike = None,
    config: BinanceConfig | None = None,
    priority: str = "backfill",
) -> PlanReport:
    """What `load` with the same arguments would fetch, and its cost. Writes nothing, creates nothing.

    Raises:
        InputError: malformed or unknown arguments.
        BinanceError, StoreError: exchangeInfo, the listing or the ledger could not be read.
    """
    selection = _selected(market, dataset, symbols, intervals, start, end, source, reload, confirm)
    choice = selection.choice
    with Runtime(config, store, priority=priority, archive=choice is not SourceChoice.REST) as runtime:
        _refuse_archive_without(runtime, choice)
        plans = []
        for entry in _plan_all(runtime, selection):
            pieces = [
                piece_report(entry.series, piece)
                for task in (entry.task, entry.confirming)
                if task is not None
                for piece in plan_stretches(entry.series, task.stretches, task.sources, task.now_us)
            ]
            pieces.sort(key=lambda piece: piece.start_us)
            plans.append(SeriesPlan(entry.series, entry.start_us, entry.end_us, tuple(pieces)))
        notes = () if runtime.config.has_archive else ("the test hosts have no archive: everything comes by REST",)
        return PlanReport(tuple(plans), notes)


def coverage(
    *,
    market: str | None = None,
    dataset: str = "klines",
    symbols: Sequence[str] | str | None = None,
    intervals: Sequence[str] | str | None = None,
    start: When = None,
    end: When = None,
    store: StoreLike = None,
    config: BinanceConfig | None = None,
) -> CoverageReport:
    """What the store holds: ranges, rows, expected rows, gaps with reasons. Asks nobody but the store.

    Without `start` (or `end`) a series is reported from (to) where its ledger begins (ends).
    """
    registered(dataset)
    begin, stop = _instants(start, end, "start", "end")
    names = {name.upper().replace("/", "") for name in _listed(symbols or ())}
    chosen = {parse_interval(name).name for name in _listed(intervals or ())}
    kind = Market.parse(market) if market else None
    with Runtime(config, store) as runtime:
        wanted = [
            series
            for series in runtime.store.series(dataset)
            if (kind is None or series.market == kind)
            and (not names or series.symbol in names)
            and (not chosen or series.interval in chosen)
        ]
        ledger = runtime.store.coverage(dataset, wanted, -_FOREVER_US, _FOREVER_US)
        entries = []
        for series in wanted:
            ranges = ledger.get(series, [])
            if not ranges:
                continue
            listed = [r.start_us for r in ranges if r.state is not State.NOT_LISTED] or [ranges[0].start_us]
            start_us = begin if isinstance(begin, int) else listed[0]
            end_us = stop if isinstance(stop, int) else ranges[-1].end_us
            if start_us < end_us:
                entries.append(_series_coverage(runtime.store, series, ranges, start_us, end_us))
        return CoverageReport(tuple(entries))


def migrate(*, store: StoreLike = None, config: BinanceConfig | None = None) -> list[str]:
    """Apply the migrations that the store lacks, and return their names."""
    with Runtime(config, store) as runtime:
        return runtime.store.migrate()


def fetch_klines(
    *,
    market: str,
    symbol: str,
    interval: str,
    start: When,
    end: When,
    config: BinanceConfig | None = None,
    priority: str = "live",
) -> list[Kline]:
    """Closed klines of a window straight from REST, exact, ascending; no store is involved.

    Raises:
        InputError: naive times, unknown symbol or interval, start ≥ end.
        BinanceError: REST could not answer.
    """
    kind = Market.parse(market)
    grid = parse_interval(interval, kind)
    begin, stop = _instants(start, end, "start", "end")
    with Runtime(config, None, priority=priority, archive=False) as runtime:
        [name] = runtime.symbols.resolve([symbol], kind, "klines")
        series = Series(kind, "klines", name, grid.name)
        end_us = _resolved_end(runtime, kind, grid.name, stop)
        start_us = _resolved_start(runtime, series, begin, [])
        if isinstance(begin, int) and isinstance(stop, int):
            check_window(begin, stop)
        bound = runtime.symbols.listed_from(series, start_us, runtime.now_us(kind))
        start_us = max(start_us, bound.at_us) if bound else start_us
        klines: list[Kline] = []
        for page in plan_pages(kind, grid, start_us, end_us):
            body = runtime.rest.kline_page(kind, name, grid.name, page.start_us, page.end_us, page.limit)
            klines += page_rows(body, kind, grid).between(page.start_us, page.end_us).klines(series)
        return klines


def _selected(
    market: str,
    dataset: str,
    symbols: Sequence[str] | str,
    intervals: Sequence[str] | str | None,
    start: When,
    end: When,
    source: str,
    reload: bool,
    confirm: bool,
) -> _Selection:
    kind = Market.parse(market)
    entry = registered(dataset)
    if kind not in entry.markets:
        raise InputError(f"dataset {dataset} does not exist in market {kind}; it has: {' '.join(entry.markets)}")
    names = tuple(_listed(symbols))
    if not names:
        raise InputError("no symbol given: name one or more, such as BTCUSDT, or a pattern such as *USDT")
    chosen = tuple(dict.fromkeys(parse_interval(name, kind).name for name in _listed(intervals or ())))
    if entry.has_interval and not chosen:
        raise InputError(f"no interval given: {dataset} needs one or more of {' '.join(INTERVALS)}")
    try:
        choice = SourceChoice(source)
    except ValueError:
        raise InputError(f"unknown source {source!r}: use {', '.join(SourceChoice)}") from None
    begin, stop = _instants(start, end, "start", "end")
    if isinstance(begin, int) and isinstance(stop, int):
        check_window(begin, stop)
    return _Selection(kind, dataset, names, chosen or ("",), begin, stop, choice, reload, confirm)


def _listed(values: Sequence[str] | str) -> list[str]:
    """One or more names, given as one text with commas or as a sequence."""
    parts = [values] if isinstance(values, str) else list(values)
    return [name.strip() for part in parts for name in str(part).split(",") if name.strip()]


def _instants(start: When, end: When, first: str, last: str) -> tuple[Instant, Instant]:
    now = lambda: to_us(datetime.now().astimezone())  # noqa: E731  # only texts such as 30d need it
    return parse_instant(start, now_us=now, name=first), parse_instant(end, now_us=now, name=last)


def _refuse_archive_without(runtime: Runtime, choice: SourceChoice) -> None:
    if choice is SourceChoice.ARCHIVE and not runtime.config.has_archive:
        raise ConfigError("source 'archive' is not to be had: the test hosts have no archive; use rest or auto")


def _plan_all(runtime: Runtime, selection: _Selection) -> list[_Planned]:
    market, name = selection.market, selection.dataset
    known = [series for series in runtime.store.series(name) if series.market == market]
    symbols = runtime.symbols.resolve(selection.symbols, market, name, {series.symbol for series in known})
    wanted = [Series(market, name, symbol, interval) for symbol in symbols for interval in selection.intervals]
    ledger = runtime.store.coverage(name, wanted, -_FOREVER_US, _FOREVER_US)
    return [_plan_one(runtime, selection, series, ledger.get(series, [])) for series in wanted]


def _plan_one(runtime: Runtime, selection: _Selection, series: Series, ranges: list[CoverageRange]) -> _Planned:
    market, grid = selection.market, INTERVALS[series.interval]
    start_us, end_us = grid.align(
        _resolved_start(runtime, series, selection.start, ranges),
        selection.end if isinstance(selection.end, int) else runtime.closed_end(market, series.interval),
    )
    entry = _Planned(series, start_us, end_us)
    if start_us >= end_us or _needs_nothing(selection, ranges, start_us, end_us):
        return entry
    now_us = runtime.now_us(market)
    entry.end_us = end_us = max(start_us, min(end_us, runtime.closed_end(market, series.interval)))
    if start_us >= end_us:
        return entry
    if selection.reload:
        wanted = [Stretch(start_us, end_us)]
    else:
        wanted = list(_with_evidence(missing((start_us, end_us), ranges, now_us), ranges))
    if wanted:
        wanted, entry.not_listed, delisted = _within_life(runtime, series, wanted, ranges, selection.reload, now_us)
        if wanted:
            sources = runtime.sources(series, selection.choice, now_us)
            entry.task = SeriesTask(series, wanted, sources, now_us, delisted)
    if selection.confirm and not selection.reload and runtime.archive_allowed:
        provisional = list(_provisional(runtime.store, series, ranges, start_us, end_us))
        if provisional:
            eyes = runtime.sources(series, SourceChoice.ARCHIVE, now_us)
            if plan_stretches(series, provisional, eyes, now_us):
                entry.confirming = SeriesTask(series, provisional, eyes, now_us, confirms=True)
    return entry


def _needs_nothing(selection: _Selection, ranges: Iterable[CoverageRange], start_us: int, end_us: int) -> bool:
    """Whether the ledger alone answers: then nobody is asked, not even for the time."""
    if selection.reload:
        return False
    inside = [r for r in ranges if r.start_us < end_us and r.end_us > start_us]
    if selection.confirm and any(r.state is State.COMPLETE and not r.confirmed_by for r in inside):
        return False
    settled = [r for r in inside if r.state in SETTLED]
    return not missing((start_us, end_us), settled, 0)


def _resolved_start(runtime: Runtime, series: Series, start: Instant, ranges: Sequence[CoverageRange]) -> int:
    if isinstance(start, int):
        return start
    market = Market(series.market)
    if start is NOW:
        return runtime.now_us(market)
    if start is LISTING:
        first = next((r for r in ranges if r.start_us <= GENESIS_US and r.state is State.NOT_LISTED), None)
        if first is not None:
            return first.end_us
        bound = runtime.symbols.listed_from(series, GENESIS_US, runtime.now_us(market))
        return bound.at_us if bound else GENESIS_US
    covered = [r.end_us for r in ranges if r.state in SETTLED]
    if not covered:
        raise InputError(
            f"no start given, and the store has nothing of {series} to go on from: give --start, "
            f"for example --start 2024-01, or --start listing for all there is"
        )
    return max(covered)


def _resolved_end(runtime: Runtime, market: Market, interval: str, end: Instant) -> int:
    closed_us = runtime.closed_end(market, interval)
    return min(end, closed_us) if isinstance(end, int) else closed_us


def _with_evidence(gaps: Iterable[tuple[int, int]], ranges: Sequence[CoverageRange]) -> Iterable[Stretch]:
    """The gaps, cut where the ledger knows something of them."""
    for start_us, end_us in gaps:
        at = start_us
        for known in ranges:
            if known.end_us <= at or known.start_us >= end_us:
                continue
            if known.start_us > at:
                yield Stretch(at, known.start_us)
            until = min(known.end_us, end_us)
            # What failed is tried afresh; what an answer lacked is not asked of the same file again.
            evidence = Evidence() if known.state is State.FAILED else Evidence.parse(known.evidence)
            yield Stretch(max(at, known.start_us), until, evidence)
            at = until
        if at < end_us:
            yield Stretch(at, end_us)


def _within_life(
    runtime: Runtime,
    series: Series,
    wanted: list[Stretch],
    ranges: Sequence[CoverageRange],
    reload: bool,
    now_us: int,
) -> tuple[list[Stretch], tuple[CoverageRange, ...], bool]:
    """The stretches cut to the symbol's life, the ranges outside it, and whether the life has ended."""
    start_us, end_us = wanted[0].start_us, wanted[-1].end_us
    outside: list[CoverageRange] = []
    is_known_listed = any(r.state is State.COMPLETE and r.start_us <= start_us for r in ranges)
    first = None if is_known_listed and not reload else runtime.symbols.listed_from(series, start_us, now_us)
    last = runtime.symbols.listed_until(series, end_us, now_us)
    if first is not None:
        begin_us = min(GENESIS_US, start_us)
        known_from = min((r.start_us for r in ranges), default=first.at_us)
        note = str(Evidence(note=first.evidence))
        outside.append(
            CoverageRange(
                begin_us if known_from >= first.at_us or known_from <= begin_us else start_us,
                min(first.at_us, end_us) if first.at_us >= end_us else first.at_us,
                State.NOT_LISTED,
                evidence=note,
                checked_at_us=now_us,
            )
        )
        wanted = _cut(wanted, first.at_us, _FOREVER_US)
    if last is not None:
        note = str(Evidence(note=last.evidence))
        at_us = INTERVALS[series.interval].ceil(last.at_us)
        for stretch in _cut(wanted, at_us, _FOREVER_US):
            outside.append(
                CoverageRange(
                    stretch.start_us, stretch.end_us, State.NOT_LISTED, evidence=note, checked_at_us=now_us
                )  # fmt: skip
            )
        wanted = _cut(wanted, -_FOREVER_US, at_us)
    return wanted, tuple(outside), last is not None


def _cut(parts: Iterable[Stretch], start_us: int, end_us: int) -> list[Stretch]:
    return [
        replace(part, start_us=max(part.start_us, start_us), end_us=min(part.end_us, end_us))
        for part in parts
        if part.end_us > start_us and part.start_us < end_us
    ]


def _provisional(
    store: Store, series: Series, ranges: Iterable[CoverageRange], start_us: int, end_us: int
) -> Iterable[Stretch]:
    """Complete stretches that no archive file has confirmed, with the files that were read for them already."""
    for known in ranges:
        a, b = max(known.start_us, start_us), min(known.end_us, end_us)
        if known.state is State.COMPLETE and not known.confirmed_by and a < b:
            read = {line.source_ref.rpartition("/")[2] for line in store.archive_lines(series, a, b)}
            yield Stretch(a, b, Evidence(archive=tuple(sorted(read))))


def _gaps(ranges: Sequence[CoverageRange], start_us: int, end_us: int) -> list[RangeReport]:
    """The window as it is known, piece by piece."""
    return [RangeReport(*piece) for piece in stretches((start_us, end_us), ranges)] if start_us < end_us else []


def _load_report(store: Store, entry: _Planned, seconds: float) -> SeriesLoad:
    series = entry.series
    ranges = store.coverage(series.dataset, [series], entry.start_us, entry.end_us).get(series, [])
    gaps = [gap for gap in _gaps(ranges, entry.start_us, entry.end_us) if gap.state != State.COMPLETE]
    report = SeriesLoad(series, entry.start_us, entry.end_us, gaps=tuple(gaps), seconds=seconds)
    for task in (entry.task, entry.confirming):
        if task is not None:
            report = replace(
                report,
                counts=report.counts + task.tally.counts,
                archive_files=report.archive_files + task.tally.archive_files,
                rest_requests=report.rest_requests + task.tally.rest_requests,
                weight_used=report.weight_used + task.tally.weight_used,
                bytes_downloaded=report.bytes_downloaded + task.tally.bytes_downloaded,
            )
    return report


def _series_coverage(
    store: Store, series: Series, ranges: Sequence[CoverageRange], start_us: int, end_us: int
) -> SeriesCoverage:
    pieces = _gaps(ranges, start_us, end_us)
    [rows] = store.row_counts(series.dataset, series, [(start_us, end_us)])
    expected = None
    if series.interval:
        grid = INTERVALS[series.interval]
        wanted = (p for p in pieces if p.state in (State.COMPLETE, UNCOVERED) or not p.is_explained)
        expected = sum(grid.count(piece.start_us, piece.end_us) for piece in wanted)
    return SeriesCoverage(series, start_us, end_us, rows, expected, tuple(pieces))


__all__ = ["coverage", "fetch_klines", "load", "migrate", "plan"]
