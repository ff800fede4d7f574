"""`repair`: find and fill what is lacking inside what is covered."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.findings import Finding, Kind, RepairReport
from airflow_provider_binance.market import INTERVALS, Market
from airflow_provider_binance.outcome import load_reports
from airflow_provider_binance.planner import SourceChoice
from airflow_provider_binance.records import Series
from airflow_provider_binance.runtime import Runtime, StoreLike
from airflow_provider_binance.store.base import Store
from airflow_provider_binance.tasks import Names, When
from airflow_provider_binance.upkeep.choosing import Wanted, chosen, wanted
from airflow_provider_binance.upkeep.ledger import afterwards, ledger_findings
from airflow_provider_binance.upkeep.mending import OnProgress, Order, carry_out

#: What `repair` looks for; values are `verify`'s.
_REPAIRED = frozenset(
    {Kind.ROWS_MISSING, Kind.ROWS_UNCOVERED, Kind.ROWS_IN_GAP, Kind.ROW_COUNT, Kind.LEDGER_LINE, Kind.GAP}
)
#: What is loaded again although the ledger says that it is there.
_RELOADED = frozenset({Kind.ROW_COUNT, Kind.LEDGER_LINE})


def repair(
    *,
    market: str | None = None,
    dataset: str = "klines",
    symbols: Names | None = None,
    intervals: Names | None = None,
    start: When = None,
    end: When = None,
    source: str = "auto",
    early: bool = False,
    confirm: bool = True,
    store: StoreLike = None,
    config: BinanceConfig | None = None,
    priority: str = "repair",
    run_ref: str = "",
    jobs: int = 4,
    on_progress: OnProgress = None,
) -> RepairReport:
    """Find and fill what is lacking inside what the ledger covers; a second call fetches nothing and changes nothing.

    Filled are ranges that no source could give yet and that are due, ranges that failed, holes between what is covered,
    and rows that were lost behind the ledger's back. Provisional ranges whose archive file is out are confirmed.

    Args:
        market: `spot`, `um` or `cm`; not given: all that the store has.
        dataset: name in the registry.
        symbols: names or patterns over what the store has; not given: all.
        intervals: likewise.
        start: first instant of the window, as in `load`; not given: from the first covered instant.
        end: first instant after the window; not given: to the last covered instant.
        source: `auto`; `archive` or `rest` forces one.
        early: ask again for what is not due yet, too.
        confirm: whether to confirm provisional ranges whose archive file is out.
        store: URL, path or open Store; default: the setting `store_url`.
        config: settings; default: those of the environment.
        priority: class in the weight budget.
        run_ref: kept in the ledger lines.
        jobs: how many fetches run ahead.
        on_progress: called after each piece, from this thread.

    Raises:
        InputError: malformed or unknown arguments; nothing was done.
        BinanceError, StoreError: what was committed stays; the same call goes on from there.
    """
    if not 1 <= jobs <= 64:
        raise InputError(f"jobs={jobs} must be 1 … 64")
    choice = SourceChoice.parse(source)
    with Runtime.of_source(config, store, priority, choice) as runtime:
        kind = Market.parse(market) if market else Market.SPOT
        words = wanted(market, dataset, symbols, intervals, start, end, lambda: runtime.now_us(kind))
        orders = []
        before: dict[Series, list[Finding]] = {}
        for series in chosen(runtime.store, words):
            order, before[series] = _examine(runtime.store, series, words)
            orders.append(replace(order, gaps=True, early=early, confirm=confirm))
        done = carry_out(runtime, orders, choice, jobs=jobs, run_ref=run_ref, on_progress=on_progress)
        findings = [
            finding
            for series, found in before.items()
            for finding in afterwards(found, _look(runtime.store, series, words)[1] if found else [])
        ]
        return RepairReport(tuple(findings), tuple(load_reports(runtime.store, done)))


def _look(store: Store, series: Series, words: Wanted) -> tuple[Order, list[Finding]]:
    audit = store.audit(series, *INTERVALS[series.interval].align(words.start_us, words.end_us))
    return Order(series, audit), ledger_findings(series, audit)


def _examine(store: Store, series: Series, words: Wanted) -> tuple[Order, list[Finding]]:
    """What is to be done to a series, and what was found of `repair`'s concern."""
    order, found = _look(store, series, words)
    found = [finding for finding in found if finding.kind in _REPAIRED]
    order.lost = [(f.start_us, f.end_us) for f in found if f.kind is Kind.ROWS_MISSING]
    order.reload = [(f.start_us, f.end_us) for f in found if f.kind in _RELOADED]
    return order, found
