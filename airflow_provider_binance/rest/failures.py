"""What an answer that is no answer means, and whether to try again: pure functions of status, headers and body."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_binance.errors import (
    AuthenticationError,
    BannedError,
    BinanceError,
    BlockedError,
    ClockSkewError,
    MalformedResponseError,
    RequestRejectedError,
    RestrictedLocationError,
    ThrottledError,
    UnreachableError,
)
from airflow_provider_binance.market import Market

ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
# The firewall blocks for minutes, and asking on makes it longer: few tries, far apart.
BLOCKED_ATTEMPTS = 2
BLOCKED_PAUSE_SECONDS = 30.0
#: A hold that is longer is the caller's to wait for (a task's retry), not a request's.
LONGEST_HOLD_SECONDS = 65.0
DEFAULT_BAN_SECONDS = 120.0
SHOWN_BYTES = 200

_CLOCK_CODE = -1021
_KEY_CODES = {-2014, -2015}
_SIGNATURE_CODE = -1022
_KEY_ADVICE = {
    -2014: "the API key is not of Binance's form: was all of it copied, and nothing else?",
    -2015: "the API key is unknown or revoked, this address is not in its list, or it lacks the right",
    _SIGNATURE_CODE: "api_secret or private_key does not belong to this API key",
}
_BANNED_UNTIL = re.compile(r"banned until (\d{13})")


def failure(
    status: int, headers: Mapping[str, str], body: bytes, *, market: Market, path: str, now_ms: int
) -> BinanceError | None:
    """The error that an answer means; None if it is one (2xx). `now_ms` is the server's time."""
    if 200 <= status < 300:
        return None
    code, msg = _envelope(body)
    facts: dict[str, Any] = {"status": status, "code": code}
    said = f"{market} {path}: HTTP {status}" + (f" code {code}: {msg}" if code is not None else f": {msg}")
    if status in {418, 429}:
        wait = hold_seconds(status, headers, body, now_ms)
        kind: type[BinanceError] = BannedError if status == 418 else ThrottledError
        return kind(f"{said} (retry after {wait:.0f} s)", retry_after=wait, **facts)
    if status == 451:
        return RestrictedLocationError(f"{said}. {way_out(market)}", **facts)
    if status == 403:
        return BlockedError(f"{said} (the web application firewall)", retry_after=BLOCKED_PAUSE_SECONDS, **facts)
    if code == _CLOCK_CODE:
        return ClockSkewError(said, **facts)
    if status == 401 or code in _KEY_ADVICE:
        advice = _KEY_ADVICE.get(code or 0)
        return AuthenticationError(f"{said} ({advice})" if advice else said, **facts)
    if status == 408 or status >= 500:
        return UnreachableError(said, **facts)
    if 300 <= status < 400:
        return MalformedResponseError(f"{said}: redirects are not followed; is the REST URL right?", **facts)
    return RequestRejectedError(said, msg=msg, **facts)


def refuses_the_key(status: int, body: bytes) -> bool:
    """Whether an answer says that the API key is not taken, so that nothing was done with the request."""
    return status == 401 or _envelope(body)[0] in _KEY_CODES


def hold_seconds(status: int, headers: Mapping[str, str], body: bytes, now_ms: int) -> float:
    """How long nobody should ask after a 429 or 418: `Retry-After`, the body's "banned until", else a safe guess."""
    waits = []
    try:
        waits.append(float(headers.get("Retry-After", "")))
    except ValueError:
        pass  # futures do not document it
    if found := _BANNED_UNTIL.search(body.decode("utf-8", "replace")):
        waits.append((int(found[1]) - now_ms) / 1000)
    known = [wait for wait in waits if 0 <= wait < 4 * 86_400]
    if known:
        return max(known)
    return DEFAULT_BAN_SECONDS if status == 418 else (60_000 - now_ms % 60_000) / 1000 + 1


#: Above this an answer is not parsed just to be checked.
LARGE_BYTES = 200_000


def check_json(body: bytes, *, market: Market, path: str) -> None:
    """Raise MalformedResponseError unless `body` can be whole JSON.

    Pages are judged by their brackets, which costs next to nothing; only what that cannot tell is parsed.
    """
    text = body.strip()
    ends = text[:1] + text[-1:]
    is_balanced = text.count(b"[") == text.count(b"]") and text.count(b"{") == text.count(b"}")
    # exchangeInfo is megabytes: parsed in one go it would hold up every other thread, event loops included.
    if ends in (b"[]", b"{}") and is_balanced and (b"{" not in text or len(text) > LARGE_BYTES):
        return
    try:
        json.loads(text)
    except ValueError:
        shown = text[:SHOWN_BYTES].decode("utf-8", "replace")
        raise MalformedResponseError(f"{market} {path}: the answer is no JSON or is cut short: {shown!r}") from None


def pause(error: BinanceError, attempt: int, random: Callable[[], float], attempts: int = ATTEMPTS) -> float | None:
    """Seconds to sleep before the next try after `attempt` (1, 2, …) ended in `error`; None: give up."""
    if not error.retryable or attempt >= attempts:
        return None
    if isinstance(error, (ThrottledError, BannedError)):
        wait = error.retry_after or 0.0
        return wait if wait <= LONGEST_HOLD_SECONDS else None
    if isinstance(error, BlockedError):
        return BLOCKED_PAUSE_SECONDS * (1 + random()) if attempt < BLOCKED_ATTEMPTS else None
    return random() * min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * (1 << attempt))


def _envelope(body: bytes) -> tuple[int | None, str]:
    """Binance's `{"code", "msg"}`; otherwise None and the beginning of the text."""
    try:
        parsed = json.loads(body)
        return int(parsed["code"]), str(parsed.get("msg", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, body[:SHOWN_BYTES].decode("utf-8", "replace").strip()


def way_out(market: Market) -> str:
    """What to do where Binance does not serve the location."""
    archive = "load from the archive (--source archive), which is served everywhere"
    if market is Market.SPOT:
        return f"Use the data-only host, spot_rest_url=https://data-api.binance.vision, or {archive}"
    return f"Binance has no other REST host for futures: {archive}"
