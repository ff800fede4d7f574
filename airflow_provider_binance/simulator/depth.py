"""REST depth: the book as each host shows it."""

from __future__ import annotations

from typing import Any

import numpy as np

from airflow_provider_binance.simulator.errors import (
    invalid_data,
    invalid_depth_limit,
    invalid_symbol_status,
    other_symbol_status,
)
from airflow_provider_binance.simulator.exchange import Exchange
from airflow_provider_binance.simulator.instruments import SPOT_STATUSES, Instrument
from airflow_provider_binance.simulator.parameters import Parameters
from airflow_provider_binance.simulator.rest_trades import price_texts, quantity_texts
from airflow_provider_binance.simulator.symbols import find_symbol, symbol_parameter

SPOT_DEFAULT, SPOT_HIGHEST = 100, 5000
FUTURES_DEFAULT = 500
FUTURES_LIMITS = (5, 10, 20, 50, 100, 500, 1000)


def answer(exchange: Exchange, host: str, parameters: Parameters, now_ms: int) -> dict[str, Any]:
    """The answer of ``depth``: best levels first.

    Raises:
        ApiError: as Binance refuses it.
    """
    symbol = symbol_parameter(host, parameters)
    if host == "spot":
        limit = parameters.limit(SPOT_DEFAULT, SPOT_HIGHEST, capped=True)
        status = parameters.optional("symbolStatus")
        parameters.finish(strict=True)
        if status is not None and status not in SPOT_STATUSES:
            raise invalid_symbol_status("Invalid symbolStatus.")
        instrument = find_symbol(exchange, host, symbol)
        if status is not None and status != instrument.spot_status(now_ms):
            raise other_symbol_status()
        return _book(exchange, instrument, limit, now_ms)
    asked = parameters.integer("limit")
    parameters.finish(strict=False)
    instrument = find_symbol(exchange, host, symbol)
    limit = FUTURES_DEFAULT if asked is None else asked
    if limit > FUTURES_LIMITS[-1]:
        raise invalid_data("limit")
    if limit not in FUTURES_LIMITS:
        raise invalid_depth_limit(limit)
    book = _book(exchange, instrument, limit, now_ms)
    levels = {"bids": book.pop("bids"), "asks": book.pop("asks")}
    names = {"symbol": instrument.symbol, "pair": instrument.pair} if host == "cm" else {}
    # A recorded book has times of its own.
    times = {"E": now_ms, "T": now_ms // 100 * 100}
    return {"lastUpdateId": book.pop("lastUpdateId")} | names | times | book | levels


def _book(exchange: Exchange, instrument: Instrument, limit: int, now_ms: int) -> dict[str, Any]:
    if exchange.recordings is not None and exchange.is_recorded(instrument):
        recorded = exchange.recordings.streams.book(instrument.market, instrument.symbol, now_ms * 1000)
        if recorded is not None:
            return recorded | {side: recorded[side][:limit] for side in ("bids", "asks")}
    book = exchange.book(instrument)
    if book is None or not instrument.is_listed(now_ms):
        return {"lastUpdateId": 0 if book is None else book.update_id(0), "bids": [], "asks": []}
    picture = book.picture(now_ms * 1000, limit)
    sides = {"bids": picture.bids, "asks": picture.asks}
    return {"lastUpdateId": picture.last_update_id} | {
        name: _levels(instrument, levels) for name, levels in sides.items()
    }


def _levels(instrument: Instrument, levels: list[tuple[int, int]]) -> list[list[str]]:
    if not levels:
        return []
    prices, lots = np.array(levels, dtype=np.int64).T
    return [list(pair) for pair in zip(price_texts(instrument, prices), quantity_texts(instrument, lots), strict=True)]
