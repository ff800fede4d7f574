"""A load's memory is bounded, and does not grow with the length of what is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_binance.market import SECOND_US, iso
from airflow_provider_binance.records import Series
from benchmarks import processes
from benchmarks.venue import venue
from benchmarks.workload import Workload, cut_short, workload

MOST_BYTES = 150_000_000


#: Parts of 1 MB, so that a file that is quick to make has as many of them as a month of 1s.
SMALL_PARTS = "import airflow_provider_binance.archive.files as files; files.PART_BYTES = 1 << 20"


def load(work: Workload, end_us: int, store_url: str, first: str = "") -> tuple[int, int]:
    """Load from the first kline on in a fresh process: rows inserted, peak memory in bytes."""
    arguments = ["--market", "spot", "--symbol", work.series.symbol, "--interval", work.series.interval]
    arguments += ["--start", iso(work.window_us[0]), "--end", iso(end_us), "--source", "archive", "--store", store_url]
    with venue(work.folder) as here:
        settings = {**here.settings, "rate_limit_store": "memory://"}
        told, peak = processes.cli_load(arguments, settings, first=first)
    return told["rows_inserted"], peak


@pytest.fixture(scope="module")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    return workload(tmp_path_factory.mktemp("minutes"), 6, "1m")


def test_six_months_take_no_more_than_two(minutes: Workload, store_url: str) -> None:
    """Six months of 1m, 262,080 klines, in about the memory of two: one is written while the next one is read."""
    rows, peak_of_two = load(minutes, minutes.files[1].end_us, store_url)
    more, peak_of_six = load(minutes, minutes.files[-1].end_us, store_url)

    assert rows + more == minutes.rows
    assert peak_of_six < MOST_BYTES
    assert peak_of_six < 1.2 * peak_of_two


def test_file_of_many_parts_takes_no_more_than_one_of_few(tmp_path: Path, store_url: str) -> None:
    """300,000 klines of 1s in one file, in about the memory of 40,000."""
    peaks = []
    for rows in (40_000, 300_000):
        work = cut_short(Workload(tmp_path / str(rows), Series("spot", "klines", "BTCUSDT", "1s"), 1), rows)
        before = 40_000 if peaks else 0

        inserted, peak = load(work, work.window_us[0] + rows * SECOND_US, store_url, first=SMALL_PARTS)

        assert inserted == rows - before
        peaks.append(peak)
    assert peaks[1] < 1.2 * peaks[0]
