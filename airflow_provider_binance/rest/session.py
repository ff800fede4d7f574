"""python-binance's `Client` on a metered HTTP session: whatever is called through it waits for the weight budget.

Importing this module imports python-binance and requests, which is why only `client.py` does, when first used.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import requests
from binance.client import Client
from binance.exceptions import BinanceAPIException
from requests.adapters import HTTPAdapter

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import BannedError, ConfigError, ThrottledError
from airflow_provider_binance.market import Market
from airflow_provider_binance.masking import mask_url
from airflow_provider_binance.rest import budget, failures
from airflow_provider_binance.rest.budget import Grant, Pool, PoolState, Priority
from airflow_provider_binance.rest.budget_stores import BudgetStore
from airflow_provider_binance.rest.clock import ServerClock
from airflow_provider_binance.rest.costs import Charge, charge
from airflow_provider_binance.rest.meter import count

log = logging.getLogger(__name__)

KEY_HEADER = "X-MBX-APIKEY"
USED_HEADER = "X-MBX-USED-WEIGHT-1M"
POOL_SIZE = 32  # connections kept per host: more threads than this wait for the budget anyway


class Turnstile:
    """Lets requests through as the budget allows, and tells it what their answers say."""

    def __init__(
        self,
        config: BinanceConfig,
        store: BudgetStore,
        priority: Priority,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._prefix = f"{config.environment}|%s|{config.egress}"
        self._cap = config.rate_limit_requests_per_minute
        self._store = store
        self._priority = priority
        self._sleep = sleep
        self._lock = threading.Lock()
        self._waiting: dict[str, int] = {}

    def enter(self, price: Charge, clock: ServerClock) -> Grant:
        """Wait until `price` may be spent.

        Raises:
            ThrottledError, BannedError: Binance told everyone to stay away for longer than a request should wait.
            InputError: the price never fits.
        """
        ticket = uuid4().hex[:12]
        outcome = self._try(price, clock, ticket)
        if isinstance(outcome, Grant):
            return outcome
        self._refuse_long_hold(price.pool, outcome)
        began = time.monotonic()
        with self._announced(price.pool, outcome):
            while not isinstance(outcome, Grant):
                self._sleep(outcome.seconds)
                outcome = self._try(price, clock, ticket)
                if not isinstance(outcome, Grant):
                    self._refuse_long_hold(price.pool, outcome)
        log.debug("waited for the weight budget: pool=%s seconds=%.1f", price.pool.name, time.monotonic() - began)
        return outcome

    def leave(self, price: Charge, grant: Grant, clock: ServerClock, used: int | None) -> None:
        """The request is over; `used` is what its answer reported."""
        now_ms, guard_ms = clock.now_ms(), clock.guard_ms
        self._update(
            price.pool,
            lambda state: budget.settle(state, price.pool, grant, now_ms=now_ms, guard_ms=guard_ms, used=used),
        )

    def hold(self, pool: Pool, until_ms: int, status: int) -> None:
        """Nobody sends to `pool` before `until_ms`."""
        self._update(pool, lambda state: budget.hold(state, until_ms, status))

    def learn(self, pool: Pool, limit: int) -> None:
        """The venue announced the pool's limit."""
        self._update(pool, lambda state: budget.learn(state, limit))

    def _try(self, price: Charge, clock: ServerClock, ticket: str) -> Grant | budget.Wait:
        def step(value: Mapping[str, Any] | None) -> tuple[dict[str, Any], Grant | budget.Wait]:
            state, outcome = budget.acquire(
                PoolState.from_json(value), price.pool, now_ms=clock.now_ms(), cost=price.weight, ticket=ticket,
                priority=self._priority, guard_ms=clock.guard_ms,
                cap=self._cap if price.pool.window_ms == 60_000 else None,
            )  # fmt: skip
            return state.to_json(), outcome

        return self._store.transact(self._prefix % price.pool.name, step)

    def _update(self, pool: Pool, change: Callable[[PoolState], PoolState]) -> None:
        def step(value: Mapping[str, Any] | None) -> tuple[dict[str, Any], None]:
            return change(PoolState.from_json(value)).to_json(), None

        self._store.transact(self._prefix % pool.name, step)

    def _refuse_long_hold(self, pool: Pool, wait: budget.Wait) -> None:
        if wait.status and wait.seconds > failures.LONGEST_HOLD_SECONDS:
            kind = BannedError if wait.status == 418 else ThrottledError
            word = "banned this address" if wait.status == 418 else "asked for a pause"
            raise kind(
                f"Binance {word} (HTTP {wait.status}); nothing is sent to pool {pool.name} for another "
                f"{wait.seconds:.0f} s",
                retry_after=wait.seconds, status=wait.status,
            )  # fmt: skip

    @contextmanager
    def _announced(self, pool: Pool, wait: budget.Wait) -> Iterator[None]:
        """One line when the first thread begins to wait and one when the last one goes on, not one per request."""
        with self._lock:
            first = not self._waiting.get(pool.name)
            self._waiting[pool.name] = self._waiting.get(pool.name, 0) + 1
        if first:
            reason = f"HTTP {wait.status}" if wait.status else "the minute's weight is used"
            log.info("throttling starts: pool=%s reason=%s seconds=%.1f", pool.name, reason, wait.seconds)
        try:
            yield
        finally:
            with self._lock:
                self._waiting[pool.name] -= 1
                last = not self._waiting[pool.name]
            if last:
                log.info("throttling ends: pool=%s", pool.name)


