"""REST of um that sums a market up, where it was measured to differ from its documentation.

The ticker of all symbols shows only those that trade, ``fundingInfo`` has the perpetuals of both futures markets, and
``openInterestHist`` takes more rows than documented, labels periods by their end, and gives the newest of them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from airflow_provider_binance.simulator.errors import illegal_characters, invalid_data, start_after_end
from airflow_provider_binance.simulator.exchange import Exchange
from airflow_provider_binance.simulator.instruments import Instrument
from airflow_provider_binance.simulator.intervals import DAY_MS, LENGTH_MS, MINUTE_MS
from airflow_provider_binance.simulator.noise import Noise
from airflow_provider_binance.simulator.parameters import Parameters
from airflow_provider_binance.simulator.symbols import check_characters, find_symbol, symbol_parameter

PERIODS = ("5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d")
# Documented are at most 500; 501 were answered, so that nothing is cut off here.
DEFAULT_ROWS = 30
OLDEST_DAYS = 30
# Between the end of a period and its row.
PUBLISHED_AFTER_MS = 100_000
SALT_INTEREST = 90
LEAST_INTEREST, INTEREST_CHOICES = 50_000_000, 5_000_000
FUNDING_HOURS = 8


def ticker_24hr(exchange: Exchange, parameters: Parameters) -> dict[str, Any] | list[dict[str, Any]]:
    """The last 24 hours of one symbol, or of all that trade.

    Raises:
        ApiError: as Binance refuses it.
    """
    symbol = parameters.optional("symbol")
    now_ms = exchange.clock.now_ms()
    if symbol is not None:
        check_characters("um", symbol)
        return _ticker(exchange, find_symbol(exchange, "um", symbol.upper()), now_ms)
    trading = [each for each in exchange.instruments.values() if each.market == "um" and each.is_listed(now_ms)]
    return [_ticker(exchange, each, now_ms) for each in trading]


def _ticker(exchange: Exchange, instrument: Instrument, now_ms: int) -> dict[str, Any]:
    first_ms = (now_ms // MINUTE_MS - 24 * 60 + 1) * MINUTE_MS
    rows = exchange.rows("um", instrument.symbol, "1m", first_ms, now_ms, as_of_ms=now_ms, source="rest")
    zero = Decimal(0)
    opened, last = (Decimal(rows[0][1]), Decimal(rows[-1][4])) if rows else (zero, zero)
    volume, quote = (sum((Decimal(row[slot]) for row in rows), zero) for slot in (5, 7))
    ticks = exchange.ticks(instrument)
    ids, last_quantity = (0, 0), zero
    if ticks is not None and rows:
        stop = ticks.trades_until(now_ms * 1000 + 999)
        newest = ticks.trades(stop - 1, stop)
        oldest = ticks.trades_until(first_ms * 1000 - 1)
        ids = int(ticks.ids(ticks.trades(oldest, oldest + 1).ordinal)[0]), int(ticks.ids(newest.ordinal)[0])
        last_quantity = Decimal(int(newest.lots[0])).scaleb(-instrument.quantity_decimals)
    price = Decimal(1).scaleb(-instrument.price_decimals)
    return {
        "symbol": instrument.symbol,
        "priceChange": f"{last - opened}",
        "priceChangePercent": f"{(last - opened) / opened * 100 if opened else zero:.3f}",
        "weightedAvgPrice": f"{(quote / volume if volume else zero).quantize(price)}",
        "lastPrice": f"{last}",
        "lastQty": f"{last_quantity}",
        "openPrice": f"{opened}",
        "highPrice": f"{max((Decimal(row[2]) for row in rows), default=zero)}",
        "lowPrice": f"{min((Decimal(row[3]) for row in rows), default=zero)}",
        "volume": f"{volume}",
        "quoteVolume": f"{quote}",
        "openTime": first_ms,
        "closeTime": now_ms,
        "firstId": ids[0],
        "lastId": ids[1],
        "count": sum(row[8] for row in rows),
    }


def funding_info(exchange: Exchange) -> list[dict[str, Any]]:
    """The perpetuals that trade, those of cm too."""
    now_ms = exchange.clock.now_ms()
    return [
        {
            "symbol": each.symbol,
            "adjustedFundingRateCap": "0.03000000",
            "adjustedFundingRateFloor": "-0.03000000",
            "fundingIntervalHours": FUNDING_HOURS,
            "disclaimer": False,
            "updateTime": None,
        }
        for each in exchange.instruments.values()
        if each.market != "spot" and each.delivery_date is None and each.is_listed(now_ms)
    ]


def open_interest_history(exchange: Exchange, parameters: Parameters) -> list[dict[str, Any]]:
    """The newest rows of a window of the last 30 days, ascending.

    Raises:
        ApiError: as Binance refuses it.
    """
    symbol = symbol_parameter("um", parameters)
    period = parameters.mandatory("period")
    limit = parameters.integer("limit")
    start_ms, end_ms = parameters.integer("startTime"), parameters.integer("endTime")
    instrument = find_symbol(exchange, "um", symbol)
    if period not in PERIODS:
        raise illegal_characters("period", "^(" + "|".join(PERIODS) + ")$")
    if limit == 0:
        raise invalid_data("limit")
    now_ms = exchange.clock.now_ms()
    if start_ms is not None and start_ms < now_ms - OLDEST_DAYS * DAY_MS:
        raise invalid_data("startTime")
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise start_after_end()
    step = LENGTH_MS[period]
    # Rows are asked for by their label, which is the end of the period.
    first_ms = (now_ms - OLDEST_DAYS * DAY_MS if start_ms is None else start_ms) - step
    last_ms = min(now_ms - PUBLISHED_AFTER_MS, now_ms if end_ms is None else end_ms) - step
    rows = exchange.rows("um", instrument.symbol, period, first_ms, last_ms, as_of_ms=now_ms, source="rest")
    traded = [row for row in rows if row[8]][-(limit or DEFAULT_ROWS) :]
    labels = np.array([row[0] + step for row in traded], dtype=np.int64)
    lots = LEAST_INTEREST + Noise(exchange.seed, "um", instrument.symbol).pick(SALT_INTEREST, labels, INTEREST_CHOICES)
    return [
        _interest(instrument, label_ms, row[4], open_lots)
        for label_ms, row, open_lots in zip(labels.tolist(), traded, lots.tolist(), strict=True)
    ]


def _interest(instrument: Instrument, label_ms: int, price: str, lots: int) -> dict[str, Any]:
    amount = Decimal(lots).scaleb(-instrument.quantity_decimals)
    return {
        "symbol": instrument.symbol,
        "sumOpenInterest": f"{amount:.8f}",
        "sumOpenInterestValue": f"{amount * Decimal(price):.8f}",
        "CMCCirculatingSupply": "0.00000000",
        "timestamp": label_ms,
    }
