"""Recordings of REST, served by REST, end in the tables with every column that they carry."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.realdata.conftest import Load
from tests.realdata.reader import csv_recording, instant, json_recording
from tests.realdata.stored import assert_same, stored

pytestmark = pytest.mark.realdata

UM_COLUMNS = {"open_time", "open", "high", "low", "close", "volume", "quote_volume", "trade_count", "close_time"}


@pytest.mark.parametrize("interval", ["1h", "4h", "1d"])
@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_um_klines(load: Load, store_url: str, realdata: Path, symbol: str, interval: str) -> None:
    """Prices, volumes, trade counts and close times of 4,500 (800) candles, the forming last one left out."""
    expected = csv_recording(realdata / f"klines/um_rest/{symbol}-{interval}.csv.gz")
    assert all(row.keys() == UM_COLUMNS for row in expected.values())
    report = load("um", symbol, interval, "2024-01-01", "2026-03-25")
    found = stored(store_url, "um", symbol, interval)
    assert_same(found, expected)
    assert report.counts.rows_inserted == len(expected) == (799 if interval == "1d" else 4499)
    assert all(row["contracts"] is None and row["taker_buy_contracts"] is None for row in found.values())


@pytest.mark.parametrize(("interval", "rows"), [("4h", 13146), ("1d", 2191), ("1w", 312)])
def test_spot_klines_of_long_intervals(load: Load, store_url: str, realdata: Path, interval: str, rows: int) -> None:
    """Six years without a hole: every halt was shorter than a candle."""
    expected = csv_recording(realdata / f"klines/spot_long/btcusdt_{interval}_6year.csv.gz")
    first, last = min(expected), max(expected)
    load("spot", "BTCUSDT", interval, "2020-04-05", "2026-04-06")
    found = stored(store_url, "spot", "BTCUSDT", interval)
    assert (len(expected), min(found), max(found)) == (rows, first, last)
    assert_same(found, expected)


def test_a_contract_s_whole_life_of_days(load: Load, store_url: str, realdata: Path) -> None:
    """FILUSDT day by day, from its second day on, as another client recorded it."""
    recorded = csv_recording(realdata / "klines/um_long/FIL_USDT_1d.csv.gz")
    expected = {at: row for at, row in recorded.items() if at >= instant("2020-10-18")}
    assert load("um", "FILUSDT", "1d", "2020-10-18", "2026-05-29").exit_status == 0
    assert len(expected) == 2049
    assert_same(stored(store_url, "um", "FILUSDT", "1d"), expected)


def test_a_whole_recording_of_minutes(load: Load, store_url: str, realdata: Path) -> None:
    """46 days of minutes through 67 pages."""
    expected = json_recording(realdata / "klines/spot_outage_2023/BTC_USDT-1m.json.gz")
    report = load("spot", "BTCUSDT", "1m", "2023-03-16T22:15:00Z", "2023-05-01T21:01:00Z")
    assert (len(expected), report.counts.rows_inserted) == (66_086, 66_086)
    assert_same(stored(store_url, "spot", "BTCUSDT", "1m"), expected)
