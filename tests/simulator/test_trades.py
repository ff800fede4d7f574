"""REST trades, historicalTrades and aggTrades of the three markets: shapes, pages, windows, keys, refusals."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.conftest import NOW, Ask

PREFIX = {"spot": "/api/v3", "um": "/fapi/v1", "cm": "/dapi/v1"}
SYMBOL = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP"}
HOUR = 3_600_000
DAY = 24 * HOUR
NOW_MS = to_ms(NOW)
START = to_ms("2024-01-01")


@pytest.mark.parametrize(
    ("market", "endpoint", "names"),
    [
        ("spot", "trades", "id price qty quoteQty time isBuyerMaker isBestMatch"),
        ("spot", "historicalTrades", "id price qty quoteQty time isBuyerMaker isBestMatch"),
        ("spot", "aggTrades", "a p q f l T m M"),
        ("um", "trades", "id price qty quoteQty time isBuyerMaker isRPITrade"),
        ("um", "historicalTrades", "id price qty quoteQty time isBuyerMaker isRPITrade"),
        ("um", "aggTrades", "a p q nq f l T m"),
        ("cm", "trades", "id price qty baseQty time isBuyerMaker"),
        ("cm", "historicalTrades", "id price qty baseQty time isBuyerMaker"),
        ("cm", "aggTrades", "a p q f l T m"),
    ],
)
def test_shape_and_order(ask: Ask, simulator: Simulator, market: str, endpoint: str, names: str) -> None:
    """Binance's fields in its order, ascending, the newest as many as asked for, none from the future."""
    key = {"X-MBX-APIKEY": simulator.api_key}
    rows = ask(f"{PREFIX[market]}/{endpoint}", key, symbol=SYMBOL[market], limit=120).json()
    assert len(rows) == 120
    assert list(rows[0]) == names.split()
    ids = [row.get("id", row.get("a")) for row in rows]
    assert ids == sorted(set(ids))
    times = [row.get("time", row.get("T")) for row in rows]
    assert times == sorted(times)
    assert NOW_MS - 2 * 60_000 < times[-1] <= NOW_MS
    if "quoteQty" in rows[0]:
        assert all(Decimal(row["quoteQty"]) == Decimal(row["price"]) * Decimal(row["qty"]) for row in rows)
    if market == "cm" and "baseQty" in rows[0]:
        worth = [Decimal(row["qty"]) * 100 / Decimal(row["price"]) - Decimal(row["baseQty"]) for row in rows]
        assert all(abs(each) < Decimal("2e-8") for each in worth)
    if "nq" in rows[0]:
        assert any(Decimal(row["nq"]) < Decimal(row["q"]) for row in rows)


@pytest.mark.parametrize(
    ("market", "endpoint", "default", "highest", "over"),
    [
        ("spot", "trades", 500, 1000, 1000),
        ("spot", "historicalTrades", 500, 1000, 1000),
        ("spot", "aggTrades", 500, 1000, 1000),
        ("um", "trades", 500, 1000, -1130),
        ("um", "historicalTrades", 100, 500, -1130),
        ("um", "aggTrades", 500, 1000, -1130),
        ("cm", "trades", 500, 1000, -1130),
        ("cm", "historicalTrades", 100, 500, -1130),
        ("cm", "aggTrades", 500, 1000, -1130),
    ],
)
def test_limits(
    ask: Ask, simulator: Simulator, market: str, endpoint: str, default: int, highest: int, over: int
) -> None:
    """Default and highest; spot cuts what is over in silence, futures refuse it."""
    path, key = f"{PREFIX[market]}/{endpoint}", {"X-MBX-APIKEY": simulator.api_key}
    assert len(ask(path, key, symbol=SYMBOL[market]).json()) == default
    assert len(ask(path, key, symbol=SYMBOL[market], limit=highest).json()) == highest
    answer = ask(path, key, symbol=SYMBOL[market], limit=highest + 1).json()
    assert (answer["code"] if isinstance(answer, dict) else len(answer)) == over


