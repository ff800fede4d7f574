"""exchangeInfo in the shape of each market."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_binance.simulator.errors import (
    duplicate_symbols,
    invalid_combination,
    invalid_data,
    invalid_symbol,
    invalid_symbol_status,
)
from airflow_provider_binance.simulator.exchange import Exchange
from airflow_provider_binance.simulator.instruments import (
    PENDING_MS,
    PERPETUAL_DELIVERY_MS,
    SETTLING_MS,
    SPOT_STATUSES,
    Instrument,
)
from airflow_provider_binance.simulator.limits import RAW_REQUEST_LIMIT
from airflow_provider_binance.simulator.parameters import Parameters
from airflow_provider_binance.simulator.symbols import check_characters, find_symbol

SPOT_ORDER_TYPES = [
    "LIMIT",
    "LIMIT_MAKER",
    "MARKET",
    "STOP_LOSS",
    "STOP_LOSS_LIMIT",
    "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
]
FUTURES_ORDER_TYPES = [
    "LIMIT",
    "MARKET",
    "STOP",
    "STOP_MARKET",
    "TAKE_PROFIT",
    "TAKE_PROFIT_MARKET",
    "TRAILING_STOP_MARKET",
]
DEFAULT_PERMISSIONS = ("SPOT", "MARGIN", "LEVERAGED")


def spot_info(exchange: Exchange, weight_limit: int, parameters: Parameters) -> dict[str, Any]:
    """``/api/v3/exchangeInfo``.

    Raises:
        ApiError: an unknown symbol, or parameters that exclude each other.
    """
    one = parameters.optional("symbol")
    many = parameters.optional("symbols")
    permissions = parameters.optional("permissions")
    status = parameters.optional("symbolStatus")
    show_sets = parameters.optional("showPermissionSets") != "false"
    parameters.finish(strict=True)
    if sum(value is not None for value in (one, many, permissions)) > 1 or (status and (one or many)):
        raise invalid_combination("Combination of optional parameters invalid.")
    if status is not None and status not in SPOT_STATUSES:
        raise invalid_symbol_status("Invalid symbolStatus.")
    now_ms = exchange.clock.now_ms()
    if one is not None:
        instruments = [_checked(exchange, one)]
    elif many is not None:
        instruments = [_checked(exchange, symbol) for symbol in _symbol_list(many)]
    else:
        wanted = DEFAULT_PERMISSIONS if permissions is None else _permission_list(permissions)
        shown = [each for each in _of_market(exchange, "spot") if each.listed_ms <= now_ms]
        instruments = shown if "SPOT" in wanted else []
    symbols = [_spot_symbol(each, now_ms, show_sets=show_sets) for each in instruments]
    if status is not None:
        symbols = [symbol for symbol in symbols if symbol["status"] == status]
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": [
            _rate_limit("REQUEST_WEIGHT", "MINUTE", 1, weight_limit),
            _rate_limit("ORDERS", "SECOND", 10, 100),
            _rate_limit("ORDERS", "DAY", 1, 200_000),
            _rate_limit("RAW_REQUESTS", "MINUTE", 5, RAW_REQUEST_LIMIT),
        ],
        "exchangeFilters": [],
        "symbols": symbols,
    }


def futures_info(exchange: Exchange, weight_limit: int, market: str) -> dict[str, Any]:
    """``/fapi/v1/exchangeInfo`` or ``/dapi/v1/exchangeInfo``; contracts long delisted are absent."""
    now_ms = exchange.clock.now_ms()
    shown = [
        each
        for each in _of_market(exchange, market)
        if each.listed_ms - PENDING_MS <= now_ms
        and (each.delisted_ms is None or now_ms < each.delisted_ms + SETTLING_MS)
    ]
    info: dict[str, Any] = {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": [
            _rate_limit("REQUEST_WEIGHT", "MINUTE", 1, weight_limit),
            _rate_limit("ORDERS", "MINUTE", 1, 1200),
        ],
        "exchangeFilters": [],
        "symbols": [_futures_symbol(each, now_ms) for each in shown],
    }
    if market == "um":
        info["futuresType"] = "U_MARGINED"
        info["rateLimits"].append(_rate_limit("ORDERS", "SECOND", 10, 300))
        info["assets"] = [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}]
    return info


def _of_market(exchange: Exchange, market: str) -> list[Instrument]:
    return [each for each in exchange.instruments.values() if each.market == market]


def _checked(exchange: Exchange, symbol: str) -> Instrument:
    check_characters("spot", symbol)
    return find_symbol(exchange, "spot", symbol)


def _symbol_list(text: str) -> list[str]:
    try:
        symbols = json.loads(text)
    except ValueError:
        raise invalid_data("symbols") from None
    if not isinstance(symbols, list) or not symbols or not all(isinstance(each, str) for each in symbols):
        raise invalid_data("symbols")
    if len(set(symbols)) < len(symbols):
        raise duplicate_symbols()
    if any(not each for each in symbols):
        raise invalid_symbol()
    return symbols


def _permission_list(text: str) -> list[str]:
    if not text.startswith("["):
        return [text]
    try:
        return [str(each) for each in json.loads(text)]
    except ValueError:
        raise invalid_data("permissions") from None


def _rate_limit(kind: str, interval: str, number: int, limit: int) -> dict[str, Any]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


def _step(decimals: int) -> str:
    return f"{10**-decimals:.{decimals}f}"


def _spot_symbol(instrument: Instrument, now_ms: int, *, show_sets: bool) -> dict[str, Any]:
    tick = _step(instrument.price_decimals).ljust(10, "0") if instrument.price_decimals else "1.00000000"
    step = _step(instrument.quantity_decimals).ljust(10, "0") if instrument.quantity_decimals else "1.00000000"
    symbol: dict[str, Any] = {
        "symbol": instrument.symbol,
        "status": instrument.spot_status(now_ms),
        "baseAsset": instrument.base_asset,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote_asset,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": SPOT_ORDER_TYPES,
        "icebergAllowed": True,
        "ocoAllowed": True,
        "otoAllowed": True,
        "opoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "pegInstructionsAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000000.00000000", "stepSize": step},
        ],
        "permissions": [],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }
    if show_sets:
        symbol["permissionSets"] = [["SPOT"]]
    return symbol


def _futures_symbol(instrument: Instrument, now_ms: int) -> dict[str, Any]:
    if instrument.is_listed(now_ms):
        status = "TRADING"
    else:
        status = "PENDING_TRADING" if now_ms < instrument.listed_ms else "SETTLING"
    delivery_ms = PERPETUAL_DELIVERY_MS
    if instrument.delisted_ms is not None and (instrument.delivery_date or now_ms >= instrument.delisted_ms):
        delivery_ms = instrument.delisted_ms
    tick, step = _step(instrument.price_decimals), _step(instrument.quantity_decimals)
    coin = instrument.market == "cm"
    symbol: dict[str, Any] = {
        "symbol": instrument.symbol,
        "pair": instrument.pair,
        "contractType": _contract_type(instrument, now_ms),
        "deliveryDate": delivery_ms,
        "onboardDate": instrument.listed_ms,
        ("contractStatus" if coin else "status"): status,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": instrument.base_asset,
        "quoteAsset": instrument.quote_asset,
        "marginAsset": instrument.base_asset if coin else instrument.quote_asset,
        "pricePrecision": instrument.price_decimals,
        "quantityPrecision": instrument.quantity_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.015000",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": _futures_filters(tick, step, now_ms),
        "orderTypes": FUTURES_ORDER_TYPES,
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
    }
    if not coin:
        symbol["permissionSets"] = ["GRID", "COPY"]
    if coin:
        symbol |= {"contractSize": instrument.contract_size, "equalQtyPrecision": 4}
    return symbol


def _futures_filters(tick: str, step: str, now_ms: int) -> list[dict[str, Any]]:
    """The filters; their order is another from one backend node to the next, here from second to second."""
    filters: list[dict[str, Any]] = [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "1000000", "stepSize": step},
        {"filterType": "MARKET_LOT_SIZE", "minQty": step, "maxQty": "10000", "stepSize": step},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": "5"},
        {
            "filterType": "PERCENT_PRICE",
            "multiplierUp": "1.0500",
            "multiplierDown": "0.9500",
            "multiplierDecimal": "4",
        },
        {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
    ]
    first = now_ms // 1000 % len(filters)
    return filters[first:] + filters[:first]


def _contract_type(instrument: Instrument, now_ms: int) -> str:
    if instrument.delivery_date is None:
        return "PERPETUAL"
    # Two quarterlies trade at a time: the one that delivers within some 13 weeks is the current one.
    assert instrument.delisted_ms is not None
    return "CURRENT_QUARTER" if instrument.delisted_ms - now_ms < 92 * 86_400_000 else "NEXT_QUARTER"
