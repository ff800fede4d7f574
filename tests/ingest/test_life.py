"""Symbols of any kind, and how long each was listed: nothing is asked outside a symbol's life."""

from __future__ import annotations

import json
from datetime import datetime
from urllib.parse import parse_qs

import pytest

from airflow_provider_binance.errors import UnknownSymbolError
from airflow_provider_binance.rest.client import BinanceRest

OLD = "spot:OLDUSDT@2023-03-10..2023-05-20"


def _asked_before(it, instant: str) -> list[str]:
    """Kline requests (the first-kline probe aside) whose window begins before `instant`."""
    limit = datetime.fromisoformat(instant).timestamp() * 1000
    found = []
    for request in it.sim.requests:
        if not request.path.endswith("/klines"):
            continue
        query = parse_qs(request.query)
        start = int(query.get("startTime", ["0"])[0])
        if start < limit and query.get("limit") != ["1"]:
            found.append(f"{request.path}?{request.query}")
    return found


def test_before_its_listing_a_symbol_is_not_listed_and_not_asked(bench):
    """The ledger says since when there is something; a second run asks nobody."""
    it = bench(symbols=["BTCUSDT", "spot:NEWUSDT@2024-03-10T05:30:00"])
    window = {"symbols": "NEWUSDT", "intervals": "15m", "start": "2024-01", "end": "2024-04"}
    report = it.load(**window)
    assert report.exit_status == 0
    [gap] = report.loads[0].to_dict()["gaps"]
    assert gap["state"] == "not_listed"
    assert (gap["start"], gap["end"]) == ("2024-01-01T00:00:00Z", "2024-03-10T05:30:00Z")
    assert "first kline" in json.loads(gap["evidence"])["note"]
    assert _asked_before(it, "2024-03-10T05:30:00+00:00") == []
    assert it.load(**window).counts.rows_read == 0
    assert it.sim.requests == []


def test_listing_as_start_begins_with_the_first_kline(bench):
    """`--start listing` needs no date, and no question the second time."""
    it = bench(symbols=["BTCUSDT", "spot:NEWUSDT@2024-05-10T05:30:00"])
    window = {"symbols": "NEWUSDT", "intervals": "1h", "start": "listing", "end": "2024-06"}
    first = it.load(**window)
    assert it.opens("1h")[0] == 1_715_317_200_000  # 05:00, the hour that holds the first trade
    assert first.exit_status == 0
    assert it.load(**window).counts.rows_read == 0
    assert it.sim.requests == []


def test_a_window_wholly_before_listing_loads_nothing_and_explains_it(bench):
    """Exit 0: it is known why there are no rows."""
    it = bench(symbols=["BTCUSDT", "spot:NEWUSDT@2024-03-10"])
    report = it.load(symbols="NEWUSDT", start="2023-01", end="2023-02")
    assert (report.exit_status, report.counts.rows_read) == (0, 0)
    assert [gap.state for gap in report.loads[0].gaps] == ["not_listed"]


@pytest.mark.parametrize("source", ["auto", "archive", "rest"])
def test_a_delisted_spot_symbol_loads_to_its_last_kline(bench, source):
    """What follows is `not_listed`, not a gap."""
    it = bench(symbols=["BTCUSDT", OLD])
    report = it.load(symbols="OLDUSDT", intervals="15m", start="2023-02", end="2023-08", source=source)
    assert report.exit_status == 0, report.to_dict()
    assert {gap.state for gap in report.loads[0].gaps} == {"not_listed"}
    truth = it.sim.truth("spot", "OLDUSDT", "15m", "2023-02-01T00:00:00Z", "2023-08-01T00:00:00Z")
    assert it.opens("15m") == [int(row[0]) for row in truth]
    assert len(truth) > 0


def test_a_delisted_futures_symbol_loads_from_the_archive(bench):
    """futures REST has forgotten it, exchangeInfo too."""
    it = bench(symbols=["um:BTCUSDT", "um:OLDUSDT@2022-03-10..2022-05-20"])
    report = it.load(market="um", symbols="OLDUSDT", intervals="15m", start="2022-02", end="2022-08")
    assert report.exit_status == 0, report.to_dict()
    truth = it.sim.truth("um", "OLDUSDT", "15m", "2022-02-01T00:00:00Z", "2022-08-01T00:00:00Z")
    assert it.opens("15m") == [int(row[0]) for row in truth]
    assert it.asked("/klines?") == []


def test_the_last_hours_of_a_delisted_futures_symbol_are_not_listed(bench):
    """Its last day's file ends where its life did: what follows is one hole, whichever files were asked about it."""
    it = bench(symbols=["um:BTCUSDT", "um:OLDUSDT@2022-03-10..2022-05-20T09:00:00"])
    report = it.load(market="um", symbols="OLDUSDT", start="2022-05-19", end="2022-08")
    assert report.exit_status == 0
    [gap] = report.loads[0].to_dict()["gaps"]
    assert (gap["start"], gap["end"]) == ("2022-05-20T09:00:00Z", "2022-08-01T00:00:00Z")
    assert gap["state"] == "not_listed"


