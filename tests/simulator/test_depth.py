"""REST depth: limits, shapes, and a book that goes with the trades."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.conftest import NOW, Ask

SPOT, UM, CM = "/api/v3/depth", "/fapi/v1/depth", "/dapi/v1/depth"


@pytest.mark.parametrize(
    ("path", "symbol", "names"),
    [
        (SPOT, "BTCUSDT", "lastUpdateId bids asks"),
        (UM, "BTCUSDT", "lastUpdateId E T bids asks"),
        (CM, "BTCUSD_PERP", "lastUpdateId symbol pair E T bids asks"),
    ],
)
def test_shape_of_a_book(ask: Ask, path: str, symbol: str, names: str) -> None:
    """Pairs of texts, the best first, bids below asks, around the last trade."""
    book = ask(path, symbol=symbol, limit=20).json()
    assert list(book) == names.split()
    bids, asks = ([Decimal(price) for price, _ in book[side]] for side in ("bids", "asks"))
    assert (len(bids), len(asks)) == (20, 20)
    assert bids == sorted(set(bids), reverse=True)
    assert asks == sorted(set(asks))
    assert bids[0] < asks[0]
    last = Decimal(ask(path.replace("depth", "trades"), symbol=symbol, limit=1).json()[0]["price"])
    assert bids[3] < last < asks[3]
    assert all(Decimal(quantity) > 0 for side in ("bids", "asks") for _, quantity in book[side])


@pytest.mark.parametrize(
    ("path", "params", "levels"),
    [
        (SPOT, {}, 100),
        (SPOT, {"limit": 7}, 7),
        (SPOT, {"limit": 5000}, 5000),
        (SPOT, {"limit": 9000}, 5000),
        (SPOT, {"symbolStatus": "TRADING"}, 100),
        (UM, {}, 500),
        (UM, {"limit": 1000}, 1000),
    ],
)
def test_limits(ask: Ask, path: str, params: dict[str, Any], levels: int) -> None:
    """Spot takes any number and cuts in silence, futures have a few sizes."""
    book = ask(path, symbol="BTCUSDT", **params).json()
    assert (len(book["bids"]), len(book["asks"])) == (levels, levels)


@pytest.mark.parametrize(
    ("path", "symbol", "params", "code"),
    [
        (SPOT, None, {}, -1102),
        (SPOT, "btcusdt", {}, -1100),
        (SPOT, "NOSUCH", {}, -1121),
        (SPOT, "BTCUSDT", {"limit": 0}, -1130),
        (SPOT, "BTCUSDT", {"side": "BUY"}, -1104),
        (SPOT, "BTCUSDT", {"symbolStatus": "OPEN"}, -1122),
        (SPOT, "BTCUSDT", {"symbolStatus": "HALT"}, -1220),
        (UM, "BTCUSDT", {"limit": 7}, -4021),
        (UM, "BTCUSDT", {"limit": 1001}, -1130),
        (CM, "BTCUSD_PERP", {"limit": 200}, -4021),
        (UM, "GONEUSDT", {}, -1122),
        (UM, "BTCUSD_PERP", {}, -1121),
    ],
)
def test_refusals(ask: Ask, path: str, symbol: str | None, params: dict[str, Any], code: int) -> None:
    """Each bad request has Binance's code."""
    answer = ask(path, symbol=symbol, **params)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_book_moves_in_steps(ask: Ask, simulator: Simulator) -> None:
    """Within 100 ms it stands still; then ids grow and some, not all, levels change."""
    now = to_ms(NOW)
    one = ask(UM, symbol="BTCUSDT", limit=1000).json()
    simulator.set_clock(now + 99)
    assert ask(UM, symbol="BTCUSDT", limit=1000).json() | {"E": 0} == one | {"E": 0}
    simulator.set_clock(now + 100)
    two = ask(UM, symbol="BTCUSDT", limit=1000).json()
    assert two["lastUpdateId"] > one["lastUpdateId"]
    changed = {tuple(level) for level in one["bids"]} ^ {tuple(level) for level in two["bids"]}
    assert 0 < len(changed) < 500


def test_no_book_after_delisting(ask: Ask) -> None:
    """Spot still answers, with nothing in it."""
    assert ask(SPOT, symbol="OLDUSDT").json()["bids"] == []
