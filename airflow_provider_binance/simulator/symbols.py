"""Which symbol a request means, as each host reads it."""

from __future__ import annotations

import re

from airflow_provider_binance.simulator.errors import illegal_characters, invalid_symbol, invalid_symbol_status
from airflow_provider_binance.simulator.exchange import Exchange
from airflow_provider_binance.simulator.instruments import Instrument
from airflow_provider_binance.simulator.parameters import Parameters

SPOT_SYMBOL = r"^[\w\-._&&[^a-z]]{1,50}$"
FUTURES_SYMBOL = r"^[\w\-]{1,50}$"


def symbol_parameter(host: str, parameters: Parameters) -> str:
    """The parameter ``symbol``; futures take lower case, spot does not.

    Raises:
        ApiError: missing, or illegal characters.
    """
    symbol = parameters.mandatory("symbol")
    check_characters(host, symbol)
    return symbol if host == "spot" else symbol.upper()


def check_characters(host: str, symbol: str) -> None:
    """Refuse what cannot be a symbol on that host.

    Raises:
        ApiError: illegal characters.
    """
    if host == "spot":
        if re.search(r"[a-z]", symbol) or not re.fullmatch(r"[\w\-.]{1,50}", symbol):
            raise illegal_characters("symbol", SPOT_SYMBOL)
    elif not re.fullmatch(r"[\w\-]{1,50}", symbol):
        raise illegal_characters("symbol", FUTURES_SYMBOL)


def find_symbol(exchange: Exchange, host: str, symbol: str, *, either_market: bool = False) -> Instrument:
    """The instrument that may be asked of; with ``either_market`` a futures host knows the other's symbols, too.

    Raises:
        ApiError: an unknown symbol, or a futures symbol that does not trade now.
    """
    instrument = exchange.find(host, symbol, either_market=either_market)
    now_ms = exchange.clock.now_ms()
    if instrument is None or (host == "spot" and now_ms < instrument.listed_ms):
        raise invalid_symbol()
    if host != "spot" and not instrument.is_listed(now_ms):
        raise invalid_symbol_status()
    return instrument
