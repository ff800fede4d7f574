"""What each client makes of each case of the driver: the class of its exception, and the code that it found."""

from __future__ import annotations

from typing import Any

API = "BinanceAPIException"

CCXT: dict[str, list[Any]] = {
    "unknown symbol": ["BadSymbol", -1121],
    "unknown symbol on um": ["BadSymbol", -1121],
    "unknown interval": ["BadRequest", -1120],
    "limit too high on um": ["BadRequest", -1130],
    "old aggregates of um": ["ExchangeError", -4166],
    "over the limit": ["DDoSProtection", -1003],
    "banned": ["DDoSProtection", -1003],
    "firewall": ["ExchangeNotAvailable", None],
    "restricted location": ["ExchangeNotAvailable", 0],
    "not found": ["ExchangeError", -5000],
    "internal error": ["OperationFailed", -1001],
    "unavailable": ["OperationFailed", -1001],
    "throttled": ["ExchangeError", -1008],
    "timeout of the backend": ["RequestTimeout", -1007],
    # ccxt takes an HTML page with status 200 for a candle of nothing.
    "no JSON": ["answered", "[[None, None, None, None, None, None]]"],
    "connection reset": ["NetworkError", None],
    "wrong signature": ["AuthenticationError", -1022],
    "clock behind": ["InvalidNonce", -1021],
    "clock ahead": ["InvalidNonce", -1021],
    "unknown key": ["AuthenticationError", -2015],
    "malformed key": ["AuthenticationError", -2014],
}

ERRORS: dict[str, dict[str, list[Any]]] = {
    "python-binance": {
        "unknown symbol": [API, -1121],
        "unknown symbol on um": [API, -1121],
        "unknown interval": [API, -1120],
        "limit too high on um": [API, -1130],
        "old aggregates of um": [API, -4166],
        "over the limit": [API, -1003],
        "banned": [API, -1003],
        "firewall": [API, 0],
        "restricted location": [API, 0],
        "not found": [API, -5000],
        "internal error": [API, -1001],
        "unavailable": [API, -1001],
        "throttled": [API, -1008],
        "timeout of the backend": [API, -1007],
        "no JSON": ["BinanceRequestException", None],
        "connection reset": ["ConnectionError", None],
        "wrong signature": [API, -1022],
        "clock behind": [API, -1021],
        "clock ahead": [API, -1021],
        "unknown key": [API, -2015],
        "malformed key": [API, -2014],
    },
    "python-binance-async": {
        "unknown symbol": [API, -1121],
        "unknown symbol on um": [API, -1121],
        "unknown interval": [API, -1120],
        "limit too high on um": [API, -1130],
        "old aggregates of um": [API, -4166],
        "over the limit": [API, -1003],
        "banned": [API, -1003],
        "firewall": [API, 0],
        "restricted location": [API, 0],
        "not found": [API, -5000],
        "internal error": [API, -1001],
        "unavailable": [API, -1001],
        "throttled": [API, -1008],
        "timeout of the backend": [API, -1007],
        "unknown key": [API, -2015],
        "malformed key": [API, -2014],
        # aiohttp's own: the client asks it for JSON and leaves the rest to it.
        "no JSON": ["ContentTypeError", 200],
        "connection reset": ["ClientOSError", None],
        "wrong signature": [API, -1022],
        "clock behind": [API, -1021],
        "clock ahead": [API, -1021],
    },
    # The code, and the seconds of Retry-After.
    "official": {
        "unknown symbol": ["BadRequestError", [-1121, None]],
        "unknown symbol on um": ["BadRequestError", [-1121, None]],
        "unknown interval": ["BadRequestError", [-1120, None]],
        "limit too high on um": ["BadRequestError", [-1130, None]],
        "old aggregates of um": ["BadRequestError", [-4166, None]],
        "over the limit": ["TooManyRequestsError", [-1003, 30]],
        "banned": ["RateLimitBanError", [-1003, 90]],
        "firewall": ["ForbiddenError", [None, None]],
        # It has no class for 451.
        "restricted location": ["ClientError", [None, None]],
        "not found": ["NotFoundError", [-5000, None]],
        "internal error": ["ServerError", [500, None]],
        "unavailable": ["ServerError", [503, None]],
        "throttled": ["ServerError", [503, None]],
        # Nor one for 408.
        "timeout of the backend": ["ClientError", [None, None]],
        "no JSON": ["JSONDecodeError", [None, None]],
        "connection reset": ["NetworkError", [None, None]],
        "wrong signature": ["BadRequestError", [-1022, None]],
        "clock behind": ["BadRequestError", [-1021, None]],
        "clock ahead": ["BadRequestError", [-1021, None]],
        "unknown key": ["UnauthorizedError", [-2015, None]],
        "malformed key": ["UnauthorizedError", [-2014, None]],
    },
    "ccxt": CCXT,
    # It hands a page that is no JSON over as text, and takes a reset for an exchange that is not there.
    "ccxt-async": CCXT
    | {
        "no JSON": ["answered", "'<!DOCTYPE html><html><body>Binance is under maintenance.</body></html>'"],
        "connection reset": ["ExchangeNotAvailable", None],
    },
}