@pytest.mark.parametrize(
    ("market", "endpoint", "params", "status", "code"),
    [
        ("spot", "trades", {"symbol": None}, 400, -1102),
        ("spot", "trades", {"symbol": "btcusdt"}, 400, -1100),
        ("spot", "trades", {"symbol": "NOSUCH"}, 400, -1121),
        ("spot", "trades", {"fromId": 1}, 400, -1104),
        ("spot", "trades", {"limit": 0}, 400, -1130),
        ("spot", "trades", {"limit": "x"}, 400, -1100),
        ("spot", "aggTrades", {"colour": "red"}, 400, -1104),
        ("spot", "aggTrades", {"fromId": 1, "startTime": START}, 400, -1128),
        ("spot", "aggTrades", {"fromId": ""}, 400, -1105),
        ("um", "trades", {"symbol": "NOSUCH"}, 400, -1121),
        ("um", "trades", {"symbol": "GONEUSDT"}, 400, -1122),
        ("um", "trades", {"symbol": "BTCUSD_PERP"}, 400, -1121),
        ("cm", "aggTrades", {"symbol": "BTCUSDT"}, 400, -1121),
        ("um", "aggTrades", {"startTime": 2, "endTime": 1}, 400, -1023),
        ("um", "aggTrades", {"startTime": NOW_MS - 2 * DAY - 1}, 400, -4166),
        ("um", "aggTrades", {"endTime": NOW_MS - 2 * DAY - 2}, 400, -4166),
        ("um", "aggTrades", {"fromId": 0}, 400, -4166),
        ("cm", "aggTrades", {"fromId": 0}, 400, -4166),
        ("um", "aggTrades", {"fromId": 1, "startTime": NOW_MS - HOUR}, 408, -1007),
        ("cm", "aggTrades", {"startTime": NOW_MS - HOUR, "endTime": NOW_MS}, 400, -1127),
        ("um", "historicalTrades", {}, 401, -2014),
        ("cm", "historicalTrades", {}, 401, -2014),
    ],
)
def test_refusals(ask: Ask, market: str, endpoint: str, params: dict[str, Any], status: int, code: int) -> None:
    """Each bad request has Binance's status and code."""
    answer = ask(f"{PREFIX[market]}/{endpoint}", **{"symbol": SYMBOL[market], **params})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_keys_of_historical_trades(ask: Ask, simulator: Simulator) -> None:
    """Futures want a key that they know, and go back a month; spot wants none and goes back for ever."""
    path = "/fapi/v1/historicalTrades"
    assert ask(path, {"X-MBX-APIKEY": "x" * 64}, symbol="BTCUSDT").json()["code"] == -2015
    key = {"X-MBX-APIKEY": simulator.api_key}
    assert ask(path, key, symbol="BTCUSDT", fromId=1).json()["code"] == -4166
    newest = ask(path, key, symbol="BTCUSDT", limit=1).json()[0]
    assert ask(path, key, symbol="BTCUSDT", fromId=newest["id"] - 100).json()[-1]["id"] == newest["id"]
    first = ask("/api/v3/historicalTrades", symbol="BTCUSDT", fromId=0, limit=3).json()
    assert [row["id"] for row in first] == [0, 1, 2]
    assert first[0]["time"] // 1000 == to_ms("2017-08-17T04:00") // 1000


def test_windows_of_spot(ask: Ask) -> None:
    """All inclusive; with a start the oldest come, without it the newest; no bound on the window."""

    def get(**params: Any) -> list[dict[str, Any]]:
        return ask("/api/v3/aggTrades", symbol="BTCUSDT", **params).json()  # type: ignore[no-any-return]

    hour = get(startTime=START, endTime=START + 60_000 - 1, limit=1000)
    assert [row["a"] for row in get(startTime=START, limit=5)] == [row["a"] for row in hour[:5]]
    assert get(startTime=START, endTime=START + 400 * DAY, limit=5) == hour[:5]
    assert get(endTime=hour[-1]["T"], limit=4) == hour[-4:]
    assert get(fromId=hour[7]["a"], limit=2) == hour[7:9]
    instant = hour[9]["T"]
    assert get(startTime=instant, endTime=instant) == [row for row in hour if row["T"] == instant]
    assert get(startTime=START, endTime=START - 1) == []
    assert get(endTime=to_ms("2017-01-01")) == []
    assert get(fromId=10**15) == []


def test_pages_by_id_miss_nothing(ask: Ask) -> None:
    """Many share a millisecond: ids lead through, and the trades between first and last id are all there."""
    window = {"startTime": NOW_MS - 40 * 60_000, "endTime": NOW_MS - 1}
    rows = ask("/fapi/v1/aggTrades", symbol="BTCUSDT", limit=1000, **window).json()
    while rows[-1]["T"] < NOW_MS - 60_000:
        rows += ask("/fapi/v1/aggTrades", symbol="BTCUSDT", limit=1000, fromId=rows[-1]["a"] + 1).json()
    assert all(before["a"] + 1 == after["a"] for before, after in pairwise(rows))
    assert all(before["l"] < after["f"] <= before["l"] + 3 for before, after in pairwise(rows))
    times = [row["T"] for row in rows]
    assert len(set(times)) < len(times)


def test_two_hours_of_um_are_answered(ask: Ask) -> None:
    """The documentation says one hour; two were seen to work."""
    rows = ask("/fapi/v1/aggTrades", symbol="BTCUSDT", startTime=NOW_MS - 2 * HOUR, endTime=NOW_MS, limit=10).json()
    assert len(rows) == 10
    assert rows[0]["T"] < NOW_MS - 2 * HOUR + 60_000


