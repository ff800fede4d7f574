"""`repair`: find and fill what is lacking inside what is covered."""

from __future__ import annotations

from itertools import groupby

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import BinanceError, InputError
from airflow_provider_binance.findings import FindingKind, RepairReport
from airflow_provider_binance.market import Market
from airflow_provider_binance.outcome import load_reports
from airflow_provider_binance.planner import SourceChoice
from airflow_provider_binance.runtime import Runtime, StoreLike
from airflow_provider_binance.tasks import Names, When
from airflow_provider_binance.upkeep.choosing import chosen, wanted
from airflow_provider_binance.upkeep.fixing import Fixer
from airflow_provider_binance.upkeep.mending import OnProgress
from airflow_provider_binance.upkeep.symbol import Symbol

#: What `repair` looks for; values are `verify`'s.
_REPAIRED = frozenset(
    {
        FindingKind.ROWS_MISSING,
        FindingKind.ROWS_UNCOVERED,
        FindingKind.ROWS_IN_GAP,
        FindingKind.ROWS_MISDATED,
        FindingKind.ROW_COUNT,
        FindingKind.LEDGER_LINE,
        FindingKind.GAP,
    }
)


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
    and rows that were lost behind the ledger's back. Rows where the ledger says that there are none are covered if a
    source has them, and taken out if none has. Provisional ranges whose archive file is out are confirmed.

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
        BinanceError, StoreError: what was committed stays; the same call goes on from there. Where Binance refuses one
            series, the others are repaired first, and `error.report` tells of all.
    """
    if not 1 <= jobs <= 64:
        raise InputError(f"jobs={jobs} must be 1 … 64")
    choice = SourceChoice.parse(source)
    with Runtime.of_source(config, store, priority, choice) as runtime:
        kind = Market.parse(market) if market else Market.SPOT
        words = wanted(market, dataset, symbols, intervals, start, end, lambda: runtime.now_us(kind))
        fixer = Fixer(
            runtime, fix=True, adopt=False, jobs=jobs, run_ref=run_ref, on_progress=on_progress, choice=choice,
            early=early, confirm=confirm,
        )  # fmt: skip
        looked: list[Symbol] = []
        refused: BinanceError | None = None
        for _, group in groupby(chosen(runtime.store, words), key=lambda series: (series.market, series.symbol)):
            one = Symbol(runtime, words, (), jobs, on_progress, choice=choice, only=_REPAIRED)
            one.look(list(group))
            one.ask(suspects=True, adopt=False)
            one.judge()
            one.order(fixer)
            refused = refused or one.error
            looked.append(one)
        done = fixer.run()
        for one in looked:
            one.look_again(fixer)
        findings = [finding for one in looked for finding in one.findings()]
        report = RepairReport(tuple(findings), tuple(load_reports(runtime.store, done.planned)))
        if (error := done.error or refused) is not None:
            error.report = report
            raise error
        return report
