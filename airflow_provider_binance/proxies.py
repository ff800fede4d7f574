"""Forward proxies: what may be one, which one serves a URL, and what it means when it does not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

from airflow_provider_binance.errors import AuthenticationError, BinanceError, UnreachableError
from airflow_provider_binance.masking import mask_url

_KINDS = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_SERVED = ("http", "https", "all")
# What urllib3 says of a refused CONNECT; it has the status nowhere else.
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})")


def checked(proxies: Mapping[str, object]) -> dict[str, str]:
    """`proxies` (scheme of the target → URL) with the scheme of each proxy said; ValueError, without password, if one
    cannot be a proxy."""
    found = {}
    for served, given in proxies.items():
        if not isinstance(given, str):
            raise ValueError(
                f"a value of type {type(given).__name__} is no proxy; use {'|'.join(_KINDS)}://user:password@host:port"
            )
        url = given.strip()
        url = url if "://" in url else f"http://{url}"
        if served not in _SERVED and "://" not in served:
            raise ValueError(f"{served!r} is no scheme that a proxy can serve; use {', '.join(_SERVED)}")
        try:
            parts = urlsplit(url)
            is_url = parts.scheme in _KINDS and bool(parts.hostname) and parts.port != 0
            is_url = is_url and not str(parts.hostname).isdigit()  # 5 would be the address 0.0.0.5
        except ValueError:
            is_url = False
        if not is_url:
            raise ValueError(f"{mask_url(url)!r} is no proxy; use {'|'.join(_KINDS)}://user:password@host:port")
        try:
            unquote(f"{parts.username}:{parts.password}").encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError(f"{mask_url(url)!r} has credentials that HTTP cannot say: Latin letters only") from None
        if parts.scheme.startswith("socks") and find_spec("socks") is None:
            raise ValueError(f"{mask_url(url)!r} needs PySocks: pip install pysocks")
        found[served] = url
    return found


def way_to(url: str, proxies: Mapping[str, str]) -> str | None:
    """The proxy that a request to `url`, or a websocket, goes through; without `proxies` the environment's."""
    from requests.utils import get_environ_proxies, select_proxy

    url = re.sub(r"^ws(s?)://", r"http\1://", url)
    found = select_proxy(url, dict(proxies) or get_environ_proxies(url))
    return (found if "://" in found else f"http://{found}") if found else None


def proxy_of(url: str, proxies: Mapping[str, str]) -> str | None:
    """The same, its password masked."""
    found = way_to(url, proxies)
    return mask_url(found) if found else None


def proxy_error(
    what: str, url: str, proxies: Mapping[str, str], *, status: int | None = None, error: Exception | None = None
) -> BinanceError | None:
    """The error that a request to `url` for `what` ended in if its proxy is to blame, else None. It is told by the
    `status` of an answer (407 is the proxy's own) or by the `error` in place of one."""
    if error is None and status != 407:
        return None
    from requests.exceptions import ProxyError

    proxy = proxy_of(url, proxies)
    if proxy is None or not (status == 407 or isinstance(error, ProxyError)):
        return None
    if found := _TUNNEL_REFUSED.search(str(error)):
        status = int(found[1])
    if status == 407:
        return AuthenticationError(
            f"{what}: the proxy {proxy} wants other credentials (HTTP 407). Set proxies to "
            f"http://user:password@host:port, with special characters percent-encoded",
            status=407,
        )
    refused = f"does not let us through (HTTP {status})" if status else "cannot be reached"
    return UnreachableError(f"{what}: the proxy {proxy} {refused}; is the setting proxies right?", status=status)
