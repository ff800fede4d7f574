"""The HTTP session: whatever is requested through it waits for the weight budget.

Importing this module imports requests, which is why `client.py` does it only when it first sends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

import requests
from requests.adapters import HTTPAdapter

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.market import Market
from airflow_provider_binance.masking import mask_url
from airflow_provider_binance.rest import failures
from airflow_provider_binance.rest.clock import ServerClock
from airflow_provider_binance.rest.costs import Charge, charge
from airflow_provider_binance.rest.credentials import Credentials, KeyRing
from airflow_provider_binance.rest.meter import count
from airflow_provider_binance.rest.signing import sign_request
from airflow_provider_binance.rest.turnstile import Turnstile

log = logging.getLogger(__name__)

KEY_HEADER = "X-MBX-APIKEY"
USED_HEADER = "X-MBX-USED-WEIGHT-1M"
POOL_SIZE = 32  # connections kept per host: more threads than this wait for the budget anyway


class MeteredAdapter(HTTPAdapter):
    """The transport of the session: meters each request, signs it, and lets the API key only where it is needed."""

    def __init__(
        self, config: BinanceConfig, turnstile: Turnstile, clocks: Mapping[Market, ServerClock], keys: KeyRing
    ) -> None:
        super().__init__(pool_connections=8, pool_maxsize=POOL_SIZE)
        self._turnstile = turnstile
        self._clocks = clocks
        self._keys = keys
        self._production = config.environment == "production"
        self._markets = {urlsplit(config.rest_url(market)).netloc: market for market in reversed(Market)}
        self._is_cm = {host for host, market in self._markets.items() if market is Market.CM}

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Wait for the budget, send, and feed back what the answer says. A key that is refused is read again, and if
        it was replaced, the request goes once more: who refuses a key has done nothing."""
        parts = urlsplit(request.url or "")
        body = request.body if isinstance(request.body, str) else ""
        parameters = dict(parse_qsl(f"{parts.query}&{body}"))
        price = charge(parts.path, parameters, is_cm_host=parts.netloc in self._is_cm)
        clock = self._clocks[self._market_of(parts)]
        transport = super().send
        if not (price.needs_key and self._is_ours(parts.netloc)):
            request.headers.pop(KEY_HEADER, None)
            return self._metered(price, clock, parts.netloc, lambda: transport(request, *args, **kwargs))
        used: list[Credentials] = []

        def send_with_key() -> requests.Response:
            with self._keys.lent() as lent:
                used.append(lent)
                request.headers[KEY_HEADER] = lent.api_key or ""
                if "signature" in parameters:
                    sign_request(request, lent.sign, clock.now_ms())
                return transport(request, *args, **kwargs)

        response = self._metered(price, clock, parts.netloc, send_with_key)
        if _refuses_the_key(response) and self._keys.renewed(used[-1]):
            log.info("the API key was refused and has been replaced, sending again: path=%s", parts.path)
            response.close()
            response = self._metered(price, clock, parts.netloc, send_with_key)
        return response

    def _metered(
        self, price: Charge, clock: ServerClock, host: str, send: Callable[[], requests.Response]
    ) -> requests.Response:
        """What `send` brings, once the budget allows it."""
        grant = self._turnstile.enter(price, clock)
        count(requests=1, weight=price.weight)
        sent, used = clock.local(), None
        try:
            response = send()
            received = clock.local()
            if host in self._markets:
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

    def _market_of(self, parts: SplitResult) -> Market:
        """The market whose host it is; where one host serves several, the path tells."""
        for market, prefix in ((Market.UM, "/fapi/"), (Market.CM, "/dapi/")):
            if prefix in parts.path and parts.netloc in self._markets:
                return market
        return self._markets.get(parts.netloc, Market.SPOT)

    def _is_ours(self, host: str) -> bool:
        return host in self._markets or (self._production and host.endswith(".binance.com"))


def _refuses_the_key(response: requests.Response) -> bool:
    return response.status_code in {400, 401} and failures.refuses_the_key(response.status_code, response.content)


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


def open_session(
    config: BinanceConfig, turnstile: Turnstile, clocks: Mapping[Market, ServerClock], keys: KeyRing
) -> requests.Session:
    """A session whose every request is metered; redirects are not followed, since Binance's API sends none."""
    session = requests.Session()
    adapter = MeteredAdapter(config, turnstile, clocks, keys)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.max_redirects = 0
    logging.getLogger("urllib3.connectionpool").addFilter(_mask_signature)
    return session
