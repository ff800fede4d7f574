"""Signatures: by the key's own scheme, over what is sent, percent-encoded, as Binance asks since 2026.

A request is signed when it goes, not when it is made: by then it may have waited a minute for the weight budget, its
timestamp would be too old and its key revoked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote, unquote_plus, urlsplit, urlunsplit

import requests

from airflow_provider_binance.errors import ConfigError
from airflow_provider_binance.keys import is_encrypted

Sign = Callable[[str], str]


def hmac_signer(secret: str) -> Sign:
    """Signs by an HMAC secret: hexadecimal."""
    return lambda payload: hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


def private_key_signer(pem: str, password: str | None) -> Sign:
    """Signs by an RSA or Ed25519 key: base64, not percent-encoded.

    Raises:
        ConfigError: the password is missing or wrong, the key is damaged or of another kind. Says nothing of the key.
    """
    from Crypto.Hash import SHA256
    from Crypto.PublicKey import RSA
    from Crypto.Signature import eddsa, pkcs1_15

    key = _opened(pem, password)
    if isinstance(key, RSA.RsaKey):
        rsa = pkcs1_15.new(key)
        return lambda payload: base64.b64encode(rsa.sign(SHA256.new(payload.encode()))).decode()
    return lambda payload: base64.b64encode(eddsa.new(key, "rfc8032").sign(payload.encode())).decode()


def sign_request(request: requests.PreparedRequest, sign: Sign, now_ms: int) -> None:
    """Put the timestamp `now_ms` and the signature into a request that has (or had) both.

    The payload is the query and the body as they are sent, every value percent-encoded; the signature comes last.
    """
    parts = urlsplit(request.url or "")
    body = request.body.decode() if isinstance(request.body, bytes) else (request.body or "")
    query, query_is_stamped = _payload(parts.query, unquote, now_ms)
    form, form_is_stamped = _payload(body, unquote_plus, now_ms)
    if not (query_is_stamped or form_is_stamped):
        query = f"{query}&timestamp={now_ms}" if query else f"timestamp={now_ms}"
    signature = f"signature={quote(sign(query + form), safe='')}"
    if form:
        form = f"{form}&{signature}"
        request.prepare_body(form, None)
    else:
        query = f"{query}&{signature}"
    request.url = urlunsplit(parts._replace(query=query))


def _payload(text: str, decoded: Callable[[str], str], now_ms: int) -> tuple[str, bool]:
    """The parameters of a query or a form, encoded anew without the signature; and whether the time is among them."""
    parameters, is_stamped = [], False
    for part in text.split("&") if text else ():
        name, equals, value = part.partition("=")
        if name == "signature":
            continue
        if name == "timestamp":
            value, is_stamped = str(now_ms), True
        parameters.append(f"{name}{equals}{quote(decoded(value), safe='')}")
    return "&".join(parameters), is_stamped


def _opened(pem: str, password: str | None) -> Any:
    from Crypto.PublicKey import ECC, RSA

    # Said in bytes: a text would be taken as Latin-1, and everybody else takes UTF-8.
    phrase = password.encode() if password else None
    key: Any = None
    for read in (RSA.import_key, ECC.import_key):
        try:
            key = read(pem, passphrase=phrase)
            break
        except (ValueError, TypeError, IndexError, KeyError):
            continue  # judged below: each reader knows its own kind, and neither tells a wrong password for sure
    if key is None and is_encrypted(pem):
        told = "does not open with private_key_password" if password else "is encrypted: set private_key_password too"
        raise ConfigError(f"private_key {told}", field="private_key_password")
    kind = "RSA" if isinstance(key, RSA.RsaKey) else getattr(key, "curve", None)
    if key is None or not key.has_private() or kind not in ("RSA", "Ed25519"):
        told = f"is of the kind {kind}" if kind else "is damaged or of an unknown kind"
        raise ConfigError(f"private_key {told}; Binance takes RSA and Ed25519", field="private_key")
    return key
