"""exchangeInfo of the three markets."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.conftest import Ask

SPOT = "/api/v3/exchangeInfo"


def by_symbol(info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {symbol["symbol"]: symbol for symbol in info["symbols"]}


def test_spot(ask: Ask) -> None:
    """Limits, all symbols, delisted ones as BREAK."""
    info = ask(SPOT).json()
    assert {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300000} in info[
        "rateLimits"
    ]
    symbols = by_symbol(info)
    assert {name: symbol["status"] for name, symbol in symbols.items()} == {
        "BTCUSDT": "TRADING",
        "ETHUSDT": "TRADING",
        "币安人生USDT": "TRADING",
        "OLDUSDT": "BREAK",
    }
    assert symbols["BTCUSDT"]["permissions"] == []
    assert symbols["BTCUSDT"]["permissionSets"] == [["SPOT"]]
    assert symbols["BTCUSDT"]["filters"][0]["tickSize"] == "0.01000000"


@pytest.mark.parametrize(
    ("path", "limit"), [(SPOT, 6000), ("/fapi/v1/exchangeInfo", 2400), ("/dapi/v1/exchangeInfo", 2400)]
)
def test_weight_limits(ask: Ask, path: str, limit: int) -> None:
    """What is enforced is announced; without limits, a million."""
    expected = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
    assert ask(path).json()["rateLimits"][0] == {**expected, "limit": 1_000_000}
    with Simulator(symbols=["BTCUSDT"]) as limited:
        url = limited.settings["BINANCE_SPOT_REST_URL"] + path
        assert requests.get(url, timeout=5).json()["rateLimits"][0] == {**expected, "limit": limit}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"symbol": "ETHUSDT"}, ["ETHUSDT"]),
        ({"symbols": json.dumps(["ETHUSDT", "币安人生USDT"], ensure_ascii=False)}, ["ETHUSDT", "币安人生USDT"]),
        ({"symbolStatus": "BREAK"}, ["OLDUSDT"]),
        ({"permissions": "SPOT", "symbolStatus": "BREAK"}, ["OLDUSDT"]),
        ({"permissions": "TRD_GRP_005"}, []),
    ],
)
def test_spot_selections(ask: Ask, params: dict[str, str], expected: list[str]) -> None:
    """One symbol, a list, a status, permissions."""
    assert list(by_symbol(ask(SPOT, **params).json())) == expected


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"symbol": "NOSUCH"}, -1121),
        ({"symbol": "btcusdt"}, -1100),
        ({"symbol": "BTCUSDT", "symbols": '["ETHUSDT"]'}, -1128),
        ({"symbols": '["ETHUSDT","ETHUSDT"]'}, -1151),
        ({"symbols": "ETHUSDT"}, -1130),
        ({"symbolStatus": "GONE"}, -1122),
        ({"limit": 5}, -1104),
    ],
)
def test_spot_refusals(ask: Ask, params: dict[str, str], code: int) -> None:
    """Unknown symbols and parameters that exclude each other."""
    answer = ask(SPOT, **params)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_um(ask: Ask, simulator: Simulator) -> None:
    """Life and status of contracts; those long delisted are absent, those to come are announced."""
    info = ask("/fapi/v1/exchangeInfo").json()
    assert info["futuresType"] == "U_MARGINED"
    symbols = by_symbol(info)
    assert {name: symbol["status"] for name, symbol in symbols.items()} == {
        "BTCUSDT": "TRADING",
        "ETHUSDT": "TRADING",
        "BTCUSDT_261225": "TRADING",
        "币安人生USDT": "TRADING",
        "LATELYUSDT": "SETTLING",
        "SOONUSDT": "PENDING_TRADING",
    }
    assert symbols["BTCUSDT"]["contractType"] == "PERPETUAL"
    assert symbols["BTCUSDT"]["deliveryDate"] == 4133404800000
    assert symbols["BTCUSDT"]["onboardDate"] == to_ms("2019-12-31")
    assert symbols["BTCUSDT_261225"]["contractType"] == "CURRENT_QUARTER"
    assert symbols["BTCUSDT_261225"]["deliveryDate"] == to_ms("2026-12-25T08:00")
    simulator.set_clock("2026-08-01")
    assert by_symbol(ask("/fapi/v1/exchangeInfo").json())["BTCUSDT_261225"]["contractType"] == "NEXT_QUARTER"


def test_cm(ask: Ask) -> None:
    """contractStatus, contractSize, and the coin as margin."""
    symbol = by_symbol(ask("/dapi/v1/exchangeInfo").json())["BTCUSD_PERP"]
    assert (symbol["contractStatus"], symbol["contractSize"], symbol["pair"]) == ("TRADING", 100, "BTCUSD")
    assert symbol["marginAsset"] == "BTC"
    assert "status" not in symbol


def test_filters_come_in_any_order(ask: Ask, simulator: Simulator) -> None:
    """Backend nodes differ in the order of the filters, not in what they say."""
    one = ask("/fapi/v1/exchangeInfo").json()["symbols"][0]["filters"]
    simulator.set_clock(simulator.now_ms() + 1000)
    two = ask("/fapi/v1/exchangeInfo").json()["symbols"][0]["filters"]
    assert one != two
    assert sorted(map(str, one)) == sorted(map(str, two))


def test_time_in_microseconds(ask: Ask, simulator: Simulator) -> None:
    """The unit is that of every answer of spot, and a bad one is refused by every route."""
    fine = {"X-MBX-TIME-UNIT": "MICROSECOND"}
    assert ask("/api/v3/exchangeInfo", fine).json()["serverTime"] == simulator.now_ms() * 1000
    for path in ("ping", "depth?symbol=BTCUSDT", "trades?symbol=BTCUSDT"):
        assert ask(f"/api/v3/{path}", {"X-MBX-TIME-UNIT": "DAY"}).json()["code"] == -1194
