"""RSA and Ed25519: what the simulator takes for a signature, and what it does not."""

from __future__ import annotations

import base64
from collections.abc import Callable
from urllib.parse import quote, urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from airflow_provider_binance.simulator.accounts import Account
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.simulator.signatures import scheme_of
from tests.keys import KINDS, key_pair
from tests.simulator.conftest import Ask

ROUTES = ["/api/v3/account", "/fapi/v2/account", "/dapi/v1/account"]
KEY = "p" * 64


def signer(kind: str) -> Callable[[str], str]:
    """The signature of a payload, base64, not encoded."""
    key = load_pem_private_key(key_pair(kind).private.encode(), None)
    extra = (PKCS1v15(), SHA256()) if kind == "rsa" else ()
    return lambda payload: base64.b64encode(key.sign(payload.encode(), *extra)).decode()  # type: ignore[union-attr, call-arg]


@pytest.fixture(params=KINDS)
def sign(request: pytest.FixtureRequest, simulator: Simulator) -> Callable[[str], str]:
    simulator.add_account(Account(KEY, scheme_of(key_pair(request.param).public)))
    return signer(request.param)


@pytest.mark.parametrize("path", ROUTES)
def test_a_signature_of_the_percent_encoded_payload_is_accepted(
    ask: Ask, simulator: Simulator, sign: Callable[[str], str], path: str
) -> None:
    """Symbols of any script included."""
    payload = urlencode({"symbol": "币安人生USDT", "note": "a b", "timestamp": simulator.now_ms()}, quote_via=quote)
    answer = ask(f"{path}?{payload}&signature={quote(sign(payload), safe='')}", {"X-MBX-APIKEY": KEY})
    assert answer.status_code == 200, answer.text


def test_everything_else_is_1022(ask: Ask, simulator: Simulator, sign: Callable[[str], str]) -> None:
    """Signed before it was encoded, another case, another payload, no base64, a key of another kind."""
    raw = f"symbol=币安人生USDT&timestamp={simulator.now_ms()}"
    payload = quote(raw, safe="=&")
    good = sign(payload)
    other = signer("rsa" if len(good) < 100 else "ed25519")(payload)
    for signature in (sign(raw), good.swapcase(), sign(payload + "0"), "no base64!", other, "00"):
        answer = ask(f"{ROUTES[0]}?{payload}&signature={quote(signature, safe='')}", {"X-MBX-APIKEY": KEY})
        assert (answer.status_code, answer.json()["code"]) == (400, -1022)


def test_a_public_key_of_another_kind_is_refused() -> None:
    """As Binance's own form refuses it."""
    for text in (key_pair("ec").public, key_pair("rsa").private, "no key"):
        with pytest.raises(ValueError, match="RSA or Ed25519"):
            scheme_of(text)


def test_accounts_come_and_go_while_it_runs(ask: Ask, simulator: Simulator) -> None:
    """By the controls: a key is made with its rights, and revoked."""
    account = {"api_key": KEY, "public_key": key_pair("ed25519").public, "may_trade": True}
    assert ask("/simulator/accounts", method="POST", json=account).status_code == 200
    payload = f"timestamp={simulator.now_ms()}"
    url = f"{ROUTES[0]}?{payload}&signature={quote(signer('ed25519')(payload), safe='')}"
    assert ask(url, {"X-MBX-APIKEY": KEY}).json()["canTrade"]
    assert ask("/simulator/accounts", method="DELETE", json={"api_key": KEY}).status_code == 200
    assert ask(url, {"X-MBX-APIKEY": KEY}).json()["code"] == -2015
    bad = ask("/simulator/accounts", method="POST", json={"api_key": KEY, "public_key": "x"})
    assert (bad.status_code, "RSA or Ed25519" in bad.text) == (400, True)
