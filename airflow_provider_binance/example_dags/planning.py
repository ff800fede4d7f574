"""The first task of the example DAGs: a universe and a window become chunks of about equal planned cost."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import DAY_US, from_us, iso, to_us
from airflow_provider_binance.universe import PlannedSeries, UniverseEntry
from airflow_provider_binance.windows import LISTING, NOW, parse_instant

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_binance.hooks.binance import BinanceHook
    from airflow_provider_binance.reports import PlanReport

log = logging.getLogger(__name__)

#: How a mapped load is called in the UI.
MAP_INDEX_TEMPLATE = (
    "{{ task.market }} {{ task.symbols[:3] | join(' ') }}{{ ' +%d' % (task.symbols | length - 3) "
    "if task.symbols | length > 3 else '' }} {{ task.intervals | join(' ') }}"
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
    hook: BinanceHook, entries: Iterable[UniverseEntry], start: Any, end: Any, **arguments: Any
) -> tuple[list[PlannedSeries], list[PlanReport]]:
    """Plan `[start, end)` for each entry, from its `since` on where that is later; none if that is after `end`."""
    planned: list[PlannedSeries] = []
    reports: list[PlanReport] = []
    for entry in entries:
        asked = parse_instant(start, now_us=_now_us(hook, entry.market))
        first = _later(asked, entry.since, hook, entry.market)
        end_us = parse_instant(end, now_us=_now_us(hook, entry.market), name="end")
        if first != asked and isinstance(first, int) and isinstance(end_us, int) and first >= end_us:
            log.info("Left out %s %s: since %s is not before %s", entry.market, entry.symbols, entry.since, iso(end_us))
            continue
        begin: Any = from_us(first) if isinstance(first, int) else first
        report = _plan(hook, entry, begin, end, arguments)
        planned += _planned(
            report, first if isinstance(first, int) else None, end_us if isinstance(end_us, int) else None
        )
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
        now_us = to_us(hook.server_now(entry.market))
        midnight = from_us(now_us - now_us % DAY_US)
        try:
            found = [_plan(hook, entry, None, midnight, arguments)]
        except InputError:
            if entry.since is None:
                raise
            found = _plan_each(hook, entry, midnight, arguments)
        for report in found:
            planned += _planned(report, None, to_us(midnight))
        reports += found
    return [one for one in planned if one.start_us < one.end_us], reports


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


def _plan(hook: BinanceHook, entry: UniverseEntry, start: Any, end: Any, arguments: dict[str, Any]) -> PlanReport:
    symbols, intervals = list(entry.symbols), list(entry.intervals)
    return hook.plan(market=entry.market, symbols=symbols, intervals=intervals, start=start, end=end, **arguments)


def _plan_each(hook: BinanceHook, entry: UniverseEntry, end: datetime, arguments: dict[str, Any]) -> list[PlanReport]:
    """Plans of an entry of which some series are not stored yet: those from `since`, the others from where they end."""
    whole = _plan(hook, entry, entry.since, end, arguments)
    reports = []
    for series in dict.fromkeys((plan.series.symbol, plan.series.interval) for plan in whole.plans):
        one = UniverseEntry(entry.market, (series[0],), (series[1],), entry.since)
        try:
            reports.append(_plan(hook, one, None, end, arguments))
        except InputError:
            reports.append(_plan(hook, one, entry.since, end, arguments))
    return reports


def _planned(report: PlanReport, start_us: int | None, end_us: int | None) -> list[PlannedSeries]:
    return [
        PlannedSeries(
            plan.series,
            plan.start_us if start_us is None else start_us,
            plan.end_us if end_us is None else end_us,
            sum(piece.seconds for piece in plan.pieces),
        )
        for plan in report.plans
    ]


def _later(first: Any, since: str | None, hook: BinanceHook, market: str) -> Any:
    """The later of a start and a `since`; one that is not given, or the listing, binds nothing."""
    bound = parse_instant(since, now_us=_now_us(hook, market), name="since")
    if bound is None or bound in (LISTING, NOW):
        return first
    return bound if first is LISTING or (isinstance(first, int) and first < bound) else first


def _now_us(hook: BinanceHook, market: str) -> Any:
    return lambda: to_us(hook.server_now(market))
