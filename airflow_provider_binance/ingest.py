"""The front doors that command line, operators and users' scripts share: `load`, `plan`, `coverage`, `repair`,
`verify`, `forget`, `retire`, `migrate`, `fetch_klines`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache, partial

from airflow_provider_binance import side_by_side
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import (
    BinanceError,
    IngestError,
    InputError,
    StoreError,
    StoreRightsError,
    StoreUnavailableError,
)
from airflow_provider_binance.loading import Loader
from airflow_provider_binance.market import DAY_US, INTERVALS, Market, parse_interval
from airflow_provider_binance.normalize import page_rows
from airflow_provider_binance.outcome import load_reports, pieces, raise_refused
from airflow_provider_binance.planner import piece_report
from airflow_provider_binance.planning import plan_all
from airflow_provider_binance.progress import Progress
from airflow_provider_binance.records import CoverageRange, Kline, Series, State
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.reports import (
    CoverageReport,
    LoadReport,
    PlanReport,
    SeriesCoverage,
    SeriesPlan,
)
from airflow_provider_binance.rest.meter import measured
from airflow_provider_binance.rest.pages import plan_pages
from airflow_provider_binance.runtime import Runtime, StoreLike
from airflow_provider_binance.store.base import Store
from airflow_provider_binance.store.inspection import Retired
from airflow_provider_binance.symbols import spelled
from airflow_provider_binance.tasks import (
    When,
    instants,
    names_of,
    resolved_start,
    select,
)
from airflow_provider_binance.upkeep.choosing import is_known
from airflow_provider_binance.upkeep.forgetting import forget
from airflow_provider_binance.upkeep.repairing import repair
from airflow_provider_binance.upkeep.verifying import verify
from airflow_provider_binance.windows import EARLIEST_US, LATEST_US

#: Said by `plan` in its report and by `load` in its log.
NO_ARCHIVE = "the test hosts have no archive: everything comes by REST"

log = logging.getLogger(__name__)


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
    republished: bool = True,
    store: StoreLike = None,
    config: BinanceConfig | None = None,
    priority: str = "backfill",
    run_ref: str = "",
    jobs: int = 4,
    connections: int = 1,
    on_progress: Callable[[Progress], None] | None = None,
) -> LoadReport:
    """Bring into the store what the ledger lacks of `[start, end)`; a second call fetches nothing and changes nothing.

    Args:
        market: `spot`, `um` or `cm`.
        dataset: name in the registry.
        intervals: one or more of `1s` … `1M` (datasets without intervals: none).
        store: URL, path or open Store; default: the setting `store_url`.
        config: settings; default: those of the environment.
        priority: class in the weight budget: `live`, `repair`, `daily` or `backfill`.
        run_ref: whatever tells later which run this was; kept in the ledger line.
        on_progress: called after each piece, by one thread at a time.
        symbols: names as Binance spells them (`btc/usdt` is understood), or patterns over what trades now (`*USDT`).
        start: aware datetime or window text (`2024-01`, `30d`, `listing` …); None goes on from where coverage ends.
        end: likewise; None is now. A kline belongs to the window by its open_time, and only closed ones are stored.
        source: `auto` picks the cheapest per piece; `archive` or `rest` forces one.
        reload: ignore coverage, fetch and compare again.
        confirm: also re-load provisional ranges whose archive file is out now; up to 40 days before the window too.
        republished: whether to `confirm` is also to read files again that were published anew since they were read,
            which asks the archive's listing for each series.
        jobs: how many fetches run ahead.
        connections: how many series are written at once, each over a connection of its own (SQLite: always one).

    Raises:
        InputError: malformed or unknown arguments; nothing was done.
        BinanceError, StoreError: what was committed stays; the same call goes on from there. `error.report` tells of
            all series: where Binance refuses one, the others are loaded first.
    """
    for name, value in (("jobs", jobs), ("connections", connections)):
        if not 1 <= value <= 64:
            raise InputError(f"{name}={value} must be 1 … 64")
    # What this thread asks is for all series; pages are asked, and counted, by threads of their own.
    with Runtime.of_source(config, store, priority, source) as runtime, measured() as shared:
        selection = select(
            market, dataset, symbols, intervals, start, end, source, reload, confirm, republished,
            now_us=runtime.now_us,
        )  # fmt: skip
        planned = plan_all(runtime, selection)
        if not runtime.config.has_archive:
            log.info("%s", NO_ARCHIVE)
        if any(entry.tasks or entry.not_listed for entry in planned):
            runtime.store.ensure_environment(str(runtime.config.environment))
            runtime.keep_time(selection.market)
        for entry in planned:
            if entry.not_listed:
                runtime.store.record_coverage(dataset, entry.series, entry.not_listed)

        def tell(series: Series, done: int, total: int) -> None:
            if on_progress is not None:
                on_progress(Progress(series, done, total))

        tasks = [task for entry in planned for task in entry.tasks]
        try:
            if tasks:
                loader = Loader(
                    runtime.store, runtime.rest, runtime.fetch_file, runtime.listing.forget, jobs, run_ref, tell
                )
                side_by_side.run(loader, tasks, connections)
            raise_refused(planned)
        except IngestError as error:
            with suppress(StoreError):  # which may be what went wrong
                error.report = LoadReport(tuple(load_reports(runtime.store, planned)), shared.weight)
            raise
        return LoadReport(tuple(load_reports(runtime.store, planned)), shared.weight)


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
    republished: bool = True,
    store: StoreLike = None,
    config: BinanceConfig | None = None,
    priority: str = "backfill",
) -> PlanReport:
    """What `load` with the same arguments would fetch, and its cost. Writes nothing, creates nothing.

    Raises:
        InputError: malformed or unknown arguments.
        BinanceError, StoreError: exchangeInfo, the listing or the ledger could not be read.
    """
    with Runtime.of_source(config, store, priority, source) as runtime:
        selection = select(
            market, dataset, symbols, intervals, start, end, source, reload, confirm, republished,
            now_us=runtime.now_us,
        )  # fmt: skip
        runtime.refuse_foreign()
        plans = []
        planned = plan_all(runtime, selection)
        raise_refused(planned)
        for entry in planned:
            fetched = [piece_report(entry.series, piece) for task in entry.tasks for piece in task.first_pieces()]
            fetched.sort(key=lambda piece: piece.start_us)
            plans.append(SeriesPlan(entry.series, entry.start_us, entry.end_us, tuple(fetched)))
        return PlanReport(tuple(plans), () if runtime.config.has_archive else (NO_ARCHIVE,))


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
    """What the store holds: ranges, rows, expected rows, gaps with reasons. Asks the store, and the time if need be.

    Without `start` (or `end`) a series is reported from (to) where its ledger begins (ends). Where the time is needed
    to tell what may still be open and Binance does not answer, the last time that the ledger knows is taken.

    Raises:
        InputError: an unknown dataset, interval or market; times that are naive or in the wrong order.
        BinanceError: a window that counts back from now while Binance does not tell the time.
        StoreError: the store cannot be read.
    """
    registered(dataset)
    patterns = [spelled(name) for name in names_of(symbols or ())]
    chosen = {parse_interval(name).name for name in names_of(intervals or ())}
    kind = Market.parse(market) if market else None
    with Runtime(config, store) as runtime:
        clock = kind or Market.SPOT
        begin, stop = instants(start, end, partial(runtime.now_us, clock))
        told_us = cache(partial(_told_us, runtime, clock))
        wanted = [
            series
            for series in runtime.store.series(dataset)
            if is_known(series)
            and (kind is None or series.market == kind)
            and (not patterns or any(fnmatchcase(series.symbol, pattern) for pattern in patterns))
            and (not chosen or series.interval in chosen)
        ]
        ledger = runtime.store.coverage(dataset, wanted, EARLIEST_US, LATEST_US)
        entries = []
        for series in wanted:
            ranges = ledger.get(series, [])
            if not ranges:
                continue
            listed = [r.start_us for r in ranges if r.state is not State.NOT_LISTED] or [ranges[0].start_us]
            start_us = begin if isinstance(begin, int) else listed[0]
            end_us = ranges[-1].end_us if stop is None else stop if isinstance(stop, int) else LATEST_US
            if end_us > ranges[-1].end_us and series.interval:
                # What has not closed yet is not missing.
                end_us = max(ranges[-1].end_us, min(end_us, _closed_end(series, ranges, end_us, told_us)))
            if start_us < end_us:
                entries.append(_series_coverage(runtime.store, series, ranges, start_us, end_us))
        return CoverageReport(tuple(entries))


def retire(
    *, dataset: str, days: int | None = None, store: StoreLike = None, config: BinanceConfig | None = None
) -> Retired:
    """Drop the ticks of a dataset that are older than its retention; the ledger calls them `retired`, and no load
    brings them back unless it is told to (`reload`).

    Args:
        dataset: `agg_trades` or `trades`.
        days: how many days are kept; default: the setting `retention_days`.
        store: URL, path or open Store; default: the setting `store_url`.
        config: settings; default: those of the environment.

    Raises:
        InputError: no retention is given, or the dataset has none.
        StoreError: nothing was dropped.
    """
    registered(dataset)
    with Runtime(config, store) as runtime:
        kept = runtime.config.retention_days.get(dataset) if days is None else days
        if kept is None or kept < 1:
            raise InputError(
                f"how many days of {dataset} are to be kept? Give days, 1 or more, or set retention_days "
                f"(BINANCE_RETENTION_DAYS='{{\"{dataset}\": 90}}')",
                argument="days",
            )
        runtime.refuse_foreign()
        now_us = runtime.near_now_us(Market.SPOT) or runtime.now_us(Market.SPOT)
        return runtime.store.retire(dataset, now_us - kept * DAY_US)


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
    with Runtime(config, None, priority=priority, archive=False) as runtime:
        begin, stop = instants(start, end, lambda: runtime.now_us(kind))
        [name] = runtime.symbols.resolve([symbol], kind, "klines")
        series = Series(kind.value, "klines", name, grid.name)
        closed_us = runtime.closed_end(grid.name, runtime.now_us(kind))
        end_us = min(stop, closed_us) if isinstance(stop, int) else closed_us
        start_us = resolved_start(runtime, series, begin, [])
        bound = runtime.symbols.listed_from(series, start_us, runtime.now_us(kind))
        start_us = max(start_us, bound.at_us) if bound else start_us
        klines: list[Kline] = []
        for page in plan_pages(kind, grid, start_us, end_us, few=True):
            body = runtime.rest.kline_page(kind, name, grid.name, page.start_us, page.end_us, page.limit)
            klines += page_rows(body, kind, grid).between(page.start_us, page.end_us).klines(series)
        return klines


def _told_us(runtime: Runtime, market: Market) -> int:
    """The server's time, or 0 with a warning where it is out of reach, or the weight budget is, for a role that only
    reads: coverage is the store's to tell."""
    try:
        return runtime.now_us(market)
    except (BinanceError, StoreRightsError, StoreUnavailableError) as error:
        log.warning("%s; coverage is told as of the last time that each series' ledger knows", error)
        return 0


