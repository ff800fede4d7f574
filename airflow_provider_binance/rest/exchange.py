"""One request and its answer: send through the metered session, read all of the body in bounded time, judge it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

import requests
import urllib3

from airflow_provider_binance.errors import BinanceError, ConfigError, MalformedResponseError, UnreachableError
from airflow_provider_binance.market import Market
from airflow_provider_binance.masking import mask_values
from airflow_provider_binance.proxies import proxy_error
from airflow_provider_binance.rest import failures
from airflow_provider_binance.rest.clock import ServerClock
from airflow_provider_binance.rest.meter import count
from airflow_provider_binance.rest.metered import MeteredClient

# requests' time-out is for each read: a server that sends a byte now and then would never meet it.
READ_TIMEOUTS = 3
CHUNK_BYTES = 1 << 16
CONNECT_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer, and when (local clock) the request was sent and the answer came."""

    body: bytes
    travelled: tuple[float, float]


def fetch(
    client: MeteredClient,
    method: str,
    market: Market,
    path: str,
    query: str,
    clock: ServerClock,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request and read its answer; `query` is encoded already.

    Raises:
        BinanceError: no answer, a bad one, or one that says no.
        ConfigError: the market's URL is no URL.
    """
    path = path if path.startswith("/") else f"/{path}"
    timeout = client.request_timeout_seconds
    url = client.base_url(market) + path + (f"?{query}" if query else "")
    try:
        response = client.session.request(
            method,
            url,
            headers=headers,
            timeout=(min(CONNECT_TIMEOUT_SECONDS, timeout), timeout),
            proxies=client.proxies,
            allow_redirects=False,
            stream=True,
        )
        with closing(response):
            body = _read(response, time.monotonic() + READ_TIMEOUTS * timeout)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        blamed = proxy_error(f"{market} {path}", url, client.proxies, error=error)
        # Without its causes, which have the URL in their text.
        raise blamed or _transport_error(error, market, path, client.secrets) from None
    if not response.ok:
        # Who refuses a key may repeat it.
        body = mask_values(body.decode("utf-8", "replace"), client.secrets).encode()
    refusal = proxy_error(f"{market} {path}", url, client.proxies, status=response.status_code) or failures.failure(
        response.status_code, response.headers, body, market=market, path=path, now_ms=clock.now_ms()
    )
    if refusal is not None:
        raise refusal
    if body or method == "GET":
        failures.check_json(body, market=market, path=path)
    return Answer(body, response.travelled)  # set by the adapter


def _read(response: requests.Response, deadline: float) -> bytes:
    if response._content_consumed:  # type: ignore[attr-defined]  # the adapter wanted to know how long a ban is
        return response.content
    chunks: list[bytes] = []
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
        chunks.append(chunk)
        if time.monotonic() > deadline:
            raise requests.Timeout("the answer comes too slowly")
    if "Content-Length" not in response.headers:
        count(bytes=response.raw.tell())
    return b"".join(chunks)


def _transport_error(
    error: Exception, market: Market, path: str, secrets: tuple[str, ...]
) -> BinanceError | ConfigError:
    text = f"{market} {path}: {mask_values(str(error), secrets)}"
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
        return ConfigError(f"{text}. Set {market}_rest_url to scheme and host, like https://api.binance.com")
    if isinstance(error, requests.TooManyRedirects):
        return MalformedResponseError(f"{market} {path}: redirects are not followed; is {market}_rest_url right?")
    cut_short = (
        requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError,
        urllib3.exceptions.ProtocolError, urllib3.exceptions.DecodeError,
    )  # fmt: skip
    return MalformedResponseError(text) if isinstance(error, cut_short) else UnreachableError(text)