def test_microseconds_on_spot(ask: Ask) -> None:
    """Asked for by header, taken as parameters in any case; milliseconds are those, cut off."""
    fine = {"X-MBX-TIME-UNIT": "MICROSECOND"}
    plain = ask("/api/v3/aggTrades", symbol="BTCUSDT", startTime=START, limit=50).json()
    exact = ask("/api/v3/aggTrades", fine, symbol="BTCUSDT", startTime=START * 1000, limit=50).json()
    assert [row["T"] // 1000 for row in exact] == [row["T"] for row in plain]
    many = ask("/api/v3/aggTrades", fine, symbol="BTCUSDT", startTime=START, limit=1000).json()
    assert any(row["T"] % 1000 for row in many)
    moment = exact[7]["T"]
    one = ask("/api/v3/aggTrades", fine, symbol="BTCUSDT", startTime=moment, endTime=moment).json()
    assert {row["T"] for row in one} == {moment}


def test_klines_are_made_of_these_trades(ask: Ask) -> None:
    """Through REST: an hour of spot trades, page by page, is the hour's kline."""
    kline = ask("/api/v3/klines", symbol="BTCUSDT", interval="1h", startTime=START, limit=1).json()[0]
    rows = ask("/api/v3/aggTrades", symbol="BTCUSDT", startTime=START, limit=1000).json()
    while rows[-1]["T"] <= kline[6]:
        rows += ask("/api/v3/aggTrades", symbol="BTCUSDT", fromId=rows[-1]["a"] + 1, limit=1000).json()
    rows = [row for row in rows if row["T"] <= kline[6]]
    prices = [Decimal(row["p"]) for row in rows]
    assert [prices[0], max(prices), min(prices), prices[-1]] == [Decimal(text) for text in kline[1:5]]
    assert sum(Decimal(row["q"]) for row in rows) == Decimal(kline[5])
    assert sum(Decimal(row["p"]) * Decimal(row["q"]) for row in rows) == Decimal(kline[7])
    assert rows[-1]["l"] - rows[0]["f"] + 1 == kline[8]
    assert sum(Decimal(row["q"]) for row in rows if not row["m"]) == Decimal(kline[9])


def test_missing_rows(ask: Ask, simulator: Simulator) -> None:
    """What is hidden is skipped, and the page filled up beyond it."""
    simulator.add_fault("missing-rest=BTCUSDT:aggTrades:2024-01-01T00:00..2024-01-01T06:00")
    rows = ask("/api/v3/aggTrades", symbol="BTCUSDT", startTime=START, limit=10).json()
    assert [len(rows), rows[0]["T"] // 60_000] == [10, (START + 6 * HOUR) // 60_000]
    assert ask("/api/v3/historicalTrades", symbol="BTCUSDT", limit=10).json()
    simulator.add_fault("missing-rest=BTCUSDT:*:2026-11-20T11:00..2026-11-21")
    assert ask("/api/v3/trades", symbol="BTCUSDT", limit=1).json()[0]["time"] < to_ms("2026-11-20T11:00")


def test_only_complete_aggregates_are_shown(ask: Ask, simulator: Simulator) -> None:
    """One whose last fill is still to come is not, though it has begun."""
    rows = ask("/fapi/v1/aggTrades", symbol="BTCUSDT", startTime=NOW_MS - 20 * 60_000, limit=1000).json()
    begun = next(
        row
        for before, row, after in zip(rows, rows[1:], rows[2:], strict=False)
        if before["T"] + 200 < row["T"] < after["T"] - 200 and row["l"] > row["f"] + 1
    )
    simulator.set_clock(begun["T"])
    assert ask("/fapi/v1/aggTrades", symbol="BTCUSDT", limit=1).json()[0]["a"] == begun["a"] - 1
    simulator.set_clock(begun["T"] + 100)
    assert ask("/fapi/v1/aggTrades", symbol="BTCUSDT", limit=1).json() == [begun]


def test_symbols_without_a_future(ask: Ask) -> None:
    """A delisted spot symbol still has its last trades."""
    rows = ask("/api/v3/trades", symbol="OLDUSDT", limit=5).json()
    assert to_ms("2021-05-01") - 10 * 60_000 < rows[-1]["time"] < to_ms("2021-05-01")


def test_truth_of_ticks(ask: Ask, simulator: Simulator) -> None:
    """What a test compares with: the same rows, hidden or not, up to now."""
    window = {"startTime": NOW_MS - 60_000, "endTime": NOW_MS + 60_000}
    for market in ("spot", "um", "cm"):
        rows = ask(f"{PREFIX[market]}/aggTrades", symbol=SYMBOL[market], limit=1000, **window).json()
        simulator.add_fault(f"missing-rest={market}:{SYMBOL[market]}:*:2026-11-20T00:00..2026-11-21T00:00")
        assert simulator.true_ticks(market, "aggTrades", SYMBOL[market], NOW_MS - 60_000, NOW_MS + 60_000) == rows
        simulator.clear_faults()
        newest = ask(f"{PREFIX[market]}/trades", symbol=SYMBOL[market], limit=1000).json()
        begin = newest[0]["time"] + 1
        truth = simulator.true_ticks(market, "trades", SYMBOL[market], begin, NOW_MS + 1)
        assert truth == [row for row in newest if row["time"] >= begin]
    with pytest.raises(ValueError, match="neither"):
        simulator.true_ticks("spot", "depth", "BTCUSDT", START, NOW_MS)
    with pytest.raises(ValueError, match="NOSUCH"):
        simulator.true_ticks("spot", "trades", "NOSUCH", START, NOW_MS)
