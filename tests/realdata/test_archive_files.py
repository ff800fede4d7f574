"""Recorded archive files, as they are, end in the tables with every column as an independent reader reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_binance.simulator.server import Simulator
from tests.realdata.conftest import Load, asked_for_klines
from tests.realdata.reader import archive_file, archive_files, instant
from tests.realdata.stored import assert_same, between, states, stored

pytestmark = pytest.mark.realdata

HOUR = 3_600_000_000
NEW_YEAR = "2025-01-01"
ZERO_TRADE_MINUTES = {"2023-08": 11, "2023-09": 41, "2023-10": 24, "2023-11": 3}


def _months(realdata: Path, folder: str) -> list[Path]:
    return sorted((realdata / "archive_unzipped" / folder).glob("*.csv*"))


def test_the_unit_changes_between_two_files_and_no_row_does(load: Load, store_url: str, realdata: Path) -> None:
    """From 2024-11 to 2025-05, ms then µs, every hour is there once, at its exact time, and closes when it should."""
    report = load("spot", "BTCUSDT", "1h", "2024-11", "2025-06")
    assert (report.exit_status, report.loads[0].archive_files, report.loads[0].rest_requests) == (0, 7, 0)
    paths = [path for path in _months(realdata, "spot/monthly/klines/BTCUSDT/1h") if "1h-2023" not in path.name]
    expected = archive_files(paths)
    found = stored(store_url, "spot", "BTCUSDT", "1h")
    assert list(found) == list(range(instant("2024-11-01"), instant("2025-06-01"), HOUR))
    assert {int(row["close_time"] or 0) - at for at, row in found.items()} == {HOUR - 1_000}
    assert_same(found, expected)


def test_a_header_row_is_no_row(load: Load, store_url: str, realdata: Path) -> None:
    """Files with a header and, a year later, files without one: the first hour of each is there."""
    load("spot", "BTCUSDT", "1h", "2023-01", "2023-03")
    load("spot", "BTCUSDT", "1h", "2024-11", "2024-12")
    folder = realdata / "archive_unzipped/spot/monthly/klines/BTCUSDT/1h"
    paths = [folder / f"BTCUSDT-1h-{month}.csv" for month in ("2023-01", "2023-02", "2024-11")]
    assert [path.read_text()[:9] == "open_time" for path in paths] == [True, True, False]
    assert_same(stored(store_url, "spot", "BTCUSDT", "1h"), archive_files(paths))


def test_minutes_without_trades_are_rows_and_no_gaps(load: Load, store_url: str, realdata: Path) -> None:
    """Four months of FILUSDT: flat minutes are stored like any other, and nothing is missing."""
    report = load("um", "FILUSDT", "1m", "2023-08", "2023-12")
    assert (report.exit_status, report.loads[0].archive_files, report.loads[0].gaps) == (0, 4, ())
    paths = _months(realdata, "futures/um/monthly/klines/FILUSDT/1m")
    found = stored(store_url, "um", "FILUSDT", "1m")
    assert_same(found, archive_files(paths))
    for path, (month, count) in zip(paths, ZERO_TRADE_MINUTES.items(), strict=True):
        assert month in path.name
        quiet = [found[at] for at, row in archive_file(path).items() if row["trade_count"] == 0]
        assert len(quiet) == count
        assert all(row["open"] == row["close"] and row["volume"] == row["quote_volume"] == 0 for row in quiet)
    assert {state for _, _, state, _ in states(store_url, "um", "FILUSDT", "1m")} == {"complete"}


def test_a_month_of_um_minutes(load: Load, store_url: str, realdata: Path) -> None:
    """LINKUSDT 2026-02, header and ms: 40,320 minutes."""
    assert load("um", "LINKUSDT", "1m", "2026-02", "2026-03").exit_status == 0
    [path] = _months(realdata, "futures/um/monthly/klines/LINKUSDT/1m")
    found = stored(store_url, "um", "LINKUSDT", "1m")
    assert len(found) == 40_320
    assert_same(found, archive_file(path))


@pytest.mark.parametrize(
    ("interval", "start", "end", "rows"),
    [("1m", "2020-01-01", "2020-01-03", 2880), ("1h", "2026-05-08", "2026-05-09", 24)],
)
def test_zips_as_published(
    load: Load, store_url: str, realdata: Path, interval: str, start: str, end: str, rows: int
) -> None:
    """The zips themselves, with CHECKSUM files that have no line end: ms in 2020, µs in 2026."""
    report = load("spot", "BTCUSDT", interval, start, end, source="archive")
    assert (report.exit_status, report.counts.rows_inserted) == (0, rows)
    paths = sorted((realdata / "archive/data/spot/daily/klines/BTCUSDT" / interval).glob("*.zip"))
    assert_same(stored(store_url, "spot", "BTCUSDT", interval), archive_files(paths))
    confirmed = states(store_url, "spot", "BTCUSDT", interval)
    assert [state for _, _, state, _ in confirmed] == ["complete"] * len(paths)


def test_loading_again_from_the_other_source_changes_nothing(
    load: Load, simulator: Simulator, store_url: str, realdata: Path
) -> None:
    """Archive, REST, archive, each by force and across the change of unit: all is fetched, and no row is touched."""
    window = ("spot", "BTCUSDT", "1h", "2024-12-15T00:00:00Z", "2025-01-15T00:00:00Z")
    paths = [path for path in _months(realdata, "spot/monthly/klines/BTCUSDT/1h") if "1h-2023" not in path.name]
    expected = between(archive_files(paths), instant("2024-12-15"), instant("2025-01-15"))
    assert load(*window, source="archive").counts.rows_inserted == 744
    for source in ("rest", "archive"):
        simulator.clear_requests()
        counts = load(*window, source=source, reload=True).counts
        assert asked_for_klines(simulator)
        assert (counts.rows_read, counts.rows_unchanged) == (744, 744)
        assert (counts.rows_inserted, counts.rows_updated, counts.rows_kept) == (0, 0, 0)
        assert_same(stored(store_url, "spot", "BTCUSDT", "1h"), expected)


def test_loading_again_after_rest_came_first(load: Load, store_url: str, realdata: Path) -> None:
    """REST first, then the archive by force: no row is touched, and the range is confirmed by its files."""
    window = ("spot", "BTCUSDT", "1h", "2024-12-15T00:00:00Z", "2025-01-15T00:00:00Z")
    assert load(*window, source="rest").counts.rows_inserted == 744
    counts = load(*window, source="archive", reload=True).counts
    assert (counts.rows_unchanged, counts.rows_inserted, counts.rows_updated) == (744, 0, 0)
    paths = [path for path in _months(realdata, "spot/monthly/klines/BTCUSDT/1h") if "1h-2023" not in path.name]
    expected = between(archive_files(paths), instant("2024-12-15"), instant("2025-01-15"))
    assert_same(stored(store_url, "spot", "BTCUSDT", "1h"), expected)
    ranges = states(store_url, "spot", "BTCUSDT", "1h")
    new_year = instant(NEW_YEAR)
    assert [(a, b) for a, b, _, _ in ranges] == [
        (instant("2024-12-15"), new_year),
        (new_year, instant("2025-01-15")),
    ]