class MeteredAdapter(HTTPAdapter):
    """The transport of the session: meters each request, and lets the API key only where it is needed."""

    def __init__(self, config: BinanceConfig, turnstile: Turnstile, clocks: Mapping[Market, ServerClock]) -> None:
        super().__init__(pool_connections=8, pool_maxsize=POOL_SIZE)
        self._turnstile = turnstile
        self._clocks = clocks
        self._production = config.environment == "production"
        self._markets = {urlsplit(config.rest_url(market)).netloc: market for market in reversed(Market)}
        self._is_cm = {host for host, market in self._markets.items() if market is Market.CM}

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Wait for the budget, send, and feed back what the answer says."""
        parts = urlsplit(request.url or "")
        body = request.body if isinstance(request.body, str) else ""
        parameters = dict(parse_qsl(f"{parts.query}&{body}"))
        price = charge(parts.path, parameters, is_cm_host=parts.netloc in self._is_cm)
        if not (price.needs_key and self._is_ours(parts.netloc)):
            request.headers.pop(KEY_HEADER, None)
        clock = self._clocks[self._markets.get(parts.netloc, Market.SPOT)]
        grant = self._turnstile.enter(price, clock)
        count(requests=1, weight=price.weight)
        sent, used = clock.local(), None
        try:
            response = super().send(request, *args, **kwargs)
            received = clock.local()
            if parts.netloc in self._markets:
                clock.observe(response.headers, sent, received)
            used = _used(response.headers)
            if response.status_code in {418, 429}:
                now_ms = clock.now_ms()
                wait = failures.hold_seconds(response.status_code, response.headers, response.content, now_ms)
                self._turnstile.hold(price.pool, now_ms + round(wait * 1000), response.status_code)
        except requests.RequestException as error:
            # Its text and those of its causes have the URL, and that the signature.
            error.args = tuple(mask_url(str(arg)) for arg in error.args)
            error.__cause__ = error.__context__ = None
            raise
        finally:
            self._turnstile.leave(price, grant, clock, used)
        count(bytes=_length(response.headers))
        # When it really went, without the wait for the budget: the clock needs it.
        response.travelled = (sent, received)  # type: ignore[attr-defined]
        return response

    def _is_ours(self, host: str) -> bool:
        return host in self._markets or (self._production and host.endswith(".binance.com"))


def _used(headers: Mapping[str, str]) -> int | None:
    text = headers.get(USED_HEADER, "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _length(headers: Mapping[str, str]) -> int:
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else 0


class MaskSignature(logging.Filter):
    """Takes signatures out of urllib3's DEBUG lines, which show each URL."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.args:
            args = record.args if isinstance(record.args, tuple) else (record.args,)
            record.args = tuple(mask_url(arg) if isinstance(arg, str) else arg for arg in args)
        return True


_mask_signature = MaskSignature()


def open_session(config: BinanceConfig, turnstile: Turnstile, clocks: Mapping[Market, ServerClock]) -> requests.Session:
    """A session whose every request is metered; redirects are not followed, since Binance's API sends none."""
    session = requests.Session()
    adapter = MeteredAdapter(config, turnstile, clocks)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.max_redirects = 0
    logging.getLogger("urllib3.connectionpool").addFilter(_mask_signature)
    return session


