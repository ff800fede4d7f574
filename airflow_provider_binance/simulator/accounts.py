"""Accounts that the simulator knows, and Binance's rules for signed requests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from airflow_provider_binance.simulator.errors import (
    ahead_of_server,
    bad_key_format,
    illegal_characters,
    invalid_data,
    invalid_signature,
    mandatory_missing,
    outside_recv_window,
    unknown_key,
)
from airflow_provider_binance.simulator.parameters import DIGITS, FIRST_MICROSECONDS
from airflow_provider_binance.simulator.signatures import HmacSha256, SignatureScheme, scheme_of
from airflow_provider_binance.simulator.wire import Request

# Made up, and of the form that Binance's keys have.
DEFAULT_API_KEY = "simulatorKey0000000000000000000000000000000000000000000000000000"
DEFAULT_API_SECRET = "simulatorSecret0000000000000000000000000000000000000000000000000"  # noqa: S105 - not a secret

DEFAULT_RECV_WINDOW = "5000"
LONGEST_RECV_WINDOW_MS = 60000
AHEAD_MS = 1000
# Spot alone takes fractions of a millisecond, and timestamps in microseconds.
SPOT_PREFIXES = ("/api/", "/sapi/")
SPOT_RECV_WINDOW = r"^\d{1,16}(\.\d{1,3})?$"

_SIGNATURE = re.compile(r"(?:^|&)signature=([^&]*)")


@dataclass(frozen=True)
class Account:
    """An API key, how it signs, and what it may do."""

    api_key: str = field(repr=False)
    scheme: SignatureScheme = field(repr=False)
    may_trade: bool = False
    may_withdraw: bool = False
    ip_restricted: bool = False


def default_account(
    api_key: str | None = None, api_secret: str | None = None, public_key: str | None = None
) -> Account:
    """An account with HMAC keys, the simulator's own unless given; with a public key (PEM) it signs by that.

    Raises:
        ValueError: see :func:`scheme_of`.
    """
    scheme = scheme_of(public_key) if public_key else HmacSha256(api_secret or DEFAULT_API_SECRET)
    return Account(api_key or DEFAULT_API_KEY, scheme)


class Accounts:
    """All accounts by key."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._accounts = {account.api_key: account for account in accounts}

    def add(self, account: Account) -> None:
        """Let the simulator know one more key, or a known key anew."""
        self._accounts[account.api_key] = account

    def remove(self, api_key: str) -> None:
        """Revoke a key."""
        self._accounts.pop(api_key, None)

    def identify(self, request: Request) -> Account:
        """The account whose key was sent.

        Raises:
            ApiError: -2014 or -2015.
        """
        key = request.header("X-MBX-APIKEY")
        account = self._accounts.get(key or "")
        if account is None:
            raise unknown_key() if re.fullmatch(r"[A-Za-z0-9]{64}", key or "") else bad_key_format()
        return account

    def authenticate(self, request: Request, now_ms: int) -> Account:
        """The account that signed the request.

        The checks come in Binance's order: key, timestamp, signature.

        Raises:
            ApiError: -2014, -2015, -1102, -1021 or -1022.
        """
        account = self.identify(request)
        # Where a parameter is in both, the query string wins.
        parameters = dict(parse_qsl(request.body.decode("utf-8", "replace"))) | dict(parse_qsl(request.query))
        _check_time(parameters, now_ms, spot=request.path.startswith(SPOT_PREFIXES))
        payload, signature = _signed_payload(request, parameters)
        # What is not percent-encoded is refused even if signed as it is (since 2026-01-15).
        if not payload.isascii() or not account.scheme.verify(payload, signature):
            raise invalid_signature()
        return account


def _check_time(parameters: dict[str, str], now_ms: int, *, spot: bool) -> None:
    text = parameters.get("timestamp")
    if not text:
        raise mandatory_missing("timestamp")
    if not (text.isascii() and text.isdigit()):
        raise illegal_characters("timestamp", "^[0-9]{1,20}$")
    timestamp_ms = int(text)
    if spot and timestamp_ms >= FIRST_MICROSECONDS:
        timestamp_ms //= 1000
    legal = SPOT_RECV_WINDOW if spot else DIGITS
    window = parameters.get("recvWindow", DEFAULT_RECV_WINDOW)
    if not re.fullmatch(legal, window, re.ASCII):
        raise illegal_characters("recvWindow", legal)
    recv_window_ms = float(window)
    if recv_window_ms > LONGEST_RECV_WINDOW_MS:
        raise invalid_data("recvWindow")
    if timestamp_ms >= now_ms + AHEAD_MS:
        raise ahead_of_server()
    if now_ms - timestamp_ms > recv_window_ms:
        raise outside_recv_window()


def _signed_payload(request: Request, parameters: dict[str, str]) -> tuple[bytes, str]:
    """Query string and body as sent, without the signature, and the signature."""
    signature = parameters.get("signature")
    if not signature:
        raise mandatory_missing("signature")
    query = _SIGNATURE.sub("", request.query)
    body = _SIGNATURE.sub("", request.body.decode("utf-8", "replace"))
    return (query + body).encode(), signature
