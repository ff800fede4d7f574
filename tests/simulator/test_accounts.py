"""Signed requests: key, clock and signature."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlencode

import pytest

from airflow_provider_binance.simulator.accounts import DEFAULT_API_SECRET, Account
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.simulator.signatures import HmacSha256
from tests.simulator.conftest import Ask

SIGNED = [
    "/api/v3/account",
    "/sapi/v1/account/apiRestrictions",
    "/fapi/v2/account",
    "/fapi/v3/account",
    "/dapi/v1/account",
]


def signed(timestamp: int, secret: str = DEFAULT_API_SECRET, **params: object) -> str:
    query = urlencode({**params, "timestamp": timestamp})
    return f"?{query}&signature={hmac.new(secret.encode(), query.encode(), hashlib.sha256).hexdigest()}"


@pytest.mark.parametrize("path", SIGNED)
def test_signed_request_is_answered(ask: Ask, simulator: Simulator, path: str) -> None:
    """A known key, a fresh timestamp and the right signature open every account route."""
    answer = ask(path + signed(simulator.now_ms(), recvWindow=5000), {"X-MBX-APIKEY": simulator.api_key})
    assert answer.status_code == 200


@pytest.mark.parametrize("offset", [-5000, 0, 999])
def test_clock_that_is_near_enough(ask: Ask, simulator: Simulator, offset: int) -> None:
    """Up to the window late and less than a second early."""
    answer = ask(SIGNED[0] + signed(simulator.now_ms() + offset), {"X-MBX-APIKEY": simulator.api_key})
    assert answer.status_code == 200


@pytest.mark.parametrize("offset", [-5001, 1000])
def test_clock_that_is_off(ask: Ask, simulator: Simulator, offset: int) -> None:
    """Outside of that it is -1021."""
    answer = ask(SIGNED[0] + signed(simulator.now_ms() + offset), {"X-MBX-APIKEY": simulator.api_key})
    assert (answer.status_code, answer.json()["code"]) == (400, -1021)


def test_wrong_keys_and_signatures(ask: Ask, simulator: Simulator) -> None:
    """Malformed and unknown keys are 401, missing parameters and a wrong signature 400."""
    now, key = simulator.now_ms(), simulator.api_key

    def code(query: str, headers: dict[str, str]) -> tuple[int, int]:
        answer = ask(SIGNED[0] + query, headers)
        return answer.status_code, answer.json()["code"]

    assert code(signed(now), {}) == (401, -2014)
    assert code(signed(now), {"X-MBX-APIKEY": "short"}) == (401, -2014)
    assert code(signed(now), {"X-MBX-APIKEY": "x" * 64}) == (401, -2015)
    assert code(signed(now, secret="other"), {"X-MBX-APIKEY": key}) == (400, -1022)
    assert code(signed(now) + "&extra=1", {"X-MBX-APIKEY": key}) == (400, -1022)
    assert code(f"?timestamp={now}", {"X-MBX-APIKEY": key}) == (400, -1102)
    assert code("?signature=00", {"X-MBX-APIKEY": key}) == (400, -1102)
    assert code(signed(now, recvWindow=60001), {"X-MBX-APIKEY": key}) == (400, -1130)


def test_vector_of_the_documentation() -> None:
    """The HMAC example of Binance's futures documentation."""
    scheme = HmacSha256("2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9")
    order = b"symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC"
    payload = order + b"&recvWindow=5000&timestamp=1591702613943"
    assert scheme.verify(payload, "3C661234138461FCC7A7D8746C6558C9842D4E10870D2ECBEDF7777CAD694AF9")


def test_rights_of_a_key(ask: Ask, simulator: Simulator) -> None:
    """An account that may trade and withdraw says so."""
    simulator.add_account(Account("k" * 64, HmacSha256("s"), may_trade=True, may_withdraw=True))
    rights = ask(SIGNED[1] + signed(simulator.now_ms(), secret="s"), {"X-MBX-APIKEY": "k" * 64}).json()
    assert rights["enableReading"]
    assert rights["enableSpotAndMarginTrading"]
    assert rights["enableWithdrawals"]
    assert not rights["ipRestrict"]


def test_public_routes_ignore_keys(ask: Ask) -> None:
    """A wrong key does no harm where none is needed."""
    assert ask("/api/v3/ping", {"X-MBX-APIKEY": "short"}).status_code == 200


def test_secrets_are_not_in_reprs(simulator: Simulator) -> None:
    """An account can be logged."""
    assert DEFAULT_API_SECRET not in repr(simulator.account)
