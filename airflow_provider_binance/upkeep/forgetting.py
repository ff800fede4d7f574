"""`forget`: delete rows and ledger of a selection together."""

from __future__ import annotations

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.findings import ForgetReport, SeriesForgotten
from airflow_provider_binance.market import Market, grid_of
from airflow_provider_binance.runtime import Runtime, StoreLike
from airflow_provider_binance.tasks import Names, When, names_of
from airflow_provider_binance.upkeep.choosing import chosen, wanted


def forget(
    *,
    market: str,
    dataset: str = "klines",
    symbols: Names,
    intervals: Names | None = None,
    start: When = None,
    end: When = None,
    dry_run: bool = False,
    store: StoreLike = None,
    config: BinanceConfig | None = None,
) -> ForgetReport:
    """Delete rows, coverage, ledger lines and corrections of a selection together; later loads bring it back, but for
    what only streams bring (book tickers, mark prices, liquidations).

    Each series is one transaction under its lock: rows and ledger go together or stay together. Lines that reach beyond
    the window keep the part outside.

    Args:
        market: `spot`, `um` or `cm`.
        dataset: name in the registry.
        symbols: names or patterns over what the store has.
        intervals: likewise; not given: all.
        start: first instant of the window, as in `load`; not given: from the beginning.
        end: first instant after the window; not given: to the end.
        dry_run: only count.
        store: URL, path or open Store; default: the setting `store_url`.
        config: settings; default: those of the environment.

    Raises:
        InputError: malformed or unknown arguments; nothing was done.
        StoreError: the series before it are forgotten, this one and those after it are not.
    """
    if not names_of(symbols):
        raise InputError("no symbol given: name one or more, or a pattern such as *USDT; '*' forgets all of the market")
    with Runtime(config, store) as runtime:
        kind = Market.parse(market)
        words = wanted(
            market, dataset, symbols, intervals, start, end, lambda: runtime.now_us(kind), is_checked=False
        )  # fmt: skip
        done = []
        for series in chosen(runtime.store, words):
            window = grid_of(series.interval).align(words.start_us, words.end_us)
            emptied = runtime.store.forget(series, *window, dry_run=dry_run)
            if any(emptied):
                done.append(SeriesForgotten(series, *window, *emptied))
        return ForgetReport(tuple(done), dry_run)
