"""The first task of the example DAGs: a universe and a window become chunks of about equal planned cost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import Market, from_us, grid_of, iso, to_us
from airflow_provider_binance.records import SETTLED, Series
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.task_arguments import texts
from airflow_provider_binance.universe import PlannedSeries, UniverseEntry
from airflow_provider_binance.windows import EARLIEST_US, LATEST_US, LISTING, Instant, Marker, parse_instant

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_binance.hooks.binance import BinanceHook
    from airflow_provider_binance.reports import PlanReport

log = logging.getLogger(__name__)

#: How a mapped task is called in the UI, by its market and symbols, and by its intervals or dataset too.
MAP_INDEX_TEMPLATE = (
    "{{ task.market }} {{ task.symbols[:3] | join(' ') }}{{ ' +%d' % (task.symbols | length - 3) "
    "if task.symbols | length > 3 else '' }} {{ (task.intervals or [task.dataset]) | join(' ') }}"
)
#: Series that a dry run logs and returns one by one; the totals count all.
_MOST_SERIES = 100


def default_args(given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Retries by error class, and a time-out, for every task; `given` wins."""
    from airflow_provider_binance.operators.binance import BINANCE_RETRY_POLICY

    return {
        "retries": 3,
        "retry_delay": timedelta(minutes=2),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=30),
        "retry_policy": BINANCE_RETRY_POLICY,
        "execution_timeout": timedelta(hours=6),
        **(given or {}),
    }


def plan_window(
    hook: BinanceHook,
    entries: Iterable[UniverseEntry],
    start: Any,
    end: Any,
    *,
    by_close: bool = False,
    **arguments: Any,
) -> tuple[list[PlannedSeries], list[PlanReport]]:
    """Plan `[start, end)` for each entry, from its `since` on where that is later; none if that is after `end`.

    A kline belongs to the window by its open time. With `by_close` those that were open at `start` belong to it too, so
    that consecutive windows, each loaded when it ends, have every kline: also one that spans several of them.
    """
    planned: list[PlannedSeries] = []
    reports: list[PlanReport] = []
    for entry in entries:
        now_us = _now_us(hook, entry.market)
        asked = parse_instant(start, now_us=now_us)
        end_us = parse_instant(end, now_us=now_us, name="end")
        since = parse_instant(entry.since, now_us=now_us, name="since")
        by_start: dict[Instant, list[str]] = {}
        for interval in entry.intervals or ("",):
            first = grid_of(interval).floor(asked) if by_close and isinstance(asked, int) else asked
            by_start.setdefault(_later(first, since), []).append(interval)
        for first, intervals in by_start.items():
            if first == since and isinstance(first, int) and isinstance(end_us, int) and first >= end_us:
                _tell_left_out(entry, end_us)
                continue
            part = replace(entry, intervals=tuple(filter(None, intervals)))
            report = _plan(hook, part, first, end, arguments)
            planned += _planned(report, first, end_us if isinstance(end_us, int) else None)
            reports.append(report)
    return planned, reports


def plan_latest(
    hook: BinanceHook, entries: Iterable[UniverseEntry], **arguments: Any
) -> tuple[list[PlannedSeries], list[PlanReport]]:
    """Plan each series from its last covered instant to the last UTC midnight at Binance.

    A series of which nothing is stored yet starts at its entry's `since`; without one this raises InputError.
    """
    planned: list[PlannedSeries] = []
    reports: list[PlanReport] = []
    for entry in entries:
        end_us = _last_midnight_us(hook, entry.market)
        since = parse_instant(entry.since, now_us=_now_us(hook, entry.market), name="since")
        found: list[tuple[Instant, PlanReport]]
        try:
            found = [(None, _plan(hook, entry, None, from_us(end_us), arguments))]
        except InputError:
            if since is None:
                raise
            if isinstance(since, int) and since >= end_us:
                _tell_left_out(entry, end_us)
                continue
            found = _plan_parts(hook, entry, since, from_us(end_us), arguments)
        for start, report in found:
            planned += _planned(report, start, end_us)
            reports.append(report)
    return planned, reports


def describe(reports: Iterable[PlanReport]) -> dict[str, Any]:
    """The plan as a log of its series and an XCom of bounded size: totals, then series with their cost."""
    series: list[dict[str, Any]] = []
    totals = {"files": 0, "bytes": 0, "requests": 0, "weight": 0, "seconds": 0.0}
    count = 0
    for report in reports:
        for note in report.notes:
            log.info("%s", note)
        for plan in report.plans:
            cost = {name: sum(getattr(piece, name) for piece in plan.pieces) for name in totals}
            for name, value in cost.items():
                totals[name] += value
            count += 1
            if len(series) < _MOST_SERIES:
                entry = plan.to_dict()
                pieces = len(entry.pop("pieces"))
                series.append({**entry, "pieces": pieces, **cost})
                log.info(
                    "Plan %s [%s, %s): %d pieces, %d files, %d bytes, %d requests, weight %d, about %.0f s",
                    plan.series, entry["start"], entry["end"], pieces, cost["files"], cost["bytes"], cost["requests"],
                    cost["weight"], cost["seconds"],
                )  # fmt: skip
    log.info(
        "Plan of %d series: %d files, %d bytes, %d requests, weight %d, about %.0f s",
        count, totals["files"], totals["bytes"], totals["requests"], totals["weight"], totals["seconds"],
    )  # fmt: skip
    return {"series_count": count, "totals": totals, "series": series}


