"""The REST hosts of the three markets: request in, answer out, weight charged."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_provider_binance.simulator import depth, exchange_info, klines, rest_statistics, rest_trades
from airflow_provider_binance.simulator.accounts import Account, Accounts
from airflow_provider_binance.simulator.errors import ApiError, invalid_time_unit
from airflow_provider_binance.simulator.exchange import Exchange
from airflow_provider_binance.simulator.faults import Faults
from airflow_provider_binance.simulator.limits import POOL_OF_MARKET, Verdict, WeightLimiter, weight_of
from airflow_provider_binance.simulator.parameters import Parameters
from airflow_provider_binance.simulator.refusals import no_such_path
from airflow_provider_binance.simulator.wire import Answer, Request, error_answer

CONTENT_TYPE = {"spot": "application/json;charset=UTF-8", "um": "application/json", "cm": "application/json"}

# Hosts sit behind CloudFront.
CDN_HEADERS = {"X-Cache": "Miss from cloudfront", "Via": "1.1 simulator.cloudfront.net (CloudFront)"}
# Answers that are pages of rows.
PAGED = frozenset({"klines", "uiKlines", "trades", "historicalTrades", "aggTrades"})

_LIMIT = re.compile(r"(?:^|&)limit=([^&]*)")
_SYMBOL = re.compile(r"(?:^|&)symbol=[^&]")


@dataclass(frozen=True)
class Route:
    """What a path means; ``signed`` routes need key and signature, ``keyed`` ones a key, the others ignore both.

    ``pool`` is that of a route that has a count of its own in place of weight.
    """

    market: str
    endpoint: str
    signed: bool = False
    keyed: bool = False
    pool: str = ""


ROUTES = {
    "/api/v3/ping": Route("spot", "ping"),
    "/api/v3/time": Route("spot", "time"),
    "/api/v3/exchangeInfo": Route("spot", "exchangeInfo"),
    "/api/v3/klines": Route("spot", "klines"),
    "/api/v3/uiKlines": Route("spot", "uiKlines"),
    "/api/v3/trades": Route("spot", "trades"),
    "/api/v3/historicalTrades": Route("spot", "historicalTrades"),
    "/api/v3/aggTrades": Route("spot", "aggTrades"),
    "/api/v3/depth": Route("spot", "depth"),
    "/api/v3/account": Route("spot", "account", signed=True),
    "/sapi/v1/account/apiRestrictions": Route("spot", "apiRestrictions", signed=True),
    "/fapi/v1/ping": Route("um", "ping"),
    "/fapi/v1/time": Route("um", "time"),
    "/fapi/v1/exchangeInfo": Route("um", "exchangeInfo"),
    "/fapi/v1/klines": Route("um", "klines"),
    "/fapi/v1/trades": Route("um", "trades"),
    "/fapi/v1/historicalTrades": Route("um", "historicalTrades", keyed=True),
    "/fapi/v1/aggTrades": Route("um", "aggTrades"),
    "/fapi/v1/depth": Route("um", "depth"),
    "/fapi/v1/ticker/24hr": Route("um", "ticker/24hr"),
    "/fapi/v1/fundingInfo": Route("um", "fundingInfo", pool="funding"),
    "/futures/data/openInterestHist": Route("um", "openInterestHist", pool="statistics"),
    "/fapi/v2/account": Route("um", "account", signed=True),
    "/fapi/v3/account": Route("um", "account", signed=True),
    "/fapi/v2/balance": Route("um", "balance", signed=True),
    "/fapi/v3/balance": Route("um", "balance", signed=True),
    "/dapi/v1/ping": Route("cm", "ping"),
    "/dapi/v1/time": Route("cm", "time"),
    "/dapi/v1/exchangeInfo": Route("cm", "exchangeInfo"),
    "/dapi/v1/klines": Route("cm", "klines"),
    "/dapi/v1/trades": Route("cm", "trades"),
    "/dapi/v1/historicalTrades": Route("cm", "historicalTrades", keyed=True),
    "/dapi/v1/aggTrades": Route("cm", "aggTrades"),
    "/dapi/v1/depth": Route("cm", "depth"),
    "/dapi/v1/account": Route("cm", "account", signed=True),
    "/dapi/v1/balance": Route("cm", "balance", signed=True),
}


class RestService:
    """Answers REST requests of all markets."""

    def __init__(self, exchange: Exchange, limiter: WeightLimiter, accounts: Accounts, faults: Faults) -> None:
        self._exchange = exchange
        self._limiter = limiter
        self._accounts = accounts
        self._faults = faults
        self._handlers: dict[str, Callable[[Route, Request], Any]] = {
            "ping": lambda route, request: {},
            "time": self._time,
            "exchangeInfo": self._exchange_info,
            "klines": self._klines,
            "uiKlines": self._klines,
            "trades": self._trades,
            "historicalTrades": self._trades,
            "aggTrades": self._agg_trades,
            "depth": self._depth,
            "ticker/24hr": self._ticker,
            "fundingInfo": lambda route, request: rest_statistics.funding_info(self._exchange),
            "openInterestHist": self._open_interest_history,
            "account": self._account,
            "balance": self._balance,
            "apiRestrictions": self._api_restrictions,
        }

    def respond(self, request: Request) -> Answer:
        """Charge the request and answer it; refused requests cost as much as others."""
        route = ROUTES.get(request.path)
        if route is None or request.method != "GET":
            return no_such_path(request, CONTENT_TYPE["spot"])
        sent_limit = _LIMIT.search(request.query)
        has_symbol = _SYMBOL.search(request.query) is not None
        sent = sent_limit.group(1) if sent_limit else None
        weight = 0 if route.pool else weight_of(route.market, route.endpoint, sent, has_symbol=has_symbol)
        pool = POOL_OF_MARKET[route.market]
        now_ms = self._exchange.clock.now_ms()
        if route.pool:
            verdict = self._limiter.count(request.remote, route.pool, now_ms)
        else:
            verdict = self._limiter.charge(request.remote, pool, weight, now_ms)
        if verdict.status == 200:
            verdict = self._faults.verdict(request, self._limiter, pool, now_ms) or verdict
        content_type = CONTENT_TYPE[route.market]
        if verdict.status != 200:
            answer = error_answer(_refusal(verdict, route.market, request.remote), content_type)
        else:
            try:
                answer = self._answer(route, request, content_type)
            except ApiError as error:
                answer = error_answer(error, content_type)
        answer.weight = weight
        answer.headers |= CDN_HEADERS | {"x-mbx-uuid": str(uuid.uuid4())}
        if route.pool:
            return answer
        answer.used_weight = verdict.used_weight
        answer.headers["x-mbx-used-weight-1m"] = str(verdict.used_weight)
        if route.market == "spot":
            answer.headers["x-mbx-used-weight"] = str(verdict.used_weight)
        return answer

    def _answer(self, route: Route, request: Request, content_type: str) -> Answer:
        if route.keyed:
            self._accounts.identify(request)
        # A bad unit is refused on every route of spot.
        _wants_microseconds(route, request)
        payload = self._handlers[route.endpoint](route, request)
        if route.endpoint in PAGED:
            payload = self._faults.spoiled(payload, request)
        text = json.dumps(payload, separators=(",", ":"), ensure_ascii=False)
        return Answer(200, text.encode(), {"Content-Type": content_type})

    def _time(self, route: Route, request: Request) -> dict[str, int]:
        now_ms = self._exchange.clock.now_ms()
        return {"serverTime": now_ms * 1000 if _wants_microseconds(route, request) else now_ms}

    def _exchange_info(self, route: Route, request: Request) -> dict[str, Any]:
        weight_limit = self._limiter.announced(POOL_OF_MARKET[route.market])
        if route.market == "spot":
            info = exchange_info.spot_info(self._exchange, weight_limit, Parameters(request.query))
            if _wants_microseconds(route, request):
                info["serverTime"] *= 1000
            return info
        return exchange_info.futures_info(self._exchange, weight_limit, route.market)

    def _klines(self, route: Route, request: Request) -> list[Any]:
        in_microseconds = _wants_microseconds(route, request)
        query = klines.parse_query(self._exchange, route.market, Parameters(request.query))
        rows = klines.answer(self._exchange, route.market, query)
        return [klines.in_microseconds(row) for row in rows] if in_microseconds else rows

    def _trades(self, route: Route, request: Request) -> list[dict[str, Any]]:
        unit_us = 1 if _wants_microseconds(route, request) else 1000
        parameters = Parameters(request.query)
        return rest_trades.trades(self._exchange, route.market, route.endpoint, parameters, unit_us)

    def _agg_trades(self, route: Route, request: Request) -> list[dict[str, Any]]:
        unit_us = 1 if _wants_microseconds(route, request) else 1000
        return rest_trades.agg_trades(self._exchange, route.market, Parameters(request.query), unit_us)

    def _depth(self, route: Route, request: Request) -> dict[str, Any]:
        now_ms = self._exchange.clock.now_ms()
        return depth.answer(self._exchange, route.market, Parameters(request.query), now_ms)

    def _ticker(self, route: Route, request: Request) -> Any:
        return rest_statistics.ticker_24hr(self._exchange, Parameters(request.query))

    def _open_interest_history(self, route: Route, request: Request) -> list[dict[str, Any]]:
        return rest_statistics.open_interest_history(self._exchange, Parameters(request.query))

    def _authenticate(self, request: Request) -> Account:
        skew_ms = self._faults.number("clock-skew", request) or 0
        return self._accounts.authenticate(request, self._exchange.clock.now_ms() + int(skew_ms))

    def _account(self, route: Route, request: Request) -> dict[str, Any]:
        account = self._authenticate(request)
        if route.market != "spot":
            return {
                "feeTier": 0,
                "canTrade": account.may_trade,
                "canDeposit": True,
                "canWithdraw": account.may_withdraw,
                "updateTime": 0,
                "assets": [],
                "positions": [],
            }
        return {
            "makerCommission": 10,
            "takerCommission": 10,
            "buyerCommission": 0,
            "sellerCommission": 0,
            "canTrade": account.may_trade,
            "canWithdraw": account.may_withdraw,
            "canDeposit": True,
            "updateTime": self._exchange.clock.now_ms(),
            "accountType": "SPOT",
            "balances": [],
            "permissions": ["SPOT"],
        }

    def _balance(self, route: Route, request: Request) -> list[Any]:
        self._authenticate(request)
        return []

    def _api_restrictions(self, route: Route, request: Request) -> dict[str, Any]:
        account = self._authenticate(request)
        return {
            "ipRestrict": account.ip_restricted,
            "createTime": 1698645219000,
            "enableReading": True,
            "enableWithdrawals": account.may_withdraw,
            "enableInternalTransfer": False,
            "enableMargin": False,
            "enableFutures": account.may_trade,
            "permitsUniversalTransfer": False,
            "enableVanillaOptions": False,
            "enableFixApiTrade": False,
            "enableFixReadOnly": True,
            "enableSpotAndMarginTrading": account.may_trade,
            "enablePortfolioMarginTrading": False,
        }


def _wants_microseconds(route: Route, request: Request) -> bool:
    unit = request.header("X-MBX-TIME-UNIT")
    if route.market != "spot" or unit is None:
        return False
    if unit.upper() not in ("MICROSECOND", "MILLISECOND"):
        raise invalid_time_unit()
    return unit.upper() == "MICROSECOND"


def _refusal(verdict: Verdict, market: str, address: str) -> ApiError:
    retry_after = {"Retry-After": str(verdict.retry_after)}
    if verdict.status == 418:
        message = (
            f"Way too much request weight used; IP banned until {verdict.banned_until_ms}. "
            "Please use WebSocket Streams for live updates to avoid bans."
        )
        if market != "spot":
            message = f"Way too many requests; IP banned until {verdict.banned_until_ms}."
        return ApiError(418, -1003, message, retry_after)
    if market == "spot":
        message = (
            "Too much request weight used; current limit is 6000 request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API."
        )
    else:
        message = f"Too many requests; current limit of IP({address}) is 2400 requests per minute."
    return ApiError(429, -1003, message, retry_after)
