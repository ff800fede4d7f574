"""The exchange's real halts of 2021 and 2023 come out as exactly the candles that the recordings lack."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_binance.simulator.server import Simulator
from tests.realdata.conftest import Load, asked_for_klines
from tests.realdata.reader import archive_file, csv_recording, instant, json_recording
from tests.realdata.stored import assert_same, between, states, stored

pytestmark = pytest.mark.realdata

HOUR = 3_600_000_000
OUTAGE_2023 = "2023-03-24T13:00:00Z"
OUTAGES_2021 = {
    "2021-04-20T02:00:00Z": 2,
    "2021-04-25T05:00:00Z": 3,
    "2021-08-13T02:00:00Z": 4,
    "2021-09-29T07:00:00Z": 2,
}
GAPS_2021 = [(instant(start), instant(start) + hours * HOUR) for start, hours in OUTAGES_2021.items()]


def _gaps(url: str, symbol: str, interval: str, state: str) -> list[tuple[int, int]]:
    return [(a, b) for a, b, found, _ in states(url, "spot", symbol, interval) if found == state]


def test_the_hour_of_2023_is_missing_in_archive_and_rest_and_so_believed(
    load: Load, store_url: str, realdata: Path
) -> None:
    """Archive and REST agree on one missing candle, 13:00, and nothing else is explained away."""
    report = load("spot", "BTCUSDT", "1h", "2023-03", "2023-04")
    [entry] = report.to_dict()["loads"]
    assert report.exit_status == 0
    assert [(gap["start"], gap["end"], gap["state"]) for gap in entry["gaps"]] == [
        (OUTAGE_2023, "2023-03-24T14:00:00Z", "exchange_gap")
    ]
    assert entry["sources"] == {"archive": 1, "rest": 1}
    ranges = states(store_url, "spot", "BTCUSDT", "1h")
    assert [(state, rows) for _, _, state, rows in ranges] == [
        ("complete", 565),
        ("exchange_gap", 0),
        ("complete", 178),
    ]
    recorded = archive_file(realdata / "archive_unzipped/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2023-03.csv")
    assert len(recorded) == 743
    assert_same(stored(store_url, "spot", "BTCUSDT", "1h"), recorded)


@pytest.mark.parametrize("source", ["auto", "archive", "rest"])
def test_loading_the_month_again_keeps_the_hour_explained(load: Load, store_url: str, source: str) -> None:
    """A source that is forced and lacks the hour, too, takes nothing back that two have said."""
    window = ("spot", "BTCUSDT", "1h", "2023-03", "2023-04")
    load(*window)
    before = _gaps(store_url, "BTCUSDT", "1h", "exchange_gap")
    again = load(*window, source=source, reload=True)
    assert (again.exit_status, again.counts.rows_unchanged, again.counts.rows_updated) == (0, 743, 0)
    start = instant(OUTAGE_2023)
    assert _gaps(store_url, "BTCUSDT", "1h", "exchange_gap") == before == [(start, start + HOUR)]


@pytest.mark.parametrize("source", ["archive", "rest"])
def test_the_truncated_candle_keeps_its_own_close_time(load: Load, store_url: str, source: str) -> None:
    """The candle before the halt ends at 12:39:41.646 and is neither stretched to the hour nor dropped."""
    load("spot", "BTCUSDT", "1h", "2023-03-24", "2023-03-25", source=source)
    row = stored(store_url, "spot", "BTCUSDT", "1h")[instant("2023-03-24T12:00:00Z")]
    assert row["close_time"] == 1_679_661_581_646_000
    assert row["trade_count"] == 0
    assert row["open"] == row["high"] == row["low"] == row["close"] == 28080


def test_the_hours_of_2021_wait_for_a_second_answer(
    load: Load, simulator: Simulator, store_url: str, realdata: Path
) -> None:
    """REST alone: unpublished, asked no more at once, believed when it says so again a day later, then left alone."""
    window = ("spot", "BTCUSDT", "1h", "2021-04-03", "2021-11")
    first = load(*window)
    assert first.exit_status == 3
    assert _gaps(store_url, "BTCUSDT", "1h", "unpublished") == GAPS_2021
    assert _gaps(store_url, "BTCUSDT", "1h", "exchange_gap") == []
    recorded = csv_recording(realdata / "klines/spot_long/btcusdt_1h_5year.csv.gz")
    expected = between(recorded, instant("2021-04-03"), instant("2021-11-01"))
    assert_same(stored(store_url, "spot", "BTCUSDT", "1h"), expected)

    simulator.clear_requests()
    assert load(*window).exit_status == 3
    assert asked_for_klines(simulator) == []

    simulator.set_clock("2026-07-02T00:01:00Z")
    second = load(*window)
    assert (second.exit_status, second.counts.rows_inserted, second.counts.rows_updated) == (0, 0, 0)
    assert _gaps(store_url, "BTCUSDT", "1h", "unpublished") == []
    assert _gaps(store_url, "BTCUSDT", "1h", "exchange_gap") == GAPS_2021
    assert_same(stored(store_url, "spot", "BTCUSDT", "1h"), expected)

    simulator.clear_requests()
    assert load(*window).exit_status == 0
    assert simulator.requests == []


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ADAUSDT"])
@pytest.mark.parametrize(("interval", "missing", "size"), [("1m", 80, 60_000_000), ("5m", 16, 300_000_000)])
def test_the_minutes_of_2023(
    load: Load, store_url: str, realdata: Path, symbol: str, interval: str, missing: int, size: int
) -> None:
    """From 12:40 to 13:59 there is no candle of a minute or of five, and every other one is there."""
    assert load("spot", symbol, interval, "2023-03-24", "2023-03-25").exit_status == 3
    start = instant("2023-03-24T12:40:00Z")
    assert _gaps(store_url, symbol, interval, "unpublished") == [(start, start + missing * size)]
    recorded = json_recording(realdata / f"klines/spot_outage_2023/{symbol[:3]}_USDT-{interval}.json.gz")
    expected = between(recorded, instant("2023-03-24"), instant("2023-03-25"))
    assert len(expected) == 86_400_000_000 // size - missing
    assert_same(stored(store_url, "spot", symbol, interval), expected)
