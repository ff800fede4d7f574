"""The Test button of the connection form, through a running API server: what it sends, and what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from tests.airflow.scene import Scene
from tests.keys import PASSWORD, key_pair

pytestmark = [pytest.mark.airflow, pytest.mark.postgres, pytest.mark.timeout(600)]

KEY, SECRET = "b" * 64, "the button's secret"
RSA, ED25519 = key_pair("rsa"), key_pair("ed25519")
KINDS: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]] = {
    # What Binance knows, the form's password, the form's further fields.
    "hmac": ({"api_secret": SECRET}, {"password": SECRET}, {}),
    "rsa": ({"public_key": RSA.public}, {}, {"private_key": RSA.encrypted, "private_key_password": PASSWORD}),
    "ed25519": ({"public_key": ED25519.public}, {}, {"private_key": ED25519.private.replace("\n", "\r\n")}),
}


def press(scene: Scene, extra: dict[str, Any] | None = None, **fields: str) -> tuple[bool, str]:
    """What the form does: send the fields to the API server, which makes a connection of them for a moment."""
    body = {"connection_id": "button", "conn_type": "binance", **fields}
    body["extra"] = json.dumps({**scene.binance_extra, **(extra or {})})
    answer = scene.airflow.call("POST", "/api/v2/connections/test", body)
    for secret in (SECRET, PASSWORD, RSA.encrypted.splitlines()[1], ED25519.private.splitlines()[1]):
        assert secret not in answer["message"]
    return answer["status"], answer["message"]


def account(scene: Scene, key: str, **known: Any) -> None:
    """Let Binance know a key."""
    url = f"{scene.binance_extra['spot_rest_url']}/simulator/accounts"
    assert requests.post(url, json={"api_key": key, **known}, timeout=20).status_code == 200


def test_without_a_key_only_reachability_is_checked_and_that_is_said(scene: Scene) -> None:
    """Public market data needs none."""
    ok, message = press(scene)
    assert ok, message
    assert "only reachability was checked" in message


@pytest.mark.parametrize("market", ["spot", "um", "cm"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_key_makes_one_signed_call(scene: Scene, kind: str, market: str) -> None:
    """One that may only read passes; one that may trade or withdraw passes with a warning."""
    known, password, extra = KINDS[kind]
    account(scene, KEY, **known)
    ok, message = press(scene, {**extra, "markets": [market]}, login=KEY, **password)
    assert (ok, message) == (True, f"The API key works on {market}: a signed read-only call succeeded.")
    account(scene, KEY, **known, may_trade=True, may_withdraw=True)
    ok, message = press(scene, {**extra, "markets": [market]}, login=KEY, **password)
    assert ok
    assert message.count("WARNING") == 2
    assert "may trade" in message
    assert "may withdraw" in message


def test_a_key_that_does_not_work_says_why(scene: Scene) -> None:
    """In words that lead on."""
    account(scene, KEY, api_secret=SECRET)
    wrong = {"private_key": RSA.encrypted, "private_key_password": "mistyped"}
    for fields, extra, told in (
        ({"login": KEY, "password": "other"}, {}, "does not belong to this API key"),
        ({"login": "x" * 64, "password": SECRET}, {}, "unknown or revoked"),
        ({"login": KEY}, {}, "needs api_secret"),
        ({"login": KEY}, wrong, "does not open with private_key_password"),
        ({"login": KEY}, {"private_key": RSA.public}, "is a public key"),
        ({}, {"spot_rest_url": "http://127.0.0.1:9"}, "Connection refused"),
    ):
        ok, message = press(scene, extra, **fields)
        assert not ok
        assert told in message
