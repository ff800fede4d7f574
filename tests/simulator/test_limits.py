"""Weights, windows, 429 and bans."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.limits import (
    BANNED_PATIENCE,
    FIRST_BAN_MS,
    LONGEST_BAN_MS,
    PATIENCE,
    WeightLimiter,
)
from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.conftest import Ask

MINUTE = 60_000


@pytest.mark.parametrize(
    ("path", "params", "weight"),
    [
        ("/api/v3/ping", {}, 1),
        ("/api/v3/time", {}, 1),
        ("/api/v3/exchangeInfo", {}, 20),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 1000}, 2),
        ("/api/v3/klines", {"symbol": "NOSUCH", "interval": "1m"}, 2),
        ("/api/v3/account", {}, 20),
        ("/fapi/v1/exchangeInfo", {}, 1),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m"}, 5),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 100}, 1),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 101}, 2),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 500}, 2),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 1000}, 5),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 1001}, 10),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 1501}, 10),
        ("/dapi/v1/klines", {"symbol": "BTCUSD_PERP", "interval": "1m", "limit": 99}, 1),
        ("/dapi/v1/klines", {"symbol": "BTCUSD_PERP", "interval": "1m", "limit": 100}, 2),
        ("/dapi/v1/klines", {"symbol": "BTCUSD_PERP", "interval": "1m", "limit": 500}, 5),
        ("/dapi/v1/klines", {"symbol": "BTCUSD_PERP", "interval": "1m", "limit": 1001}, 10),
        ("/fapi/v2/account", {}, 5),
        ("/api/v3/trades", {"symbol": "BTCUSDT", "limit": 1}, 25),
        ("/api/v3/historicalTrades", {"symbol": "BTCUSDT", "limit": 1}, 25),
        ("/api/v3/aggTrades", {"symbol": "BTCUSDT", "limit": 1}, 4),
        ("/api/v3/depth", {"symbol": "BTCUSDT"}, 5),
        ("/api/v3/depth", {"symbol": "BTCUSDT", "limit": 100}, 5),
        ("/api/v3/depth", {"symbol": "BTCUSDT", "limit": 101}, 25),
        ("/api/v3/depth", {"symbol": "BTCUSDT", "limit": 501}, 50),
        ("/api/v3/depth", {"symbol": "BTCUSDT", "limit": 1001}, 250),
        ("/api/v3/depth", {"symbol": "BTCUSDT", "limit": 9999}, 250),
        ("/fapi/v1/trades", {"symbol": "BTCUSDT", "limit": 1}, 5),
        ("/fapi/v1/historicalTrades", {"symbol": "BTCUSDT"}, 200),
        ("/fapi/v1/aggTrades", {"symbol": "BTCUSDT", "limit": 1}, 20),
        ("/fapi/v1/depth", {"symbol": "BTCUSDT"}, 1),
        ("/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": 50}, 2),
        ("/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": 100}, 5),
        ("/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": 500}, 10),
        ("/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": 1000}, 20),
        ("/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": 7}, 1),
        ("/dapi/v1/trades", {"symbol": "BTCUSD_PERP", "limit": 1}, 5),
        ("/dapi/v1/historicalTrades", {"symbol": "BTCUSD_PERP"}, 200),
        ("/dapi/v1/aggTrades", {"symbol": "BTCUSD_PERP", "limit": 1}, 20),
        ("/dapi/v1/depth", {"symbol": "BTCUSD_PERP"}, 10),
    ],
)
def test_weights(ask: Ask, simulator: Simulator, path: str, params: dict[str, Any], weight: int) -> None:
    """What each request costs, refused or not; the header includes the request itself."""
    answer = ask(path, **params)
    assert answer.headers["x-mbx-used-weight-1m"] == str(weight)
    assert ("x-mbx-used-weight" in answer.headers) == path.startswith("/api/")
    assert simulator.requests[-1].weight == weight


def test_um_and_cm_share_a_pool(ask: Ask) -> None:
    """Spot counts for itself."""
    ask("/fapi/v1/ping")
    assert ask("/dapi/v1/ping").headers["x-mbx-used-weight-1m"] == "2"
    assert ask("/api/v3/ping").headers["x-mbx-used-weight-1m"] == "1"


def test_archive_weighs_nothing(ask: Ask, simulator: Simulator) -> None:
    """Neither files nor listings have weight headers."""
    assert "x-mbx-used-weight-1m" not in ask("/listing", prefix="data/", delimiter="/").headers
    assert simulator.requests[-1].weight == 0


def test_windows_are_minutes_of_the_simulated_clock() -> None:
    """The count begins anew with the UTC minute, not a minute after the first request."""
    limiter = WeightLimiter()
    assert limiter.charge("a", "spot", 6000, 59_999).status == 200
    assert limiter.charge("a", "spot", 1, 60_000).used_weight == 1


def test_429_then_418_then_longer_bans() -> None:
    """A handful of refusals, then bans that double up to three days."""
    limiter = WeightLimiter()
    now = 10 * MINUTE + 15_500
    limiter.charge("a", "futures", 2400, now)
    verdicts = [limiter.charge("a", "futures", 1, now) for _ in range(PATIENCE + 1)]
    assert [verdict.status for verdict in verdicts] == [429] * PATIENCE + [418]
    assert verdicts[0].retry_after == 45
    assert verdicts[-1].banned_until_ms == now + FIRST_BAN_MS
    assert verdicts[-1].retry_after == 120
    assert limiter.charge("a", "spot", 1, now).status == 200
    assert limiter.charge("b", "futures", 1, now).status == 200
    lengths = []
    for _ in range(15):
        now += LONGEST_BAN_MS
        lengths.append(limiter.ban("a", "futures", now).banned_until_ms - now)
    assert lengths[0] == 2 * FIRST_BAN_MS
    assert lengths[-1] == LONGEST_BAN_MS


def test_hammering_during_a_ban_makes_it_longer() -> None:
    """A few that were on their way do no harm; whoever goes on is banned anew, for twice as long."""
    limiter = WeightLimiter()
    limiter.ban("a", "spot", 0)
    verdicts = [limiter.charge("a", "spot", 1, 1000) for _ in range(BANNED_PATIENCE + 1)]
    assert [verdict.banned_until_ms for verdict in verdicts[:-1]] == [FIRST_BAN_MS] * BANNED_PATIENCE
    assert verdicts[-1].banned_until_ms == 1000 + 2 * FIRST_BAN_MS


def test_over_the_limit_on_the_wire() -> None:
    """429 and 418 with Retry-After, Binance's body and headers; the ban ends by the simulator's clock."""
    with Simulator(now="2026-11-20T12:00:15Z", speed=0) as simulator, requests.Session() as session:
        url = simulator.settings["BINANCE_SPOT_REST_URL"] + "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1501"
        answers = [session.get(url, timeout=10) for _ in range(240 + PATIENCE + 2)]
        assert [answer.status_code for answer in answers] == [400] * 240 + [429] * PATIENCE + [418] * 2
        throttled, banned = answers[240], answers[-1]
        assert throttled.json()["code"] == banned.json()["code"] == -1003
        assert throttled.headers["Retry-After"] == "45"
        assert banned.headers["Retry-After"] == "120"
        assert f"IP banned until {to_ms('2026-11-20T12:02:15')}" in banned.json()["msg"]
        assert int(banned.headers["x-mbx-used-weight-1m"]) > 2400
        simulator.set_clock("2026-11-20T12:02:14Z")
        assert session.get(url, timeout=10).status_code == 418
        simulator.set_clock("2026-11-20T12:02:15Z")
        assert session.get(url, timeout=10).status_code == 400


def test_raw_requests_of_spot() -> None:
    """Spot also counts requests in windows of five minutes."""
    limiter = WeightLimiter(limits={"spot": 10**9, "futures": 10**9})
    for _ in range(300_000):
        limiter.charge("a", "spot", 0, 60_000)
    verdict = limiter.charge("a", "spot", 0, 60_000)
    assert (verdict.status, verdict.retry_after) == (429, 240)
    assert limiter.charge("a", "spot", 0, 300_000).status == 200
