"""Replay of the real recordings: what they have is served, what they lack is missing."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_binance.simulator.clock import from_ms, to_ms
from airflow_provider_binance.simulator.recordings import Recordings
from airflow_provider_binance.simulator.server import Simulator

pytestmark = pytest.mark.realdata

HOUR = 3_600_000


@pytest.fixture(scope="module")
def replay(realdata: Path) -> Iterator[Simulator]:
    """All recordings, seen from November 2026."""
    with Simulator(replay=realdata, now="2026-11-20T12:00:00Z", speed=0, limits=False) as simulator:
        yield simulator


def gaps(rows: list[list[Any]], step: int) -> list[str]:
    """Open times on the grid between the first and the last row that have none."""
    present = {row[0] for row in rows}
    return [
        f"{from_ms(open_ms):%Y-%m-%dT%H:%M}"
        for open_ms in range(rows[0][0], rows[-1][0], step)
        if open_ms not in present
    ]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ADAUSDT"])
def test_outage_of_2023(replay: Simulator, symbol: str) -> None:
    """80 minutes and 16 times five minutes are missing, as its README says, and nothing else."""
    minutes = replay.truth("spot", symbol, "1m", "2023-03-16T22:15", "2023-05-01T21:01")
    fives = replay.truth("spot", symbol, "5m", "2023-03-16T22:15", "2023-05-01T20:55")
    missing = gaps(minutes, 60_000)
    assert len(minutes) == 66086
    assert (len(missing), missing[0], missing[-1]) == (80, "2023-03-24T12:40", "2023-03-24T13:59")
    missing = gaps(fives, 300_000)
    assert (len(missing), missing[0], missing[-1]) == (16, "2023-03-24T12:40", "2023-03-24T13:55")


def test_outages_in_five_years_of_hours(replay: Simulator) -> None:
    """Twelve hours in five outages, the last of them in an archive file too."""
    rows = replay.truth("spot", "BTCUSDT", "1h", "2021-04-03", "2026-04-04")
    assert gaps(rows, HOUR) == [
        *("2021-04-20T02:00", "2021-04-20T03:00"),
        *("2021-04-25T05:00", "2021-04-25T06:00", "2021-04-25T07:00"),
        *("2021-08-13T02:00", "2021-08-13T03:00", "2021-08-13T04:00", "2021-08-13T05:00"),
        *("2021-09-29T07:00", "2021-09-29T08:00"),
        "2023-03-24T13:00",
    ]
    assert len(rows) == 43836


def test_truncated_candle_keeps_its_close_time(replay: Simulator) -> None:
    """2023-03-24 12:00 ended with the outage."""
    row = replay.truth("spot", "BTCUSDT", "1h", "2023-03-24T12:00", "2023-03-24T13:00")[0]
    assert (row[6], row[8], row[5]) == (1679661581646, 0, "0.00000000")


@pytest.mark.parametrize(
    ("market", "symbol", "interval", "count", "missing"),
    [
        ("spot", "BTCUSDT", "4h", 13146, 0),
        ("spot", "BTCUSDT", "1d", 2191, 0),
        ("spot", "BTCUSDT", "1w", 312, 0),
        ("um", "FILUSDT", "1h", 49443, 0),
        ("um", "SOLUSDT", "1m", 43199, 0),
        ("um", "ETHUSDT", "4h", 4499, 0),
        ("um", "LINKUSDT", "1m", 40320, 0),
    ],
)
def test_series_without_holes(
    replay: Simulator, market: str, symbol: str, interval: str, count: int, missing: int
) -> None:
    """All rows of the README but the last, which may have been forming; archive files whole."""
    step = {"1m": 60_000, "1h": HOUR, "4h": 4 * HOUR, "1d": 24 * HOUR, "1w": 7 * 24 * HOUR}[interval]
    rows = replay.truth(market, symbol, interval, "2020-01-01", "2026-11-01")
    assert (len(rows), len(gaps(rows, step))) == (count, missing)


def test_rest_serves_what_was_recorded(replay: Simulator, realdata: Path) -> None:
    """Prices and volumes of a page equal the recording, whatever its format."""
    path = realdata / "klines" / "um_rest" / "BTCUSDT-1h.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        recorded = list(csv.DictReader(file))[:100]
    url = replay.settings["BINANCE_UM_REST_URL"] + "/fapi/v1/klines"
    params = {"symbol": "BTCUSDT", "interval": "1h", "startTime": recorded[0]["timestamp"], "limit": "100"}
    rows = requests.get(url, params=params, timeout=10).json()
    for row, line in zip(rows, recorded, strict=True):
        assert row[:9] == [
            int(line["timestamp"]),
            *(line[name] for name in ("open", "high", "low", "close", "volume")),
            int(line["close_time"]),
            line["quote_volume"],
            int(line["trades"]),
        ]


def test_made_up_slots_do_not_depend_on_the_simulator(replay: Simulator, realdata: Path) -> None:
    """Quote volume, count and taker volumes that were not recorded are the same in every run."""
    window = ("spot", "ADAUSDT", "1h", "2023-04-05", "2023-04-06")
    rows = replay.truth(*window)
    with Simulator(seed=99, replay=realdata, now="2026-11-20", speed=0) as other:
        assert other.truth(*window) == rows
    with gzip.open(realdata / "klines" / "spot_outage_2023" / "ADA_USDT-1h.json.gz", "rt", encoding="utf-8") as file:
        recorded = {row[0]: row for row in json.load(file)}
    for row in rows:
        assert [float(text) for text in row[1:6]] == pytest.approx(recorded[row[0]][1:6], abs=1e-8)
        assert 0 <= float(row[9]) <= float(row[5])
        assert float(row[10]) <= float(row[7])


@pytest.mark.parametrize("day", ["2020-01-01", "2020-01-02"])
def test_archive_files_as_published(replay: Simulator, realdata: Path, day: str) -> None:
    """Zip and CHECKSUM byte for byte."""
    key = f"data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-{day}.zip"
    for name in (key, f"{key}.CHECKSUM"):
        answer = requests.get(f"{replay.settings['BINANCE_ARCHIVE_URL']}/{name}", timeout=10)
        assert answer.content == (realdata / "archive" / name).read_bytes()


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (
            "data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2023-03.zip",
            "spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2023-03.csv",
        ),
        (
            "data/futures/um/monthly/klines/LINKUSDT/1m/LINKUSDT-1m-2026-02.zip",
            "futures/um/monthly/klines/LINKUSDT/1m/LINKUSDT-1m-2026-02.csv.gz",
        ),
    ],
)
def test_unzipped_files_are_zipped(replay: Simulator, realdata: Path, key: str, path: str) -> None:
    """The CSV is the recorded one, the checksum fits, and the rows are those of REST."""
    url = f"{replay.settings['BINANCE_ARCHIVE_URL']}/{key}"
    content = requests.get(url, timeout=20).content
    assert requests.get(f"{url}.CHECKSUM", timeout=20).text.split()[0] == hashlib.sha256(content).hexdigest()
    recorded = (realdata / "archive_unzipped" / path).read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        data = archive.read(archive.namelist()[0])
    assert data == (gzip.decompress(recorded) if path.endswith(".gz") else recorded)


def test_unit_changes_between_two_files(replay: Simulator) -> None:
    """December 2024 is in milliseconds, January 2025 in microseconds, and REST goes on through it."""
    rows = replay.truth("spot", "BTCUSDT", "1h", "2024-11-01", "2025-06-01")
    assert len(rows) == 720 + 744 + 744 + 672 + 744 + 720 + 744
    assert gaps(rows, HOUR) == []
    assert all(row[6] - row[0] == HOUR - 1 for row in rows)


def test_only_recorded_files_are_listed(replay: Simulator) -> None:
    """A listing shows the files that are there, with their sizes; REST recordings have none."""
    listing = replay.settings["BINANCE_ARCHIVE_LISTING_URL"]
    text = requests.get(listing, params={"prefix": "data/futures/um/"}, timeout=20).text
    assert text.count(".zip</Key>") == 5
    assert "SOLUSDT" not in text
    url = f"{replay.settings['BINANCE_ARCHIVE_URL']}/data/futures/um/monthly/klines/FILUSDT/1m/FILUSDT-1m-2023-12.zip"
    assert requests.get(url, timeout=10).status_code == 404


def test_recorded_rows_can_be_hidden(replay: Simulator) -> None:
    """A recorded file without some of its rows is made anew."""
    url = f"{replay.settings['BINANCE_ARCHIVE_URL']}/data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-05-08.zip"
    replay.hide("spot", "BTCUSDT", "1h", "2026-05-08T05:00", "2026-05-08T06:00", ["archive"])
    try:
        with zipfile.ZipFile(io.BytesIO(requests.get(url, timeout=10).content)) as archive:
            assert len(archive.read(archive.namelist()[0]).splitlines()) == 23
    finally:
        replay.clear_faults()


def test_recorded_symbols_are_known(replay: Simulator) -> None:
    """exchangeInfo has them, listed with their first recorded row; other intervals have no rows."""
    spot = requests.get(replay.settings["BINANCE_SPOT_REST_URL"] + "/api/v3/exchangeInfo", timeout=10).json()
    um = requests.get(replay.settings["BINANCE_UM_REST_URL"] + "/fapi/v1/exchangeInfo", timeout=10).json()
    streamed = {"NKNUSDT", "BLZETH", "LRCBTC", "RUNEEUR"}
    assert {symbol["symbol"] for symbol in spot["symbols"]} == {"ADAUSDT", "BTCUSDT", *streamed}
    listed = {symbol["symbol"]: symbol["onboardDate"] for symbol in um["symbols"]}
    streamed = {"SUSHIUSDT", "AKROUSDT", "KEEPUSDT", "CTKUSDT"}
    assert listed.keys() == {"BTCUSDT", "ETHUSDT", "FILUSDT", "LINKUSDT", "SOLUSDT", *streamed}
    assert listed["LINKUSDT"] == to_ms("2026-02-01")
    assert replay.truth("spot", "ADAUSDT", "8h", "2023-01-01", "2024-01-01") == []


def test_clock_before_the_end_of_a_recording(realdata: Path) -> None:
    """Rows of the future are not shown, and of the forming candle only its open."""
    with Simulator(replay=realdata, now="2023-03-20T10:30:00Z", speed=0) as simulator:
        url = simulator.settings["BINANCE_SPOT_REST_URL"] + "/api/v3/klines?symbol=BTCUSDT&interval=1h&limit=1"
        (row,) = requests.get(url, timeout=10).json()
        assert row[0] == to_ms("2023-03-20T10:00")
        assert row[1] == row[2] == row[3] == row[4]
        assert row[8] == 0


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    """A wrong folder is an error, not an empty market."""
    with pytest.raises(ValueError, match="no recorded klines"):
        Recordings(tmp_path)
