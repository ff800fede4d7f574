"""The HTTP session: whatever is requested through it waits for the weight budget.

Importing this module imports requests, which is why `client.py` does it only when it first sends.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.adapters import HTTPAdapter

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.market import Market
from airflow_provider_binance.masking import mask_url
from airflow_provider_binance.rest import failures
from airflow_provider_binance.rest.clock import ServerClock
from airflow_provider_binance.rest.costs import charge
from airflow_provider_binance.rest.meter import count
from airflow_provider_binance.rest.turnstile import Turnstile

KEY_HEADER = "X-MBX-APIKEY"
USED_HEADER = "X-MBX-USED-WEIGHT-1M"
POOL_SIZE = 32  # connections kept per host: more threads than this wait for the budget anyway


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
