"""python-binance's `Client` on the metered session.

Importing this module imports python-binance (a second or two), which is why `client.py` does it only when it sends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from binance.client import Client
from binance.exceptions import BinanceAPIException

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import ConfigError
from airflow_provider_binance.market import Market
from airflow_provider_binance.rest.credentials import KeyRing
from airflow_provider_binance.rest.session import KEY_HEADER


class MeteredClient(Client):
    """python-binance's `Client`, unchanged but for its session, its hosts, its clock and its key.

    python-binance keeps the last answer on the client, so: one client per thread, over one shared session.
    """

    def __init__(
        self,
        config: BinanceConfig,
        session: requests.Session,
        server_now_ms: Callable[[Market, bool], int],
        keys: KeyRing,
    ) -> None:
        self._keys = keys
        self._shared_session = session
        self._websockets: dict[str, tuple[type, str]] = {}
        self._opened: dict[str, Any] = {}
        self._server_now_ms = server_now_ms
        self._base_urls = {market: config.rest_url(market) for market in Market}
        self.request_timeout_seconds = config.request_timeout_seconds
        self._production = config.environment == "production"
        # Said with each request: of a session's proxies, requests would prefer those of the environment.
        self.proxies = dict(config.proxies)
        sent_with: dict[str, Any] = {"timeout": self.request_timeout_seconds}
        if self.proxies:
            sent_with["proxies"] = self.proxies
        super().__init__(None, None, sent_with, ping=False)
        self._point_at(config)

    @classmethod
    def make(
        cls,
        config: BinanceConfig,
        session: requests.Session,
        server_now_ms: Callable[[Market, bool], int],
        keys: KeyRing,
    ) -> MeteredClient:
        """A client, made in a thread of its own: python-binance makes an event loop when its thread has none, and
        leaves it open. What needs a loop, its websocket API, gets the caller's when it is used."""

        def build() -> MeteredClient:
            client = cls(config, session, server_now_ms, keys)
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
            proxy = self.proxies.get("https") or self.proxies.get("http")
            self._opened[name] = kind(url=url, tld=self.tld, https_proxy=proxy)
        return self._opened[name]

    def _init_session(self) -> requests.Session:
        # Without the key, which the session puts on what needs it.
        headers = {name: value for name, value in self._get_headers().items() if name != KEY_HEADER}
        self._shared_session.headers.update(headers)
        return self._shared_session

    @property
    def API_KEY(self) -> str | None:  # noqa: N802  # python-binance's name
        """The API key in use now."""
        return self._keys.current.api_key

    @API_KEY.setter
    def API_KEY(self, value: str | None) -> None:  # noqa: N802
        """Nothing: python-binance's constructor would set it for good."""

    def _hmac_signature(self, query_string: str) -> str:
        # Its private keys are not set, so that python-binance comes here whatever the kind of the key. The session
        # signs again what goes through it: when it goes, and all of it percent-encoded, not the symbol only.
        self._keys.current.require(signing=True)
        return self._keys.current.sign(query_string)

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

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no error may show."""
        return self._keys.secrets()


def _copied(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in kwargs.items()}
