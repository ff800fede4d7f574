"""REST klines: which parameters each host takes, and which window of rows it answers with."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_provider_binance.simulator.candles import Row
from airflow_provider_binance.simulator.errors import (
    invalid_data,
    invalid_interval,
    start_after_end,
    window_too_big,
)
from airflow_provider_binance.simulator.exchange import Exchange
from airflow_provider_binance.simulator.instruments import Instrument
from airflow_provider_binance.simulator.intervals import DAY_MS, HOUR_MS, INTERVALS, MINUTE_MS
from airflow_provider_binance.simulator.parameters import Parameters
from airflow_provider_binance.simulator.symbols import find_symbol, symbol_parameter

DEFAULT_LIMIT = 500
HIGHEST_LIMIT = {"spot": 1000, "um": 1500, "cm": 1500}
LONGEST_CM_WINDOW_MS = 200 * DAY_MS
# Later than any open time.
END_OF_TIME_MS = 10**14

TIME_ZONE = re.compile(r"([+-]?)(\d{1,2})(?::([0-5]\d))?")
EARLIEST_ZONE_MS, LATEST_ZONE_MS = -12 * HOUR_MS, 14 * HOUR_MS


@dataclass(frozen=True)
class KlineQuery:
    """A kline request that passed all checks; missing times are None."""

    instrument: Instrument
    interval: str
    start_ms: int | None
    end_ms: int | None
    limit: int
    zone_ms: int = 0


def parse_query(exchange: Exchange, host: str, parameters: Parameters) -> KlineQuery:
    """Check the parameters of a kline request as ``host`` does.

    Raises:
        ApiError: as Binance refuses it.
    """
    spot = host == "spot"
    symbol = symbol_parameter(host, parameters)
    interval = parameters.mandatory("interval")
    start_ms = parameters.time("startTime", round_up=True, microseconds=spot)
    end_ms = parameters.time("endTime", round_up=False, microseconds=spot)
    limit = parameters.limit(DEFAULT_LIMIT, HIGHEST_LIMIT[host], capped=spot)
    zone = parameters.optional("timeZone") if spot else None
    parameters.finish(strict=spot)
    instrument = find_symbol(exchange, host, symbol, either_market=True)
    if interval not in INTERVALS or (interval == "1s" and not spot):
        raise invalid_interval()
    zone_ms = 0 if zone is None else _offset(zone)
    # Recordings have the grid of UTC only; a clear refusal is better than rows of another one.
    if zone_ms and exchange.is_recorded(instrument):
        raise invalid_data("timeZone")
    return KlineQuery(instrument, interval, start_ms, end_ms, limit, zone_ms)


def _offset(zone: str) -> int:
    """Milliseconds that a ``timeZone`` is ahead of UTC; candles open on its hours and days, times stay UTC."""
    match = TIME_ZONE.fullmatch(zone)
    if match is None:
        raise invalid_data("timeZone")
    sign, hours, minutes = match.groups()
    offset_ms = int(hours) * HOUR_MS + int(minutes or 0) * MINUTE_MS
    offset_ms = -offset_ms if sign == "-" else offset_ms
    if not EARLIEST_ZONE_MS <= offset_ms <= LATEST_ZONE_MS:
        raise invalid_data("timeZone")
    return offset_ms


def answer(exchange: Exchange, host: str, query: KlineQuery) -> list[Row]:
    """The rows of the window that ``host`` looks at, ascending by open time.

    Raises:
        ApiError: a window that the host refuses.
    """
    if host == "cm":
        return _newest_of_window(exchange, query)
    start_ms, end_ms = query.start_ms, query.end_ms
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        if host == "spot":
            return []
        raise start_after_end()
    return _page(
        exchange,
        query,
        0 if start_ms is None else start_ms,
        END_OF_TIME_MS if end_ms is None else end_ms,
        newest=start_ms is None,
    )


def _newest_of_window(exchange: Exchange, query: KlineQuery) -> list[Row]:
    """dapi's rule: a window of at most 200 days, and of it always the newest rows."""
    start_ms, end_ms = query.start_ms, query.end_ms
    if start_ms is None and end_ms is None:
        return _page(exchange, query, 0, END_OF_TIME_MS, newest=True)
    if start_ms is None:
        assert end_ms is not None
        start_ms = end_ms - LONGEST_CM_WINDOW_MS
    elif end_ms is None:
        end_ms = min(start_ms + LONGEST_CM_WINDOW_MS, exchange.clock.now_ms())
    elif start_ms > end_ms:
        raise start_after_end()
    if end_ms - start_ms > LONGEST_CM_WINDOW_MS:
        raise window_too_big()
    return _page(exchange, query, start_ms, end_ms, newest=True)


def _page(exchange: Exchange, query: KlineQuery, start_ms: int, end_ms: int, *, newest: bool) -> list[Row]:
    instrument = query.instrument
    return exchange.page(
        instrument.market,
        instrument.symbol,
        query.interval,
        start_ms,
        end_ms,
        query.limit,
        newest=newest,
        zone_ms=query.zone_ms,
    )


def in_microseconds(row: Row) -> Row:
    """A row as spot prints it when asked for microseconds: the close is the last included microsecond."""
    return (row[0] * 1000, *row[1:6], row[6] * 1000 + 999, *row[7:])