def _closed_end(series: Series, ranges: Sequence[CoverageRange], end_us: int, told_us: Callable[[], int]) -> int:
    """Before which the series' klines are closed; the server is asked only if the ledger's own times leave it open."""
    interval = INTERVALS[series.interval]
    known_us = max(known.checked_at_us for known in ranges)
    if interval.closed_end(known_us) < end_us:
        known_us = max(known_us, told_us())
    return interval.closed_end(known_us)


def _series_coverage(
    store: Store, series: Series, ranges: Sequence[CoverageRange], start_us: int, end_us: int
) -> SeriesCoverage:
    told = pieces(ranges, start_us, end_us)
    [rows] = store.row_counts(series.dataset, series, [(start_us, end_us)])
    expected = None
    if series.interval:
        grid = INTERVALS[series.interval]
        wanted = (p for p in told if p.state == State.COMPLETE or not p.is_explained)
        expected = sum(grid.count(piece.start_us, piece.end_us) for piece in wanted)
    elif Market(series.market) in registered(series.dataset).contiguous and all(
        piece.state == State.COMPLETE or piece.is_explained for piece in told
    ):
        expected = sum(
            known.last_id - known.first_id + 1
            for known in ranges
            if known.first_id is not None
            and known.last_id is not None
            and start_us <= known.start_us < known.end_us <= end_us
        )
    return SeriesCoverage(series, start_us, end_us, rows, expected, tuple(told))


__all__ = ["StoreLike", "coverage", "fetch_klines", "forget", "load", "migrate", "plan", "repair", "retire", "verify"]