def _last_midnight_us(hook: BinanceHook, market: str) -> int:
    from airflow_provider_binance.runtime import Runtime

    with Runtime(hook.config, priority=hook.priority) as runtime:
        return runtime.last_midnight_us(Market(market))


def _plan(hook: BinanceHook, entry: UniverseEntry, start: Instant, end: Any, arguments: dict[str, Any]) -> PlanReport:
    symbols, intervals = list(entry.symbols), list(entry.intervals)
    begin = from_us(start) if isinstance(start, int) else start.value if isinstance(start, Marker) else None
    arguments = {"dataset": entry.dataset, "intervals": intervals, "start": begin, "end": end, **arguments}
    return hook.plan(market=entry.market, symbols=symbols, **arguments)


def _plan_parts(
    hook: BinanceHook, entry: UniverseEntry, since: Instant, end: datetime, arguments: dict[str, Any]
) -> list[tuple[Instant, PlanReport]]:
    """Plans of an entry of which some series are not stored yet: those from `since`, the others from where they end."""
    whole = _plan(hook, entry, since, end, arguments)
    covered = _covered(hook, [plan.series for plan in whole.plans])
    new = tuple(plan for plan in whole.plans if plan.series not in covered)
    parts: list[tuple[Instant, PlanReport]] = [(since, replace(whole, plans=new))]
    for interval in entry.intervals or ("",):
        if symbols := tuple(sorted(series.symbol for series in covered if series.interval == interval)):
            part = replace(entry, symbols=symbols, intervals=tuple(filter(None, [interval])))
            parts.append((None, _plan(hook, part, None, end, arguments)))
    return parts


def _covered(hook: BinanceHook, wanted: list[Series]) -> set[Series]:
    """Those that have a last covered instant to go on from."""
    from airflow_provider_binance.runtime import Runtime

    with Runtime(hook.store_config, priority=hook.priority) as runtime:
        ledger = runtime.store.coverage(wanted[0].dataset, wanted, EARLIEST_US, LATEST_US) if wanted else {}
    return {series for series, ranges in ledger.items() if any(known.state in SETTLED for known in ranges)}


def _planned(report: PlanReport, start: Instant, end_us: int | None) -> list[PlannedSeries]:
    """The series of a plan with the window as it was asked, which they share, not as each has cut it for itself."""
    return [
        PlannedSeries(
            plan.series,
            start,
            plan.end_us if end_us is None else end_us,
            sum(piece.seconds for piece in plan.pieces),
        )
        for plan in report.plans
        # With a start of its own, a series may have nothing to do.
        if isinstance(start, int) or plan.start_us < plan.end_us or plan.pieces
    ]


def _tell_left_out(entry: UniverseEntry, end_us: int) -> None:
    log.info(
        "Left out %s %s %s: since %s is not before %s",
        entry.market, entry.dataset, entry.symbols, entry.since, iso(end_us),
    )  # fmt: skip


def _later(first: Instant, since: Instant) -> Instant:
    """The later of a start and a `since`; one that is not given, or the listing, binds nothing."""
    if not isinstance(since, int):
        return first
    return since if first is LISTING or (isinstance(first, int) and first < since) else first


def _now_us(hook: BinanceHook, market: str) -> Callable[[], int]:
    return lambda: to_us(hook.server_now(market))


def stored_chunks(
    hook: BinanceHook,
    *,
    market: Any = None,
    symbols: Any = None,
    datasets: Any = None,
    intervals: Any = None,
    most: int = 16,
) -> list[dict[str, Any]]:
    """What the ingest database has of a selection as `{market, dataset, symbols, intervals}`, at most `most`, about
    equally long. Intervals are those of the datasets that have some; without `datasets` the others are left out then.

    Raises:
        InputError: an unknown market, dataset or interval, intervals of datasets that have none, or a symbol that the
            store does not have.
    """
    from airflow_provider_binance.runtime import Runtime
    from airflow_provider_binance.upkeep.choosing import checked, chosen, wanted

    lengths = texts("intervals", intervals) or None
    asked = texts("datasets", datasets) or [n for n in checked() if not lengths or registered(n).has_interval]
    with_intervals = {name for name in asked if registered(name).has_interval} or {*asked}
    of = {name: lengths if name in with_intervals else None for name in asked}
    with Runtime(hook.store_config) as runtime:
        words = [wanted(market or None, name, symbols or None, of[name], None, None, lambda: 0) for name in of]
        names: dict[tuple[str, str], list[str]] = {}
        for series in chosen(runtime.store, *words):
            known = names.setdefault((series.market, series.dataset), [])
            if series.symbol not in known:
                known.append(series.symbol)
    total = sum(map(len, names.values()))
    size = max(1, -(-total // most))
    while sum(-(-len(some) // size) for some in names.values()) > max(most, len(names)):
        size += 1
    return [
        {"market": market, "dataset": dataset, "symbols": some[at : at + size], "intervals": of[dataset]}
        for (market, dataset), some in names.items()
        for at in range(0, len(some), size)
    ]