@pytest.mark.parametrize(
    ("market", "symbol"),
    [
        ("um", "1000SHIBUSDT"),
        ("um", "BTCUSDT_240628"),
        ("cm", "BTCUSD_PERP"),
        ("cm", "BTCUSD_240628"),
        ("spot", "币安人生USDT"),
        ("um", "币安人生USDT"),
    ],
)
@pytest.mark.parametrize("source", ["archive", "rest"])
def test_symbols_of_any_kind_load_from_both_sources(bench, market, symbol, source):
    """Multipliers, quarterlies, perpetuals and Chinese characters; both sources give the same rows."""
    it = bench(symbols=[f"{market}:{symbol}"])
    report = it.load(
        market=market, symbols=symbol, intervals="5m", start="2024-06-10", end="2024-06-11", source=source
    )  # fmt: skip
    assert (report.exit_status, report.counts.rows_inserted) == (0, 288)
    again = it.load(market=market, symbols=symbol, intervals="5m", start="2024-06-10", end="2024-06-11", reload=True)
    assert (again.counts.rows_unchanged, again.counts.rows_updated) == (288, 0)


def test_patterns_match_what_trades_now(bench):
    """`*USDT` leaves out what is delisted."""
    it = bench(symbols=["BTCUSDT", "ETHUSDT", "ETHBTC", OLD])
    report = it.load(symbols="*USDT", intervals="1h", start="2024-06-10", end="2024-06-11")
    assert [load.series.symbol for load in report.loads] == ["BTCUSDT", "ETHUSDT"]


def test_an_unknown_symbol_is_refused_with_near_matches(bench):
    """The wrong market is a near match of its own."""
    it = bench(symbols=["BTCUSDT", "ETHUSDT"])
    with pytest.raises(UnknownSymbolError, match="near matches: BTCUSDT"):
        it.load(symbols="BTCUSTD", start="2024-06-10", end="2024-06-11")


def test_going_on_needs_no_start(bench):
    """Without start a load goes on from the last covered instant."""
    it = bench(now="2024-06-15T12:30:20Z")
    it.load(start="2024-06-10", end="2024-06-11")
    report = it.load(end="2024-06-12")
    assert (report.counts.rows_inserted, report.exit_status) == (1440, 0)
    it.load()
    assert it.opens()[-1] == it.opens()[0] + (len(it.opens()) - 1) * 60_000
    assert it.opens()[-1] == 1_718_454_540_000  # 12:29; 12:30 is open


def test_a_symbol_missing_from_exchange_info_for_a_while_is_not_taken_for_dead(bench, mocker):
    """What may come back is unexplained (exit 3), not `not_listed`: a later load asks again and finds it."""
    it = bench(symbols=["um:BTCUSDT", "um:ETHUSDT"])
    real = BinanceRest.exchange_info

    def forgetful(self, market):
        info = real(self, market)
        return {**info, "symbols": [entry for entry in info["symbols"] if entry["symbol"] != "ETHUSDT"]}

    window = {"market": "um", "symbols": "ETHUSDT", "start": "2024-06-13", "end": "2024-06-15T12:00:00Z"}
    mocker.patch.object(BinanceRest, "exchange_info", forgetful)
    report = it.load(**window)
    assert report.exit_status == 3
    assert {gap.state for gap in report.loads[0].gaps} == {"unpublished"}
    mocker.stopall()
    it.sim.set_clock("2024-06-15T13:00:00Z")
    assert it.load(**window).exit_status == 0


def test_a_hole_at_the_start_of_a_window_is_no_listing(bench):
    """A second that REST lacks once, years after the listing, is unexplained, and comes when REST has it."""
    it = bench()
    it.sim.add_fault("missing-rest=BTCUSDT:1s:2024-06-14T00:00:00Z..2024-06-14T00:00:30Z")
    window = {"intervals": "1s", "start": "2024-06-14T00:00:00Z", "end": "2024-06-14T00:05:00Z", "source": "rest"}
    report = it.load(**window)
    assert (report.exit_status, [gap.state for gap in report.loads[0].gaps]) == (3, ["unpublished"])
    it.sim.clear_faults()
    it.sim.set_clock("2024-06-15T13:00:00Z")
    assert it.load(**window).counts.rows_inserted == 30


def test_a_load_on_the_stroke_of_midnight_has_the_days_last_kline(bench):
    """The last minute counts as closed two seconds after the day: the load waits for that, not a day."""
    it = bench(now="2024-06-14T23:59:58Z")
    it.load(start="2024-06-14T12:00:00Z", end="2024-06-14T13:00:00Z", source="rest")
    it.sim.set_clock("2024-06-15T00:00:00.200Z")
    report = it.load(start="2024-06-14", end="2024-06-15", source="rest")
    assert report.loads[0].to_dict()["end"] == "2024-06-15T00:00:00Z"
    assert len(it.opens()) == 1440
