from __future__ import annotations

import base64
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import quote

import pytest

from airflow_provider_binance.errors import ConfigError, NaiveTimeError
from airflow_provider_binance.hooks.binance import BinanceHook
from airflow_provider_binance.simulator.accounts import Account
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.simulator.signatures import HmacSha256, scheme_of
from tests.airflow.conftest import extras
from tests.keys import key_pair

KEY, SECRET = "k" * 64, "s" * 64


def test_construction_reads_nothing() -> None:
    hook = BinanceHook("not_there", store_conn_id="neither")
    with pytest.raises(ConfigError, match="not_there"):
        hook.get_conn()


@pytest.mark.usefixtures("connections")
def test_get_conn_is_a_metered_client(simulator: Simulator) -> None:
    with closing(BinanceHook()) as hook:
        assert hook.get_conn().get_server_time()["serverTime"] == simulator.now_ms()


@pytest.mark.usefixtures("connections")
def test_request_and_server_now(simulator: Simulator) -> None:
    with closing(BinanceHook()) as hook:
        assert hook.request("GET", "/api/v3/time")["serverTime"] == simulator.now_ms()
        assert abs(hook.server_now("um").timestamp() * 1000 - simulator.now_ms()) < 5000


@pytest.mark.usefixtures("connections")
def test_get_klines_are_exact_and_closed(simulator: Simulator) -> None:
    start, end = datetime(2026, 11, 20, 9, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)
    klines = BinanceHook().get_klines("BTCUSDT", "1h", start, end)
    truth = simulator.truth("spot", "BTCUSDT", "1h", start, end)
    assert [k.open_time.hour for k in klines] == [9, 10, 11]
    assert [(k.open, k.close, k.volume) for k in klines] == [
        (Decimal(row[1]), Decimal(row[4]), Decimal(row[5])) for row in truth
    ]


@pytest.mark.usefixtures("connections")
def test_get_klines_refuses_naive_times() -> None:
    with pytest.raises(NaiveTimeError):
        BinanceHook().get_klines("BTCUSDT", "1h", datetime(2026, 11, 20), datetime(2026, 11, 21, tzinfo=UTC))


@pytest.mark.usefixtures("connections")
def test_test_connection_without_a_key_says_what_it_checked() -> None:
    ok, message = BinanceHook().test_connection()
    assert ok
    assert "only reachability" in message


@pytest.mark.parametrize(("may_trade", "warned"), [(False, False), (True, True)])
def test_test_connection_with_a_key(
    simulator: Simulator, set_connection: Callable[..., None], may_trade: bool, warned: bool
) -> None:
    simulator.add_account(Account(KEY, HmacSha256(SECRET), may_trade=may_trade))
    set_connection("binance_default", conn_type="binance", login=KEY, password=SECRET, extra=extras(simulator))
    ok, message = BinanceHook().test_connection()
    assert ok, message
    assert "signed" in message
    assert ("WARNING" in message) is warned
    signed = [record for record in simulator.requests if record.header("X-MBX-APIKEY")]
    assert [record.method for record in signed] == ["GET"]


def test_test_connection_with_a_wrong_secret_fails_and_tells_no_secret(
    simulator: Simulator, set_connection: Callable[..., None]
) -> None:
    simulator.add_account(Account(KEY, HmacSha256(SECRET)))
    set_connection("binance_default", conn_type="binance", login=KEY, password="w" * 64, extra=extras(simulator))
    ok, message = BinanceHook().test_connection()
    assert not ok
    assert KEY not in message
    assert "w" * 64 not in message


def test_test_connection_names_the_connection_when_a_setting_is_wrong(set_connection: Callable[..., None]) -> None:
    set_connection("binance_default", conn_type="binance", extra={"testnet": "perhaps"})
    ok, message = BinanceHook().test_connection()
    assert not ok
    assert "binance_default" in message
    assert "testnet" in message


def test_test_connection_is_quick_when_nobody_answers(set_connection: Callable[..., None]) -> None:
    """One try, not the patience of a load."""
    hosts = dict.fromkeys(
        ("spot_rest_url", "um_rest_url", "cm_rest_url", "archive_url", "archive_listing_url"), "http://127.0.0.1:9"
    )
    set_connection("binance_default", conn_type="binance", extra=hosts)
    began = time.monotonic()
    ok, message = BinanceHook().test_connection()
    assert not ok
    assert time.monotonic() - began < 5
    assert message


def test_key_and_its_spellings_are_masked(
    simulator: Simulator, set_connection: Callable[..., None], mocker: object
) -> None:
    key = "login/+with=signs"
    set_connection("binance_default", conn_type="binance", login=key, extra=extras(simulator))
    masked: list[str] = []
    mocker.patch("airflow.sdk.log.mask_secret", lambda secret, name=None: masked.append(str(secret)))  # type: ignore[attr-defined]
    assert BinanceHook().config.api_key is not None
    assert {key, quote(key, safe=""), base64.b64encode(key.encode()).decode()} <= set(masked)
    assert key not in repr(BinanceHook().config)


def test_a_rotated_connection_is_read_again_when_the_key_is_refused(
    simulator: Simulator, set_connection: Callable[..., None], mocker: object
) -> None:
    """The task goes on with the new key, which is masked like the first; hosts and the rest stay what they were."""
    masked: list[str] = []
    mocker.patch("airflow.sdk.log.mask_secret", lambda secret, name=None: masked.append(str(secret)))  # type: ignore[attr-defined]
    simulator.add_account(Account(KEY, HmacSha256(SECRET)))
    set_connection("binance_default", conn_type="binance", login=KEY, password=SECRET, extra=extras(simulator))
    pair = key_pair("ed25519")
    with closing(BinanceHook()) as hook:
        assert hook.request("GET", "/api/v3/account", signed=True)["accountType"] == "SPOT"
        simulator.add_account(Account("n" * 64, scheme_of(pair.public)))
        simulator.remove_account(KEY)
        extra = {**extras(simulator), "private_key": pair.private, "spot_rest_url": "http://127.0.0.1:9"}
        set_connection("binance_default", conn_type="binance", login="n" * 64, extra=extra)
        assert hook.request("GET", "/fapi/v2/account", market="um", signed=True)["canTrade"] is False
        assert hook.get_conn().get_account()["accountType"] == "SPOT"
    keys = [key[0] for record in simulator.requests if (key := record.header("X-MBX-APIKEY"))]
    assert keys[:2] == ["k", "k"]
    assert set(keys[2:]) == {"n"}  # two calls, each of which may have been tried again
    assert {KEY, SECRET, "n" * 64, pair.private} <= set(masked)
