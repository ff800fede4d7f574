"""REST paging as Binance receives it: the computed minimum of requests, nothing missed, nothing asked twice."""

from __future__ import annotations

import json
import threading
import time
from urllib.parse import parse_qs

import pytest

from airflow_provider_binance.market import Market
from airflow_provider_binance.rest.client import BinanceRest
from airflow_provider_binance.runtime import Runtime


def _pages(it) -> list[dict[str, str]]:
    """The queries of kline requests, the first-kline probe aside."""
    queries = [{name: value[0] for name, value in parse_qs(q.partition("?")[2]).items()} for q in it.asked("/klines")]
    return [query for query in queries if query["limit"] != "1"]


@pytest.mark.parametrize(
    ("market", "rows", "limits"),
    [
        ("spot", 1, [1000]),
        ("spot", 1000, [1000]),
        ("spot", 1001, [1000, 1000]),
        ("spot", 3000, [1000, 1000, 1000]),
        ("um", 99, [99]),
        ("um", 499, [499]),
        ("um", 998, [1000]),
        ("um", 1500, [1500]),
        ("um", 1501, [499, 499, 499, 99]),
        ("cm", 499, [499]),
    ],
)
def test_the_number_of_requests_is_the_computed_minimum(bench, market, rows, limits):
    """1,000 klines are one page of spot, 1,001 are two; futures ask for few pages, or for cheap ones."""
    symbol = "BTCUSD_PERP" if market == "cm" else "BTCUSDT"
    it = bench(symbols=[f"{market}:{symbol}"])
    minutes = f"{rows // 60 % 24:02d}:{rows % 60:02d}"
    end = f"2024-06-{10 + rows // 1440:02d}T{minutes}:00Z"
    report = it.load(market=market, symbols=symbol, start="2024-06-10", end=end, source="rest")
    assert (report.exit_status, report.counts.rows_inserted) == (0, rows)
    assert sorted(int(page["limit"]) for page in _pages(it)) == sorted(limits)
    assert report.loads[0].rest_requests == len(limits)


@pytest.mark.parametrize(("interval", "days"), [("4h", 450), ("1d", 450), ("1w", 900)])
def test_cm_is_paged_within_its_200_days_and_newest_first_rule(bench, interval, days):
    """No window is wider than 200 days, none holds more klines than its limit, and no row is missed."""
    it = bench(symbols=["cm:BTCUSD_PERP"], now="2024-06-20T00:00:00Z")
    window = (
        {"start": "2021-12-27", "end": "2024-06-15"} if days == 900 else {"start": "2023-03-20", "end": "2024-06-12"}
    )
    report = it.load(market="cm", symbols="BTCUSD_PERP", intervals=interval, source="rest", **window)
    assert report.exit_status == 0
    truth = it.sim.truth("cm", "BTCUSD_PERP", interval, window["start"] + "T00:00:00Z", window["end"] + "T00:00:00Z")
    assert it.opens(interval) == [int(row[0]) for row in truth]
    for page in _pages(it):
        assert int(page["endTime"]) - int(page["startTime"]) < 200 * 86_400_000


def test_the_open_kline_is_never_stored(bench):
    """REST answers with it as its last row."""
    it = bench(now="2024-06-15T12:30:30Z")
    it.load(start="2024-06-15T12:00:00Z", end="now", source="rest")
    assert it.opens()[-1] == 1_718_454_540_000  # 12:29; 12:30 is open
    assert it.sql("select max(close_time) / 1000 from klines") == [(1_718_454_599_999,)]


def test_an_end_in_the_future_is_now(bench):
    """The tail that is not closed yet lies outside the window, so that nothing unexplained remains."""
    it = bench()
    report = it.load(start="2024-06-15", end="2030-01-01", source="rest")
    assert report.exit_status == 0
    assert report.loads[0].to_dict()["end"] == "2024-06-15T12:30:00Z"


def test_an_empty_page_is_a_hole_and_not_the_end(bench):
    """Paging goes on behind a page without rows, and the hole is not believed at once."""
    it = bench()
    it.sim.add_fault("empty-page=1@/api/v3/klines")
    it.load(start="2024-06-12", end="2024-06-12T00:01:00Z", source="rest", symbols="BTCUSDT")
    it.sim.clear_faults()
    it.sim.add_fault("missing-rest=BTCUSDT:1m:2024-06-10T10:00:00Z..2024-06-11T10:00:00Z")
    report = it.load(start="2024-06-10", end="2024-06-12", source="rest")
    assert report.exit_status == 3
    assert report.counts.rows_inserted == 2880 - 1440


@pytest.mark.parametrize("market", ["spot", "cm"])
def test_a_silently_capped_limit_loses_nothing(bench, mocker, market):
    """Binance may lower a limit and not say so: what a page lacks is asked for, at the end that it was cut."""
    symbol = "BTCUSD_PERP" if market == "cm" else "BTCUSDT"
    it = bench(symbols=[f"{market}:{symbol}"])
    whole = BinanceRest.kline_page

    def capped(self, market, symbol, interval, start_us, end_us, limit):
        rows = json.loads(whole(self, market, symbol, interval, start_us, end_us, limit))
        kept = rows[-300:] if market is Market.CM else rows[:300]
        return json.dumps(kept, separators=(",", ":")).encode()

    mocker.patch.object(BinanceRest, "kline_page", capped)
    report = it.load(market=market, symbols=symbol, start="2024-06-10", end="2024-06-11", source="rest")
    assert (report.exit_status, report.counts.rows_inserted) == (0, 1440)


def test_fetches_ahead_are_bounded(bench, mocker):
    """Never more downloads at once than jobs, never more files waiting on the disk than two more."""
    it = bench()
    real, lock = Runtime.fetch_file, threading.Lock()
    running: list[int] = [0, 0]
    waiting: list[int] = [0, 0]

    def counted(self, file):
        with lock:
            running[0] += 1
            running[1] = max(running)
        try:
            time.sleep(0.05)
            fetched = real(self, file)
        finally:
            with lock:
                running[0] -= 1
        close = fetched.content.close

        def closed():
            with lock:
                waiting[0] -= 1
            close()

        with lock:
            waiting[0] += 1
            waiting[1] = max(waiting)
        mocker.patch.object(fetched.content, "close", closed, create=True)
        return fetched

    mocker.patch.object(Runtime, "fetch_file", counted)
    report = it.load(start="2024-06-01", end="2024-06-15", jobs=2)
    assert report.loads[0].archive_files == 14
    assert running == [0, 2]
    assert waiting[0] == 0
    assert waiting[1] <= 2 + 2