class MeteredClient(Client):
    """python-binance's `Client`, unchanged but for its session, its hosts and its clock.

    python-binance keeps the last answer on the client, so: one client per thread, over one shared session.
    """

    def __init__(
        self,
        config: BinanceConfig,
        session: requests.Session,
        server_now_ms: Callable[[Market, bool], int],
    ) -> None:
        self._shared_session = session
        self._websockets: dict[str, tuple[type, str]] = {}
        self._opened: dict[str, Any] = {}
        self._server_now_ms = server_now_ms
        self._base_urls = {market: config.rest_url(market) for market in Market}
        self.request_timeout_seconds = config.request_timeout_seconds
        self.secrets = config.secrets()
        self._production = config.environment == "production"
        secrets = (config.api_key, config.api_secret, config.private_key, config.private_key_password)
        key, secret, private_key, password = (s.get_secret_value() if s else None for s in secrets)
        # Said with each request: of a session's proxies, requests would prefer those of the environment.
        self.proxies = dict(config.proxies)
        sent_with: dict[str, Any] = {"timeout": self.request_timeout_seconds}
        if self.proxies:
            sent_with["proxies"] = self.proxies
        super().__init__(key, secret, sent_with, private_key=private_key, private_key_pass=password, ping=False)
        self._point_at(config)

    @classmethod
    def make(
        cls,
        config: BinanceConfig,
        session: requests.Session,
        server_now_ms: Callable[[Market, bool], int],
    ) -> MeteredClient:
        """A client, made in a thread of its own: python-binance makes an event loop when its thread has none, and
        leaves it open. What needs a loop, its websocket API, gets the caller's when it is used."""

        def build() -> MeteredClient:
            client = cls(config, session, server_now_ms)
            loop = client.loop
            asyncio.set_event_loop(None)
            loop.close()
            return client

        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(build).result()

    @property
    def ws_api(self) -> Any:
        """python-binance's websocket API of spot, production only: it is not metered, and has no other host here."""
        return self._websocket_api("ws_api")

    @ws_api.setter
    def ws_api(self, made: Any) -> None:
        self._websockets["ws_api"] = (type(made), made._url)

    @property
    def ws_future(self) -> Any:
        """As `ws_api`, of um."""
        return self._websocket_api("ws_future")

    @ws_future.setter
    def ws_future(self, made: Any) -> None:
        self._websockets["ws_future"] = (type(made), made._url)

    def _websocket_api(self, name: str) -> Any:
        if not self._production:
            raise ConfigError("python-binance's websocket API calls reach production only", field="environment")
        if name not in self._opened:
            kind, url = self._websockets[name]
            self._opened[name] = kind(url=url, tld=self.tld)
        return self._opened[name]

    def _init_session(self) -> requests.Session:
        self._shared_session.headers.update(self._get_headers())
        return self._shared_session

    def _point_at(self, config: BinanceConfig) -> None:
        spot, um, cm = config.spot_rest_url, config.um_rest_url, config.cm_rest_url
        self.API_URL = f"{spot}/api"
        self.MARGIN_API_URL = f"{spot}/sapi"
        self.FUTURES_URL = f"{um}/fapi"
        self.FUTURES_DATA_URL = f"{um}/futures/data"
        self.FUTURES_COIN_URL = f"{cm}/dapi"
        self.FUTURES_COIN_DATA_URL = f"{cm}/futures/data"
        if config.environment != "production":
            # There are no such test hosts: a 404 of ours is better than a test reaching the real ones.
            self.OPTIONS_URL, self.PAPI_URL, self.WEBSITE_URL = f"{spot}/eapi", f"{spot}/papi", spot

    def _request(self, method: str, uri: str, signed: bool, force_params: bool = False, **kwargs: Any) -> Any:
        if not signed:
            return super()._request(method, uri, signed, force_params, **kwargs)
        market = self._market_of(uri)
        self._set_clock(market, False)
        try:
            # A copy: signing writes into the parameters.
            return super()._request(method, uri, signed, force_params, **_copied(kwargs))
        except BinanceAPIException as error:
            if error.code != -1021:
                raise
        # −1021 is refused before anything is done, so that even an order may be sent again.
        self._set_clock(market, True)
        return super()._request(method, uri, signed, force_params, **_copied(kwargs))

    def _set_clock(self, market: Market, afresh: bool) -> None:
        # python-binance adds this to the clock of its own process.
        self.timestamp_offset = self._server_now_ms(market, afresh) - round(time.time() * 1000)

    def _market_of(self, uri: str) -> Market:
        if uri.startswith(f"{self.base_url(Market.UM)}/fapi"):
            return Market.UM
        return Market.CM if uri.startswith(f"{self.base_url(Market.CM)}/dapi") else Market.SPOT

    def base_url(self, market: Market) -> str:
        """Scheme, host and prefix of a market's REST API."""
        return self._base_urls[market]

    def sign(self, payload: str) -> str:
        """The signature of a percent-encoded payload, by the key's own scheme."""
        if not self.PRIVATE_KEY:
            return str(self._hmac_signature(payload))
        return str(self._rsa_signature(payload) if self._is_rsa else self._ed25519_signature(payload))


def _copied(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in kwargs.items()}
