"""How a websocket gets out: through which proxy, trusting whom, and what it means when the proxy refuses."""

from __future__ import annotations

import os
import re
import ssl
from functools import lru_cache
from pathlib import Path

from airflow_provider_binance.errors import AuthenticationError, BinanceError, UnreachableError
from airflow_provider_binance.masking import mask_url

#: What names who vouches for servers: the first two replace the usual ones, as they do for REST.
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_REJECTED = re.compile(r"status (\d{3})")


def trusted() -> ssl.SSLContext:
    """Whom connections trust, by the environment as it is now: `REQUESTS_CA_BUNDLE`, else `SSL_CERT_FILE` and
    `SSL_CERT_DIR`, else this machine's and certifi's. It reads files: call it in a thread."""
    return _context(next((found for name in _BUNDLES if (found := os.environ.get(name))), ""), _own_default())


def spoken(proxy: str) -> str:
    """A proxy's URL as picows spells it: its SOCKS proxies resolve names by themselves, without a letter for that."""
    return re.sub(r"^(socks5)h|^(socks4)a", r"\1\2", proxy)


def refused(url: str, proxy: str | None, error: Exception) -> BinanceError:
    """The error of a proxy that did not let a connection to `url` through; no password shows."""
    found = _REJECTED.search(str(error))
    status = int(found[1]) if found else None
    what = f"{url.partition('?')[0]}: the proxy {mask_url(proxy or '')}"
    if status == 407:
        return AuthenticationError(
            f"{what} wants other credentials (HTTP 407). Set proxies to http://user:password@host:port, with special "
            f"characters percent-encoded",
            status=407,
        )
    return UnreachableError(f"{what} does not let us through ({error}); is the setting proxies right?", status=status)


def untrusted(url: str) -> BinanceError:
    """The error of a server, or a proxy in its place, that nobody vouches for."""
    return UnreachableError(
        f"{url.partition('?')[0]}: nobody we trust vouches for the certificate that was shown. If a proxy opens TLS, "
        f"name the file of its authority in REQUESTS_CA_BUNDLE or SSL_CERT_FILE"
    )


def _own_default() -> tuple[str, str]:
    return os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", "")


@lru_cache(maxsize=4)
def _context(bundle: str, own_default: tuple[str, str]) -> ssl.SSLContext:
    if bundle:
        if Path(bundle).is_dir():
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)
    context = ssl.create_default_context()
    if not any(own_default):  # a small container has no certificates of its own
        import certifi

        context.load_verify_locations(certifi.where())
    return context
