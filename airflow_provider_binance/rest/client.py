"""`BinanceRest`: the three markets' REST APIs behind one retry loop, one error map and the weight budget."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote, urlencode

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import (
    BinanceError,
    ClockSkewError,
    InputError,
    MalformedResponseError,
)
from airflow_provider_binance.market import Market
from airflow_provider_binance.rest import costs, failures, pages
from airflow_provider_binance.rest.accounts import AccountRights, check_account
from airflow_provider_binance.rest.budget_stores import BudgetStore, open_budget_store
from airflow_provider_binance.rest.clock import ServerClock
from airflow_provider_binance.rest.credentials import KeyRing
from airflow_provider_binance.rest.info import parse_info
from airflow_provider_binance.rest.meter import Meter, measured
from airflow_provider_binance.rest.pools import Priority
from airflow_provider_binance.rest.turnstile import Turnstile, Waiter

if TYPE_CHECKING:
    import requests

    from airflow_provider_binance.rest.metered import MeteredClient

log = logging.getLogger(__name__)

EXCHANGE_INFO_SECONDS = 3600.0
# A first candle does not change; the cache is only cleaned by age.
FIRST_KLINE_SECONDS = 30 * 86_400.0
RECV_WINDOW_MS = 5000
#: Says that a request is to be signed: the session does it, when the request goes.
UNSIGNED = "unsigned"

#: Asks spot for times in microseconds; it is said with the request, and others of the session stay as they are.
_FINE = {"X-MBX-TIME-UNIT": "MICROSECOND"}
_PREFIX = {Market.SPOT: "/api/v3", Market.UM: "/fapi/v1", Market.CM: "/dapi/v1"}

Parameters = Mapping[str, Any]
T = TypeVar("T")


class BinanceRest:
    """REST access to Binance, never beyond the weight budget. Opening it is free: nothing is imported or asked before
    it is used. Threads may share it.

    Args:
        config: hosts, key, time-outs, and where the budget lives.
        budget_store: the budget's store; default: the one that the configuration names.
        priority: `live`, `repair`, `daily` or `backfill`.
        attempts: how often a GET that fails in passing is tried; 1 for a person who waits.
        sleep: how to wait between tries, and for a budget's store that is away.
        wait: how to wait for the budget, which another thread may end.
        clock: the local clock, seconds since the epoch.
    """

    def __init__(
        self,
        config: BinanceConfig,
        *,
        budget_store: BudgetStore | None = None,
        priority: str | Priority = "backfill",
        attempts: int = failures.ATTEMPTS,
        sleep: Callable[[float], None] = time.sleep,
        wait: Waiter = threading.Condition.wait,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.priority = Priority.parse(priority)
        self._given_store = budget_store
        self._attempts = attempts
        self._sleep = sleep
        self._wait = wait
        # um and cm are two hosts, hence two clocks, though they share a pool.
        self._clocks = {market: ServerClock(clock) for market in Market}
        self._clock_locks = {market: threading.Lock() for market in Market}
        self._keys = KeyRing(config, clock)
        self._threads = threading.local()
        self._session_lock = threading.Lock()
        self._session: requests.Session | None = None
        self._known: dict[str, tuple[float, bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"BinanceRest(environment={self.config.environment!r}, priority={self.priority.name.lower()!r})"

    def close(self) -> None:
        """Close all connections; they are opened again when needed."""
        with self._session_lock:
            if self._session is not None:
                self._session.close()
        if self._given_store is None and "budget_store" in self.__dict__:
            self.budget_store.close()

    @cached_property
    def budget_store(self) -> BudgetStore:
        """Where budget and cache live; archive listings are kept in the same cache."""
        return self._given_store or open_budget_store(self.config.rate_limit_store, self.config.store_url)

    @property
    def client(self) -> MeteredClient:
        """python-binance's `Client` of this thread, metered; the same connections serve all threads."""
        from airflow_provider_binance.rest.metered import MeteredClient

        found: MeteredClient | None = getattr(self._threads, "client", None)
        if found is None:
            session = self._opened_session()
            found = self._threads.client = MeteredClient.make(self.config, session, self._server_now_ms, self._keys)
        return found

    def measure(self, meter: Meter | None = None) -> AbstractContextManager[Meter]:
        """`with rest.measure() as meter:` counts requests, weight and bytes of this thread's calls within; give the
        same meter in several threads to count them together."""
        return measured(meter)

    def server_now_us(self, market: Market, *, ask: bool = True) -> int:
        """The server's clock, microseconds since the epoch; asks `time` at most once in ten minutes.

        Without `ask` nothing is asked: until the market's first answer that is the local clock.
        """
        if ask:
            self._server_now_ms(market)
        return self._clocks[market].now_us()

    def clock_offset_seconds(self, market: Market) -> float:
        """How far the server's clock is ahead of the local one; measured as by `server_now_us`."""
        self._server_now_ms(market)
        return self._clocks[market].offset

    def ping(self, market: Market) -> float:
        """Seconds of one round trip to the market's host; raises as `get`."""
        began = time.monotonic()
        self.get(market, f"{_PREFIX[market]}/ping")
        return time.monotonic() - began

    def get(self, market: Market, path: str, params: Parameters | None = None, *, key: bool = False) -> bytes:
        """The raw body of a public GET: whole, checked JSON.

        Transient failures are tried again, five times at most, with jittered growing pauses. `key` says that the route
        needs the API key, so that a missing one is told before asking.

        Raises:
            BinanceError: the subclass tells what to do; ConfigError: the key is missing.
        """
        if key:
            self._keys.current.require(signing=False)
        return self._retried(market, path, lambda: self._once("GET", market, path, _query(params)))

    def signed_get(self, market: Market, path: str, params: Parameters | None = None) -> bytes:
        """As `get`, for a route that wants a signature; the timestamp is the server's. After −1021 the clock is
        measured anew once."""
        return self._retried(market, path, lambda: self._signed("GET", market, path, params))

    def request(
        self, method: str, path: str, params: Parameters | None = None, *, market: Market, signed: bool = False
    ) -> Any:
        """Any route's JSON, with fractions as Decimal. Only GET is tried again: what became of another is unknown."""
        method = method.upper()

        def once() -> bytes:
            if signed:
                return self._signed(method, market, path, params)
            return self._once(method, market, path, _query(params))

        body = self._retried(market, path, once) if method == "GET" else once()
        return json.loads(body or b"{}", parse_float=Decimal)

    def kline_page(self, market: Market, symbol: str, interval: str, start_us: int, end_us: int, limit: int) -> bytes:
        """The JSON of the klines that open in `[start_us, end_us)`, at most `limit`; see `pages` for which windows to
        ask. The last one may still be open."""
        return self.get(
            market,
            f"{_PREFIX[market]}/klines",
            {"symbol": symbol, "interval": interval, **pages.bounds(start_us, end_us), "limit": limit},
        )

    def tick_page(
        self, market: Market, path: str, symbol: str, parameters: Mapping[str, int], *, key: bool = False
    ) -> bytes:
        """The JSON of a page of trades or aggregates; spot's times are microseconds."""
        if key:
            self._keys.current.require(signing=False)
        query, headers = _query({"symbol": symbol, **parameters}), _FINE if market is Market.SPOT else None
        return self._retried(market, path, lambda: self._once("GET", market, path, query, headers))

    def exchange_info(self, market: Market) -> dict[str, Any]:
        """Symbols and limits of a market, at most an hour old; all who share the budget's store share it. The budget
        learns the limits from it."""
        path = f"{_PREFIX[market]}/exchangeInfo"
        info = self._known_or_asked(
            f"{self.config.rest_url(market)}{path}", EXCHANGE_INFO_SECONDS, market, path, None, parse_info
        )
        for limit in info.get("rateLimits", ()):
            kind = (limit.get("rateLimitType"), limit.get("interval"), limit.get("intervalNum"))
            if kind == ("REQUEST_WEIGHT", "MINUTE", 1):
                self._turnstile.learn(costs.pool_of(path), int(limit["limit"]))
        return info

    def first_kline_us(self, market: Market, symbol: str, interval: str) -> int | None:
        """When the symbol's first kline opened; None if it has none. Spot and um only: cm looks back 200 days at most.

        Raises:
            InputError: cm.
        """
        if market is Market.CM:
            raise InputError("cm has no way to ask for the first kline; take onboardDate of exchange_info")
        return self._known_or_asked(
            f"{self.config.rest_url(market)}|first|{symbol}|{interval}",
            FIRST_KLINE_SECONDS,
            market,
            f"{_PREFIX[market]}/klines",
            {"symbol": symbol, "interval": interval, "startTime": 0, "limit": 1},
            _first_open_us,
        )

    def admit_connection(self, market: Market) -> None:
        """Wait until another attempt to connect a websocket may be made, and count it; raises as `get`."""
        pool = costs.SPOT_CONNECTIONS if market is Market.SPOT else costs.FUTURES_CONNECTIONS
        price, clock = costs.Charge(pool, 1, needs_key=False), self._clocks[market]
        self._turnstile.leave(price, self._turnstile.enter(price, clock), clock, None)

    def account_check(self, market: Market) -> AccountRights:
        """What the key may do, by one signed call that changes nothing; logs a warning when it may do more than read.

        Raises:
            AuthenticationError: key or signature are refused.
            RequestRejectedError: the host has no accounts.
        """
        return check_account(self.config, market, lambda path: self.signed_get(market, path))

    @cached_property
    def _turnstile(self) -> Turnstile:
        return Turnstile(self.config, self.budget_store, self.priority, self._sleep, self._wait)

    def _opened_session(self) -> requests.Session:
        from airflow_provider_binance.rest.session import open_session

        with self._session_lock:
            if self._session is None:
                self._keys.current.check()
                self._session = open_session(self.config, self._turnstile, self._clocks, self._keys)
            return self._session

    def _server_now_ms(self, market: Market, afresh: bool = False) -> int:
        """The server's clock, measured if it is not known exactly, or if `afresh`."""
        clock = self._clocks[market]
        if afresh:
            clock.forget()
        with self._clock_locks[market]:
            if not clock.is_exact:
                self._retried(market, "time", lambda: self._ask_time(market))
        return clock.now_ms()

    def _ask_time(self, market: Market) -> bytes:
        from airflow_provider_binance.rest.exchange import fetch

        answer = fetch(self.client, "GET", market, f"{_PREFIX[market]}/time", "", self._clocks[market])
        try:
            self._clocks[market].measure(int(json.loads(answer.body)["serverTime"]), *answer.travelled)
        except (ValueError, KeyError, TypeError) as error:
            raise MalformedResponseError(f"{market} time: not of the documented shape: {error!r}") from error
        return answer.body

    def _once(
        self, method: str, market: Market, path: str, query: str, headers: Mapping[str, str] | None = None
    ) -> bytes:
        from airflow_provider_binance.rest.exchange import fetch

        return fetch(self.client, method, market, path, query, self._clocks[market], headers).body

    def _signed(self, method: str, market: Market, path: str, params: Parameters | None) -> bytes:
        self._keys.current.require(signing=True)
        for afresh in (False, True):
            stamp = self._server_now_ms(market, afresh)
            query = _query({**(params or {}), "recvWindow": RECV_WINDOW_MS, "timestamp": stamp, "signature": UNSIGNED})
            try:
                return self._once(method, market, path, query)
            except ClockSkewError as error:
                if afresh:
                    raise ClockSkewError(
                        f"{error}; the clock was measured anew (offset {self._clocks[market].offset:.3f} s) and is "
                        f"refused again: is something between here and Binance holding requests back?",
                        **error.facts,
                    ) from error
                log.warning("clock refused, measuring it anew: market=%s path=%s", market, path)
        raise AssertionError("unreachable")  # the second round returns or raises

    def _retried(self, market: Market, path: str, once: Callable[[], bytes]) -> bytes:
        attempt = 1
        while True:
            try:
                return once()
            except BinanceError as error:
                wait = failures.pause(error, attempt, random.random, self._attempts)
                if wait is None:
                    raise
                log.warning(
                    "retrying: market=%s path=%s reason=%s attempt=%d sleep=%.1f", market, path, error, attempt, wait
                )
            self._sleep(wait)
            attempt += 1

    def _known_or_asked(
        self,
        key: str,
        seconds: float,
        market: Market,
        path: str,
        params: Parameters | None,
        read: Callable[[bytes], T],
    ) -> T:
        """What `read` makes of the cached answer, else of a new one, which is kept once it could be read (not None)."""
        if (body := self._cached(key, seconds)) is not None:
            try:
                return read(body)
            except (ValueError, KeyError, TypeError, IndexError):
                log.warning("cached answer cannot be read, asking anew: market=%s path=%s", market, path)
        body = self.get(market, path, params)
        try:
            value = read(body)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise MalformedResponseError(f"{market} {path}: not of the documented shape: {error!r}") from error
        if value is not None:
            self._keep(key, body)
        return value

    def _cached(self, key: str, max_age_seconds: float) -> bytes | None:
        if self.config.environment != "simulator":
            return self.budget_store.cache_get(key, max_age_seconds)
        # A simulator's clock and symbols change from run to run, and its port comes back.
        put_at, value = self._known.get(key, (float("-inf"), None))
        return value if time.monotonic() - put_at <= max_age_seconds else None

    def _keep(self, key: str, value: bytes) -> None:
        if self.config.environment == "simulator":
            self._known[key] = (time.monotonic(), value)
        else:
            self.budget_store.cache_put(key, value)


def _first_open_us(body: bytes) -> int | None:
    rows = json.loads(body)
    if not isinstance(rows, list):
        raise ValueError("no list of klines")
    return int(rows[0][0]) * 1000 if rows else None


def _query(params: Parameters | None) -> str:
    """Percent-encoded parameters; those that are None are left out, lists become Binance's JSON arrays."""
    given = {
        name: json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        if isinstance(value, (list, tuple))
        else value
        for name, value in (params or {}).items()
        if value is not None
    }
    return urlencode(given, quote_via=quote, safe="")
