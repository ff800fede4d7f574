"""REST trades, historicalTrades and aggTrades: which parameters each host takes, and what it answers with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from airflow_provider_binance.simulator.candles import BASE_VOLUME_DECIMALS, SPOT_DECIMALS, decimal_texts
from airflow_provider_binance.simulator.errors import (
    backend_timeout,
    invalid_combination,
    more_hours_than,
    outside_search_window,
    start_after_end,
)
from airflow_provider_binance.simulator.exchange import Exchange
from airflow_provider_binance.simulator.fills import Trades
from airflow_provider_binance.simulator.instruments import Instrument
from airflow_provider_binance.simulator.intervals import DAY_MS, HOUR_MS
from airflow_provider_binance.simulator.noise import Ints
from airflow_provider_binance.simulator.parameters import Parameters
from airflow_provider_binance.simulator.symbols import find_symbol, symbol_parameter
from airflow_provider_binance.simulator.ticks import Aggregates, Ticks

# (default, highest) limit.
LIMITS = {
    ("spot", "trades"): (500, 1000),
    ("spot", "historicalTrades"): (500, 1000),
    ("spot", "aggTrades"): (500, 1000),
    ("um", "trades"): (500, 1000),
    ("um", "historicalTrades"): (100, 500),
    ("um", "aggTrades"): (500, 1000),
    ("cm", "trades"): (500, 1000),
    ("cm", "historicalTrades"): (100, 500),
    ("cm", "aggTrades"): (500, 1000),
}
AGGREGATE_DAYS = 2
TRADE_DAYS = 30
# Documented of both futures hosts; um was seen to answer two hours.
LONGEST_CM_WINDOW_MS = HOUR_MS
LONGEST_STRIDE = 100_000
# How spot shows aggregates that it has withdrawn.
VOID = {"p": "0", "q": "0", "f": -1, "l": -1}


@dataclass(frozen=True)
class _Page:
    """Places ``[first, stop)``, of which the first or, with ``newest``, the last ``limit`` are wanted."""

    first: int
    stop: int
    limit: int
    newest: bool


@dataclass(frozen=True)
class _Rows:
    """Rows as they are answered, and their times."""

    rows: list[dict[str, Any]]
    time_us: Ints


def trades(exchange: Exchange, host: str, endpoint: str, parameters: Parameters, unit_us: int) -> list[dict[str, Any]]:
    """The answer of ``trades`` or ``historicalTrades``, ascending; times in units of ``unit_us``.

    Raises:
        ApiError: as Binance refuses it.
    """
    symbol = symbol_parameter(host, parameters)
    limit = parameters.limit(*LIMITS[host, endpoint], capped=host == "spot")
    from_id = parameters.integer("fromId") if endpoint == "historicalTrades" else None
    parameters.finish(strict=host == "spot")
    instrument = find_symbol(exchange, host, symbol)
    ticks = exchange.ticks(instrument)
    if ticks is None:
        return []
    now_us = exchange.clock.now_ms() * 1000 + 999
    stop = ticks.trades_until(now_us)
    if from_id is None:
        page = _Page(0, stop, limit, newest=True)
    else:
        page = _Page(ticks.place_of(from_id), stop, limit, newest=False)
        oldest_us = now_us - TRADE_DAYS * DAY_MS * 1000
        if host != "spot" and page.first < ticks.trades_until(oldest_us):
            raise outside_search_window(TRADE_DAYS)

    def fetch(first: int, last: int) -> _Rows:
        found = ticks.trades(first, last)
        return _Rows(trade_rows(ticks, found, unit_us), found.time_us)

    return _collect(page, fetch, exchange.hidden_times(instrument, "trades", "rest"))


def agg_trades(exchange: Exchange, host: str, parameters: Parameters, unit_us: int) -> list[dict[str, Any]]:
    """The answer of ``aggTrades``, ascending; times in units of ``unit_us``.

    Raises:
        ApiError: as Binance refuses it.
    """
    spot = host == "spot"
    symbol = symbol_parameter(host, parameters)
    from_id = parameters.integer("fromId")
    start_us = parameters.first_microsecond("startTime", microseconds=spot)
    end_us = parameters.last_microsecond("endTime", microseconds=spot)
    limit = parameters.limit(*LIMITS[host, "aggTrades"], capped=spot)
    parameters.finish(strict=spot)
    instrument = find_symbol(exchange, host, symbol)
    if from_id is not None and (start_us is not None or end_us is not None):
        # Futures take it, and then do not finish in time.
        raise invalid_combination("Combination of optional parameters invalid.") if spot else backend_timeout()
    if start_us is not None and end_us is not None:
        if start_us > end_us:
            if spot:
                return []
            raise start_after_end()
        if host == "cm" and end_us - start_us >= LONGEST_CM_WINDOW_MS * 1000:
            raise more_hours_than(1)
    ticks = exchange.ticks(instrument)
    if ticks is None:
        return []
    page = _aggregate_page(ticks, exchange.clock.now_ms() * 1000 + 999, from_id, start_us, end_us, limit)

    voided = exchange.voided_times(instrument)

    def fetch(first: int, last: int) -> _Rows:
        found = ticks.aggregates(first, last)
        rows = aggregate_rows(instrument, found, unit_us)
        for row, time_us in zip(rows, found.time_us.tolist() if voided else (), strict=False):
            if _in(time_us, voided):
                row |= VOID
        return _Rows(rows, found.time_us)

    return _collect(page, fetch, exchange.hidden_times(instrument, "aggTrades", "rest"))


def _aggregate_page(
    ticks: Ticks, now_us: int, from_id: int | None, start_us: int | None, end_us: int | None, limit: int
) -> _Page:
    first, stop = 0, ticks.aggregates_complete(now_us)
    if ticks.instrument.market != "spot":
        oldest_us = now_us - AGGREGATE_DAYS * DAY_MS * 1000
        asked = [each for each in (start_us, end_us) if each is not None]
        oldest = ticks.aggregates_until(oldest_us - 1)
        if any(each < oldest_us for each in asked) or (from_id is not None and from_id < min(oldest, stop)):
            raise outside_search_window(AGGREGATE_DAYS)
        first = oldest
    if start_us is not None:
        first = max(first, ticks.aggregates_until(start_us - 1))
    if end_us is not None:
        stop = min(stop, ticks.aggregates_until(end_us))
    if from_id is not None:
        first = max(first, from_id)
    return _Page(first, stop, limit, newest=from_id is None and start_us is None)


def _collect(page: _Page, fetch: Callable[[int, int], _Rows], hidden: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """The rows of the page without the hidden ones, which are crossed in growing strides."""
    rows: list[dict[str, Any]] = []
    first, stop, length = page.first, page.stop, page.limit
    while first < stop and len(rows) < page.limit:
        edge = max(first, stop - length) if page.newest else min(stop, first + length)
        found = fetch(edge, stop) if page.newest else fetch(first, edge)
        kept = [
            row for row, time_us in zip(found.rows, found.time_us.tolist(), strict=True) if not _in(time_us, hidden)
        ]
        rows = kept + rows if page.newest else rows + kept
        first, stop = (first, edge) if page.newest else (edge, stop)
        length = min(4 * length, LONGEST_STRIDE)
    return rows[-page.limit :] if page.newest else rows[: page.limit]


def _in(time_us: int, ranges: list[tuple[int, int]]) -> bool:
    return any(start_ms * 1000 <= time_us < end_ms * 1000 for start_ms, end_ms in ranges)


def quantity_texts(instrument: Instrument, lots: Ints) -> list[str]:
    """Quantities as REST prints them."""
    return _texts(instrument, lots, instrument.quantity_decimals)


def price_texts(instrument: Instrument, prices: Ints) -> list[str]:
    """Prices as REST prints them."""
    return _texts(instrument, prices, instrument.price_decimals)


def amount_texts(instrument: Instrument, amounts: Ints) -> list[str]:
    """Quote quantities, or base quantities on cm, as REST prints them."""
    decimals = instrument.price_decimals + instrument.quantity_decimals
    return _texts(instrument, amounts, BASE_VOLUME_DECIMALS if instrument.market == "cm" else decimals)


def _texts(instrument: Instrument, values: Ints, decimals: int) -> list[str]:
    return decimal_texts(values, decimals, SPOT_DECIMALS if instrument.market == "spot" else decimals)


def trade_rows(ticks: Ticks, found: Trades, unit_us: int) -> list[dict[str, Any]]:
    """Trades as REST prints them; times in units of ``unit_us``."""
    instrument = ticks.instrument
    columns: dict[str, Any] = {
        "id": ticks.ids(found.ordinal).tolist(),
        "price": price_texts(instrument, found.price),
        "qty": quantity_texts(instrument, found.lots),
        ("baseQty" if instrument.market == "cm" else "quoteQty"): amount_texts(instrument, found.amount),
        "time": (found.time_us // unit_us).tolist(),
        "isBuyerMaker": found.buyer_maker.tolist(),
    }
    if instrument.market == "spot":
        columns["isBestMatch"] = repeat(True, len(found))
    elif instrument.market == "um":
        columns["isRPITrade"] = found.rpi.tolist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def aggregate_rows(instrument: Instrument, found: Aggregates, unit_us: int) -> list[dict[str, Any]]:
    """Aggregates as REST prints them; times in units of ``unit_us``."""
    columns: dict[str, Any] = {
        "a": found.ordinal.tolist(),
        "p": price_texts(instrument, found.price),
        "q": quantity_texts(instrument, found.lots),
    }
    if instrument.market == "um":
        columns["nq"] = quantity_texts(instrument, found.normal_lots)
    columns |= {
        "f": found.first.tolist(),
        "l": found.last.tolist(),
        "T": (found.time_us // unit_us).tolist(),
        "m": found.buyer_maker.tolist(),
    }
    if instrument.market == "spot":
        columns["M"] = repeat(True, len(found))
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
