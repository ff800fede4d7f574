"""`verify`: compare the store with itself, its ledger, and what the sources say; say whose each difference is."""

from __future__ import annotations

import time
from itertools import groupby

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import BinanceError, ConfigError, IngestError, InputError
from airflow_provider_binance.findings import Checked, Finding, VerifyReport
from airflow_provider_binance.loading import is_general
from airflow_provider_binance.market import Market
from airflow_provider_binance.records import Series, Source
from airflow_provider_binance.runtime import Runtime, StoreLike
from airflow_provider_binance.tasks import Names, When, names_of
from airflow_provider_binance.upkeep.choosing import chosen, wanted
from airflow_provider_binance.upkeep.fixing import Fixer
from airflow_provider_binance.upkeep.mending import OnProgress
from airflow_provider_binance.upkeep.nameless import orphaned, unknown_series
from airflow_provider_binance.upkeep.symbol import Symbol


def verify(
    *,
    market: str | None = None,
    dataset: str = "klines",
    symbols: Names | None = None,
    intervals: Names | None = None,
    start: When = None,
    end: When = None,
    against: Names | None = None,
    fix: bool = False,
    adopt: bool = False,
    store: StoreLike = None,
    config: BinanceConfig | None = None,
    priority: str = "repair",
    run_ref: str = "",
    jobs: int = 4,
    on_progress: OnProgress = None,
) -> VerifyReport:
    """Find every difference between the store, its ledger and Binance, and say whose it is.

    Always checked, in the database and without asking anybody: that ledger and rows agree, that every row is sound by
    itself, that minutes add up to the longer intervals. With `against`, every row is compared with a source as well.

    Args:
        market: `spot`, `um` or `cm`; not given: all that the store has.
        dataset: name in the registry.
        symbols: names or patterns over what the store has; not given: all.
        intervals: likewise. Longer ones are added up from the shortest of 1m and more that is there.
        start: first instant of the window, as in `load`; not given: from the first row or covered instant.
        end: first instant after the window; not given: to the last.
        against: `archive`, `rest` or both: fetch again and compare.
        fix: repair what can be, from the source that gave the rows; take out what no source has.
        adopt: take over rows of which the ledger knows nothing, after they were compared with their source.
        store: URL, path or open Store; default: the setting `store_url`.
        config: settings; default: those of the environment.
        priority: class in the weight budget.
        run_ref: kept in the ledger lines of what is fixed.
        jobs: how many fetches run ahead.
        on_progress: called after each piece that was fetched, from this thread.

    Raises:
        InputError: malformed or unknown arguments; nothing was done.
        BinanceError, StoreError: what was committed stays. `error.report` has what was found: where Binance refuses
            about one symbol the others are compared first, and where it refuses all they are looked at all the same.
    """
    if not 1 <= jobs <= 64:
        raise InputError(f"jobs={jobs} must be 1 … 64")
    sources = _sources(against)
    begun = time.monotonic()
    with Runtime(config, store, priority=priority) as runtime:
        if Source.ARCHIVE in sources and not runtime.config.has_archive:
            raise ConfigError("against='archive' is not to be had: the test hosts have no archive; use rest")
        kind = Market.parse(market) if market else Market.SPOT
        words = wanted(market, dataset, symbols, intervals, start, end, lambda: runtime.now_us(kind))
        findings: list[Finding] = []
        checked: list[Checked] = []
        failed: dict[Series, BinanceError] = {}

        def told() -> VerifyReport:
            return VerifyReport(tuple(findings), tuple(checked), time.monotonic() - begun)

        try:
            findings += orphaned(runtime.store, dataset, fix=fix)
            selected = chosen(runtime.store, words)
            findings += unknown_series(runtime.store, words)
            refusal: BinanceError | None = None
            for _, group in groupby(selected, key=lambda series: (series.market, series.symbol)):
                one = Symbol(runtime, words, sources, jobs, on_progress)
                one.error = refusal
                series = list(group)
                mends = (fix or adopt) and refusal is None
                one.look(series, timely=refusal is None and bool(fix or adopt or sources), adopt=adopt)
                one.ask(suspects=fix or adopt, adopt=adopt)
                one.judge()
                if mends and one.error is None:
                    fixer = Fixer(runtime, fix=fix, adopt=adopt, jobs=jobs, run_ref=run_ref, on_progress=on_progress)
                    one.order(fixer)
                    one.error = fixer.run().error
                    one.look_again(fixer)
                findings += one.findings()
                checked += one.checked()
                if one.error is not None and refusal is None:
                    if is_general(one.error, series[0], failed):
                        refusal = one.error
                    failed[series[0]] = one.error
        except IngestError as error:
            error.report = told()
            raise
        for refused in failed.values():
            refused.report = told()
            raise refused
        return told()


def _sources(against: Names | None) -> tuple[Source, ...]:
    names = list(dict.fromkeys(names_of(against or ())))
    if unknown := [name for name in names if name not in (Source.ARCHIVE, Source.REST)]:
        raise InputError(f"unknown source {unknown[0]!r} to verify against: use archive, rest or both")
    return tuple(Source(name) for name in names)
