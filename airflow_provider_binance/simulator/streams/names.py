"""Stream names: what each of them asks for, and which of them a market has."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_provider_binance.simulator.intervals import HOUR_MS, INTERVALS

AGG_TRADE, TRADE, KLINE = "aggTrade", "trade", "kline"
BOOK_TICKER, DEPTH, PARTIAL_DEPTH = "bookTicker", "depth", "partialDepth"
MARK_PRICE, FORCE_ORDER = "markPrice", "forceOrder"

# What um carries under /public; all other streams are under /market. Single trades, which only recordings have there,
# were reported under /public.
PUBLIC = re.compile(r"!bookTicker|[^@]+@(?:bookTicker|trade|depth.*)")
# Since June 2026 either futures host takes the other's symbols for these.
CROSS_MARKET = frozenset({KLINE, MARK_PRICE})
# Streams without a parameter.
PLAIN = {
    "spot": frozenset({AGG_TRADE, TRADE, BOOK_TICKER}),
    "um": frozenset({AGG_TRADE, BOOK_TICKER, FORCE_ORDER}),
    "cm": frozenset({AGG_TRADE, BOOK_TICKER, FORCE_ORDER}),
}

# Milliseconds between two events of a depth stream: without a suffix, and with one. Any other suffix stays silent.
DEPTH_STEPS = {
    "spot": {None: 1000, "100ms": 100},
    "um": {None: 250, "100ms": 100, "500ms": 500},
    "cm": {None: 250, "100ms": 100, "500ms": 500},
}
MARK_STEPS = {None: 3000, "1s": 1000}
# How often the best prices of all symbols come: cm sends each of them when it changes.
ALL_BOOK_TICKERS_MS = {"um": 5000, "cm": 0}

_KLINE = re.compile(r"kline_(\w+?)(@\+08:00)?")
_DEPTH = re.compile(r"depth(5|10|20)?(?:@(\w+))?")
_MARK = re.compile(r"markPrice(?:@(\w+))?")
_ALL = re.compile(r"!(?:markPrice@arr(?:@(?P<speed>\w+))?|(?P<orders>forceOrder@arr)|(?P<books>bookTicker))")


@dataclass(frozen=True)
class StreamName:
    """A stream that the market has; ``symbol`` None means all symbols. ``step_ms`` lies between two events."""

    kind: str
    symbol: str | None
    step_ms: int = 0
    interval: str = ""
    zone_ms: int = 0
    levels: int = 0


def is_public(text: str) -> bool:
    """Whether um carries a stream of that name under ``/public``."""
    return PUBLIC.fullmatch(text) is not None


def parse(market: str, text: str) -> StreamName | None:
    """What a stream name asks for; None for one that is acknowledged and stays silent."""
    if text.startswith("!"):
        return _all_symbols(market, text)
    target, _, kind = text.partition("@")
    # The symbol must be in lower case; letters without case are as they are.
    if not target or target != target.lower():
        return None
    return _one_symbol(market, target.upper(), kind)


def _one_symbol(market: str, symbol: str, kind: str) -> StreamName | None:
    spot = market == "spot"
    if kind in PLAIN[market]:
        return StreamName(kind, symbol)
    if match := _KLINE.fullmatch(kind):
        interval, zone = match.groups()
        if interval not in INTERVALS or (not spot and (interval == "1s" or zone)):
            return None
        return StreamName(KLINE, symbol, 2000 if spot else 250, interval, 8 * HOUR_MS if zone else 0)
    if match := _DEPTH.fullmatch(kind):
        levels, speed = match.groups()
        step_ms = DEPTH_STEPS[market].get(speed)
        if step_ms is None:
            return None
        return StreamName(PARTIAL_DEPTH if levels else DEPTH, symbol, step_ms, levels=int(levels or 0))
    match = None if spot else _MARK.fullmatch(kind)
    step_ms = MARK_STEPS.get(match[1]) if match else None
    return None if step_ms is None else StreamName(MARK_PRICE, symbol, step_ms)


def _all_symbols(market: str, text: str) -> StreamName | None:
    match = None if market == "spot" else _ALL.fullmatch(text)
    if match is None:
        return None
    if match["orders"]:
        return StreamName(FORCE_ORDER, None)
    if match["books"]:
        return StreamName(BOOK_TICKER, None, ALL_BOOK_TICKERS_MS[market])
    step_ms = MARK_STEPS.get(match["speed"])
    return None if step_ms is None else StreamName(MARK_PRICE, None, step_ms)
