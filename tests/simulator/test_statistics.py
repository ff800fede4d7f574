"""What um was measured to answer where its documentation says otherwise: tickers, funding, open interest."""

from __future__ import annotations

from decimal import Decimal

from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.conftest import NOW, Ask

TICKER = "/fapi/v1/ticker/24hr"
FUNDING = "/fapi/v1/fundingInfo"
INTEREST = "/futures/data/openInterestHist"
DAY, MINUTE = 86_400_000, 60_000
NOW_MS = to_ms(NOW)


def test_the_ticker_sums_up_a_day(ask: Ask) -> None:
    """Its numbers are those of the day's candles and of the last trade."""
    ticker = ask(TICKER, symbol="btcusdt").json()
    rows = ask("/fapi/v1/klines", symbol="BTCUSDT", interval="1m", startTime=NOW_MS - DAY, limit=1500).json()
    assert (ticker["symbol"], ticker["openTime"]) == ("BTCUSDT", rows[0][0])
    shown = [Decimal(ticker[name]) for name in ("openPrice", "highPrice", "lowPrice", "lastPrice")]
    highest, lowest = max(Decimal(row[2]) for row in rows), min(Decimal(row[3]) for row in rows)
    assert shown == [Decimal(rows[0][1]), highest, lowest, Decimal(rows[-1][4])]
    for name, slot in (("volume", 5), ("quoteVolume", 7), ("count", 8)):
        assert Decimal(ticker[name]) == sum(Decimal(row[slot]) for row in rows)
    (last,) = ask("/fapi/v1/trades", symbol="BTCUSDT", limit=1).json()
    assert (ticker["lastId"], Decimal(ticker["lastQty"])) == (last["id"], Decimal(last["qty"]))
    assert {"bidPrice", "askPrice", "prevClosePrice"}.isdisjoint(ticker)


def test_the_ticker_of_all_has_only_those_that_trade(ask: Ask, simulator: Simulator) -> None:
    """exchangeInfo has more of them; and it costs 40 instead of 1."""
    listed = {each["symbol"]: each["status"] for each in ask("/fapi/v1/exchangeInfo").json()["symbols"]}
    shown = {each["symbol"] for each in ask(TICKER).json()}
    assert shown == {symbol for symbol, status in listed.items() if status == "TRADING"}
    assert shown < set(listed)
    assert ask(TICKER, symbol="GONEUSDT").json()["code"] == -1122
    assert ask(TICKER, symbol="NOSUCH").json()["code"] == -1121
    assert [record.weight for record in simulator.requests[1:]] == [40, 1, 1]


def test_funding_info_has_both_markets(ask: Ask) -> None:
    """All perpetuals, not only adjusted ones; without weight and its header."""
    answer = ask(FUNDING)
    symbols = {each["symbol"] for each in answer.json()}
    assert {"BTCUSDT", "ETHUSDT", "BTCUSD_PERP"} <= symbols
    assert not symbols & {"BTCUSDT_261225", "BTCUSD_261225", "GONEUSDT"}
    assert "x-mbx-used-weight-1m" not in answer.headers


def test_open_interest(ask: Ask) -> None:
    """Labels are the ends of periods; the newest rows come, whatever the start; no more than 30 days back."""
    newest = ask(INTEREST, symbol="BTCUSDT", period="5m").json()
    assert len(newest) == 30
    # 12:00 is not published half a minute later.
    assert newest[-1]["timestamp"] == to_ms("2026-11-20T11:55:00Z")
    assert len(ask(INTEREST, symbol="BTCUSDT", period="5m", limit=501).json()) == 501
    since = ask(INTEREST, symbol="BTCUSDT", period="5m", startTime=NOW_MS - 20 * DAY).json()
    assert since == newest
    window = {"startTime": newest[3]["timestamp"], "endTime": newest[7]["timestamp"]}
    assert ask(INTEREST, symbol="BTCUSDT", period="5m", **window).json() == newest[3:8]
    (row,) = ask(
        "/fapi/v1/klines", symbol="BTCUSDT", interval="5m", endTime=newest[-1]["timestamp"] - 1, limit=1
    ).json()
    value = Decimal(newest[-1]["sumOpenInterest"]) * Decimal(row[4])
    assert Decimal(newest[-1]["sumOpenInterestValue"]) == value
    old = ask(INTEREST, symbol="BTCUSDT", period="5m", startTime=NOW_MS - 31 * DAY, endTime=NOW_MS)
    assert (old.status_code, old.json()["code"]) == (400, -1130)
    assert old.json()["msg"] == "Data sent for parameter 'startTime' is not valid."
    assert ask(INTEREST, symbol="BTCUSDT", period="7m").json()["code"] == -1100
    assert ask(INTEREST, symbol="BTCUSDT").json()["code"] == -1102


def test_they_are_counted_for_themselves() -> None:
    """500 and 1,000 requests in five minutes; then 429, and the weight of others is untouched."""
    with Simulator(seed=1, now=NOW, speed=0) as simulator:
        limiter = simulator.server.limiter
        for pool, most in (("funding", 500), ("statistics", 1000)):
            verdicts = [limiter.count("a", pool, NOW_MS).status for _ in range(most + 1)]
            assert verdicts == [200] * most + [429]
            assert limiter.count("a", pool, NOW_MS).retry_after == 270
            assert limiter.count("b", pool, NOW_MS).status == 200
            assert limiter.count("a", pool, NOW_MS + 5 * MINUTE).status == 200
        assert limiter.charge("a", "futures", 1, NOW_MS).used_weight == 1
        limiter.ban("a", "futures", NOW_MS)
        assert limiter.count("a", "funding", NOW_MS + MINUTE).status == 418
