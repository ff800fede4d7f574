"""What a request costs, in which pool, and whether it needs the API key: a table of routes.

Weights are the higher of documented and measured ones: documentation and measurement differ by one at the edges of the
kline bands (limit 100 is 2 in one and 1 in the other), and refused requests cost like answered ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from airflow_provider_binance.rest.pools import Pool

# Spot also counts raw requests (300,000 in 5 minutes). No pool for it: each spot request weighs at least 1, so 6,000 a
# minute are at most 30,000 in 5.
SPOT = Pool("spot", 6000)
FUTURES = Pool("futures", 2400)  # um and cm share one counter
FUNDING = Pool("futures_funding", 500, 300_000)
FUTURES_DATA = Pool("futures_data", 1000, 300_000)
SAPI = Pool("sapi", 12_000)
OPTIONS = Pool("options", 400)
OTHER = Pool("other", 1200)
# Attempts to connect a websocket: 300 in any five minutes. Five minutes touch three of these windows at most. For
# futures no limit is documented; more than spot's is not tried.
SPOT_CONNECTIONS = Pool("spot_connections", 100, 150_000)
FUTURES_CONNECTIONS = Pool("futures_connections", 100, 150_000)

# Charged for a route that the table lacks: as much as the dearest of the common ones, so that guessing never bans.
UNKNOWN_WEIGHT = 20

Parameters = Mapping[str, str]
Weight = int | Callable[[Parameters], int]


@dataclass(frozen=True, slots=True)
class Charge:
    """The price of a request."""

    pool: Pool
    weight: int
    needs_key: bool


def _bands(*bands: tuple[int, int], above: int, missing: int) -> Callable[[Parameters], int]:
    """A weight by `limit`: `(highest limit, weight)` ascending, `above` them all, and `missing` without limit."""

    def weight(parameters: Parameters) -> int:
        text = parameters.get("limit", "")
        if not text:
            return missing
        if not (text.isascii() and text.isdigit()):
            return max(missing, above)
        return next((cost for top, cost in bands if int(text) <= top), above)

    return weight


def _by_symbol(one: int, all_: int) -> Callable[[Parameters], int]:
    """A weight with `symbol` (or cm's `pair`), and one for all symbols at once."""
    return lambda parameters: one if parameters.get("symbol") or parameters.get("pair") else all_


def _symbol_count(parameters: Parameters) -> int:
    """How many symbols `symbol` or the JSON list `symbols` names; 0 if neither is there."""
    if parameters.get("symbol"):
        return 1
    text = parameters.get("symbols", "")
    try:
        listed = json.loads(text) if text else []
    except ValueError:
        return text.count(",") + 1
    return len(listed) if isinstance(listed, list) else 1


def _spot_24hr(parameters: Parameters) -> int:
    count = _symbol_count(parameters)
    if count == 0 or count > 100:
        return 80
    return 2 if count <= 20 else 40


def _per_symbol(each: int, most: int, without: int) -> Callable[[Parameters], int]:
    return lambda parameters: min(each * _symbol_count(parameters), most) or without


def _spot_one(one: int, several: int) -> Callable[[Parameters], int]:
    return lambda parameters: one if parameters.get("symbol") else several


_FUTURES_KLINES = _bands((99, 1), (499, 2), (1000, 5), above=10, missing=5)
_FUTURES_DEPTH = _bands((50, 2), (100, 5), (500, 10), above=20, missing=10)

_SPOT_ROUTES: dict[str, Weight] = {
    "ping": 1, "time": 1, "exchangeInfo": 20, "trades": 25, "historicalTrades": 25, "historicalBlockTrades": 25,
    "depth": _bands((100, 5), (500, 25), (1000, 50), above=250, missing=5),
    "aggTrades": 4, "klines": 2, "uiKlines": 2, "avgPrice": 2, "ticker/24hr": _spot_24hr,
    "ticker/tradingDay": _per_symbol(4, 200, 200), "ticker": _per_symbol(4, 200, 200),
    "ticker/price": _spot_one(2, 4), "ticker/bookTicker": _spot_one(2, 4),
    "referencePrice": 2, "referencePrice/calculation": 2, "executionRules": _per_symbol(2, 40, 40),
    "account": 20, "account/commission": 20, "myTrades": 20, "allOrders": 20, "rateLimit/order": 40,
    "order": 4, "openOrders": _spot_one(6, 80), "userDataStream": 2,
}  # fmt: skip
_FUTURES_ROUTES: dict[str, Weight] = {
    "ping": 1, "time": 1, "exchangeInfo": 1, "depth": _FUTURES_DEPTH, "rpiDepth": 20, "trades": 5,
    "historicalTrades": 200, "aggTrades": 20, "klines": _FUTURES_KLINES, "continuousKlines": _FUTURES_KLINES,
    "indexPriceKlines": _FUTURES_KLINES, "markPriceKlines": _FUTURES_KLINES, "premiumIndexKlines": _FUTURES_KLINES,
    "premiumIndex": _by_symbol(1, 10), "fundingRate": 1, "fundingInfo": 1, "ticker/24hr": _by_symbol(1, 40),
    "ticker/price": _by_symbol(1, 2), "ticker/bookTicker": _by_symbol(2, 5), "openInterest": 1, "indexInfo": 1,
    "assetIndex": _by_symbol(1, 10), "constituents": 2, "insuranceBalance": 1, "symbolAdlRisk": 1,
    "tradingSchedule": 5, "account": 5, "balance": 5, "positionRisk": 5, "userTrades": 20, "income": 30,
    "order": 1, "openOrders": _by_symbol(1, 40), "allOrders": 20, "forceOrders": _by_symbol(20, 50), "listenKey": 1,
}  # fmt: skip
_CM_ROUTES: dict[str, Weight] = {**_FUTURES_ROUTES, "premiumIndex": 10}
_SAPI_ROUTES: dict[str, Weight] = {"account/apiRestrictions": 1, "system/status": 1}

_ROUTE = re.compile(r"/(?P<api>api|fapi|dapi|sapi|eapi|papi)/v\d+/(?P<route>[^?#]*)$")
_DATA_ROUTE = re.compile(r"/futures/data/[^?#]+$")
# Routes that want the key without a signature. All others of these APIs either are signed or are public.
_KEY_ROUTES = {
    "api": frozenset({"userDataStream"}),
    "fapi": frozenset({"historicalTrades", "listenKey"}),
    "dapi": frozenset({"historicalTrades", "listenKey"}),
}


def charge(path: str, parameters: Parameters, *, is_cm_host: bool = False) -> Charge:
    """The price of a request to `path` (any prefix is allowed before `/api/v3/…`).

    `is_cm_host` tells the two `/futures/data/` apart, which only their hosts do.
    """
    signed = "signature" in parameters
    if _DATA_ROUTE.search(path):
        return Charge(FUTURES if is_cm_host else FUTURES_DATA, 1, signed)
    match = _ROUTE.search(path)
    if match is None:
        return Charge(OTHER, UNKNOWN_WEIGHT, signed)
    api, route = match["api"], match["route"].rstrip("/")
    needs_key = signed or route in _KEY_ROUTES.get(api, ())
    if api == "api":
        return Charge(SPOT, _weight(_SPOT_ROUTES, route, parameters), needs_key)
    if api == "fapi":
        if route in {"fundingRate", "fundingInfo"}:
            return Charge(FUNDING, 1, needs_key)
        return Charge(FUTURES, _weight(_FUTURES_ROUTES, route, parameters), needs_key)
    if api == "dapi":
        return Charge(FUTURES, _weight(_CM_ROUTES, route, parameters), needs_key)
    # Many of these want the key though they are not signed, and none is public market data of this package.
    return Charge({"sapi": SAPI, "eapi": OPTIONS}.get(api, OTHER), _weight(_SAPI_ROUTES, route, parameters), True)


def pool_of(path: str, *, is_cm_host: bool = False) -> Pool:
    """The pool that a request to `path` is counted in."""
    return charge(path, {}, is_cm_host=is_cm_host).pool


def _weight(routes: Mapping[str, Weight], route: str, parameters: Parameters) -> int:
    weight = routes.get(route, UNKNOWN_WEIGHT)
    return weight if isinstance(weight, int) else weight(parameters)
