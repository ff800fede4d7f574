"""Klines by archive or REST into both stores: the same rows, whatever the digits, the windows and the zones."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from airflow_provider_binance import ingest
from airflow_provider_binance.simulator.server import Simulator
from tests.fix_postgres import TIME_ZONE, driver_url
from tests.realdata.reader import Rows, archive_file, instant, rest_rows
from tests.realdata.stored import assert_same, config_for, select, states, stored

DAY = 86_400_000_000
BIG, SMALL = "123456789012.12345678", "0.00000001"
NOW = "2026-06-01T12:00:00Z"
MARKETS = {"spot": "BTCUSDT", "um": "ETHUSDT", "cm": "BTCUSD_PERP"}


# --- Digits -------------------------------------------------------------------------------------------------------


def _recording(folder: Path, market: str, *, spelled: str = "{}") -> Path:
    """A day of hours in the layout of a recorded archive, with the largest and the smallest number in every slot."""
    symbol = MARKETS[market]
    branch = market if market == "spot" else f"futures/{market}"
    path = folder / f"archive_unzipped/{branch}/daily/klines/{symbol}/1h/{symbol}-1h-2026-05-08.csv"
    path.parent.mkdir(parents=True)
    unit, last = ("000", "999") if market == "spot" else ("", "")
    lines = []
    for hour in range(24):
        open_ms = instant("2026-05-08") // 1000 + hour * 3_600_000
        number = spelled.format([BIG, SMALL][hour % 2])
        close_ms = open_ms + 3_599_999
        lines.append(
            f"{open_ms}{unit},{number},{number},{number},{number},{number},{close_ms}{last},{number},"
            f"{hour},{number},{number},0\n"
        )
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize("source", ["archive", "rest"])
@pytest.mark.parametrize("market", MARKETS)
def test_the_largest_and_the_smallest_number_survive(tmp_path: Path, store_url: str, market: str, source: str) -> None:
    """Twenty digits of which eight are decimals, and one satoshi, in every column, by both ways."""
    path = _recording(tmp_path / "recorded", market)
    with Simulator(replay=tmp_path / "recorded", now=NOW) as simulator:
        config = config_for(simulator, store_url)
        window: dict[str, Any] = {"start": "2026-05-08", "end": "2026-05-09", "source": source}
        report = ingest.load(market=market, symbols=MARKETS[market], intervals="1h", config=config, **window)
    assert (report.exit_status, report.counts.rows_inserted) == (0, 24)
    found = stored(store_url, market, MARKETS[market], "1h")
    assert_same(found, archive_file(path, coin=market == "cm"))
    assert {row["high"] for row in found.values()} == {Decimal(BIG), Decimal(SMALL)}


def test_sqlite_keeps_text_and_no_float(tmp_path: Path) -> None:
    """What is stored is canonical text."""
    _recording(tmp_path / "recorded", "spot")
    url = f"sqlite:///{tmp_path / 'ingest.db'}"
    with Simulator(replay=tmp_path / "recorded", now=NOW) as simulator:
        ingest.load(market="spot", symbols="BTCUSDT", intervals="1h", start="2026-05-08", end="2026-05-09",
                    config=config_for(simulator, url))  # fmt: skip
    with closing(sqlite3.connect(tmp_path / "ingest.db")) as database, database:
        found = database.execute("SELECT DISTINCT typeof(high), high FROM klines_data ORDER BY high DESC").fetchall()
    database.close()
    assert found == [("text", BIG), ("text", SMALL)]


@pytest.mark.parametrize("spelled", ['"{}"', " {}", "{}000", "0{}"])
def test_an_odd_spelling_in_a_file_changes_no_row(tmp_path: Path, store_url: str, spelled: str) -> None:
    """Quotes, blanks and needless zeros are gone when the row is stored; REST then finds nothing to change."""
    path = _recording(tmp_path / "recorded", "um", spelled=spelled)
    with Simulator(replay=tmp_path / "recorded", now=NOW) as simulator:
        config = config_for(simulator, store_url)
        report = ingest.load(
            market="um", symbols="ETHUSDT", intervals="1h", start="2026-05-08", end="2026-05-09", source="archive",
            config=config,
        )  # fmt: skip
    assert report.counts.rows_inserted == 24
    path.write_text(path.read_text().replace('"', "").replace(" ", ""))
    assert_same(stored(store_url, "um", "ETHUSDT", "1h"), archive_file(path))


@pytest.mark.parametrize(
    ("old", "new"),
    [(f",{SMALL},5,", ",1.2.3,5,"), (",5,", ",99999999999999999999999,")],
    ids=["seen when read", "seen when written"],
)
def test_a_file_with_one_wrong_value_writes_nothing_and_rest_takes_over(
    tmp_path: Path, store_url: str, old: str, new: str
) -> None:
    """Its checksum is right, its content is not: no row of it is stored, the range has failed, and REST fills it."""
    path = _recording(tmp_path / "recorded", "spot")
    good = path.read_text()
    window: dict[str, Any] = {
        "market": "spot",
        "symbols": "BTCUSDT",
        "intervals": "1h",
        "start": "2026-05-08",
        "end": "2026-05-09",
    }
    with Simulator(replay=tmp_path / "recorded", now=NOW) as simulator:
        simulator.truth("spot", "BTCUSDT", "1h", "2026-05-08", "2026-05-09")  # REST remembers the good one
        path.write_text(good.replace(old, new, 1))
        config = config_for(simulator, store_url)
        assert ingest.load(**window, source="archive", config=config).exit_status == 3
        assert stored(store_url, "spot", "BTCUSDT", "1h") == {}
        assert select(store_url, "SELECT count(*) FROM ingest_log") == [(0,)]
        assert [state for _, _, state, _ in states(store_url, "spot", "BTCUSDT", "1h")] == ["failed"]
        assert ingest.load(**window, source="rest", config=config).exit_status == 0
    path.write_text(good)
    assert_same(stored(store_url, "spot", "BTCUSDT", "1h"), archive_file(path))


# --- Windows and zones --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def market() -> Iterator[Simulator]:
    symbols = [f"{market}:{symbol}" for market, symbol in MARKETS.items()]
    with Simulator(seed=11, symbols=symbols, now=NOW, limits=False) as simulator:
        simulator.add_fault("missing-both=BTCUSDT:15m:2026-03-30T10:00..2026-03-30T11:15")
        simulator.add_fault("missing-monthly=BTCUSDT:15m:2026-04-02T05:00..2026-04-02T09:00")
        yield simulator


def _load(simulator: Simulator, url: str, kind: str, interval: str, start: datetime | str, end: datetime | str) -> int:
    config = config_for(simulator, url)
    symbol = MARKETS[kind]
    return ingest.load(market=kind, symbols=symbol, intervals=interval, start=start, end=end, config=config).exit_status


def _truth(simulator: Simulator, kind: str, interval: str, start: str, end: str) -> Rows:
    return rest_rows(simulator.truth(kind, MARKETS[kind], interval, start, end), coin=kind == "cm")


START, END = "2026-03-28T00:00:00Z", "2026-04-05T00:00:00Z"
_parts = st.integers(1, 999)


def _empty(url: str) -> None:
    """As before the first load."""
    if url.startswith("sqlite:///"):
        for file in Path(url.removeprefix("sqlite:///")).parent.glob("ingest.db*"):
            file.unlink()
        return
    with psycopg.connect(driver_url(url)) as server:
        if server.execute("SELECT to_regclass('klines_data')").fetchone() != (None,):
            server.execute("TRUNCATE klines_data, coverage, ingest_log, corrections, series")


@pytest.mark.parametrize(
    ("kind", "interval", "start", "end"),
    [
        ("spot", "1s", "2026-06-01T00:00:00Z", "2026-06-01T01:00:00Z"),
        ("spot", "15m", START, END),
        ("um", "3d", "2026-01-01T00:00:00Z", "2026-05-20T00:00:00Z"),
        ("cm", "1w", "2025-09-01T00:00:00Z", "2026-05-20T00:00:00Z"),
        ("um", "1M", "2024-02-01T00:00:00Z", "2026-05-01T00:00:00Z"),
    ],
)
@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(cuts=st.sets(_parts, min_size=1, max_size=3), random=st.randoms(use_true_random=False))
def test_every_split_of_a_window_gives_the_same_rows(
    market: Simulator, store_url: str, kind: str, interval: str, start: str, end: str, cuts: set[int], random: object
) -> None:
    """Cut anywhere, off the grid too, in any order: over the ends of months, a halt and a hole of a monthly file."""
    _empty(store_url)
    first, last = instant(start), instant(end)
    edges = [first, *(first + (last - first) * cut // 1000 for cut in sorted(cuts)), last]
    pieces = list(pairwise(edges))
    random.shuffle(pieces)  # type: ignore[attr-defined]
    symbol = MARKETS[kind]
    for piece in pieces:
        _load(market, store_url, kind, interval, *map(_utc, piece))
    assert_same(stored(store_url, kind, symbol, interval), _truth(market, kind, interval, start, end))
    ranges = states(store_url, kind, symbol, interval)
    assert all(a[1] == b[0] for a, b in pairwise(ranges))
    gaps = [at for a, b, state, _ in ranges if state == "exchange_gap" for at in range(a, b, 900_000_000)]
    halt = range(instant("2026-03-30T10:00"), instant("2026-03-30T11:15"), 900_000_000)
    assert gaps == (list(halt) if interval == "15m" else [])
    assert {state for _, _, state, _ in ranges} <= {"complete", "exchange_gap"}


def test_a_window_in_pieces_and_then_whole(market: Simulator, store_url: str) -> None:
    """The last piece first, the first one twice, a gap between: then the whole window brings only what lacks."""
    for start, end in [("2026-04-03T07:15:00Z", END), (START, "2026-03-29T00:45:00Z"), (START, "2026-03-29T00:45:00Z")]:
        _load(market, store_url, "spot", "15m", start, end)
    assert _load(market, store_url, "spot", "15m", START, END) == 0
    expected = _truth(market, "spot", "15m", START, END)
    assert_same(stored(store_url, "spot", "BTCUSDT", "15m"), expected)
    [(inserted, updated)] = select(
        store_url,
        "SELECT CAST(sum(rows_inserted) AS integer), CAST(sum(rows_updated) AS integer) FROM ingest_log",
    )
    assert (inserted, updated) == (len(expected), 0)


def _utc(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, ZoneInfo("UTC")).isoformat()


@pytest.mark.parametrize("kind", MARKETS)
def test_bounds_in_berlin_over_both_changes_of_the_clock(market: Simulator, store_url: str, kind: str) -> None:
    """Days of 23 and 25 hours, asked for in Berlin's time: exactly the hours between those instants."""
    berlin = ZoneInfo("Europe/Berlin")
    windows = [
        (datetime(2025, 10, 26, tzinfo=berlin), datetime(2025, 10, 27, tzinfo=berlin), "2025-10-25T22", 25),
        (datetime(2026, 3, 29, tzinfo=berlin), datetime(2026, 3, 30, tzinfo=berlin), "2026-03-28T23", 23),
    ]
    expected: Rows = {}
    for start, end, first, hours in windows:
        assert _load(market, store_url, kind, "1h", start, end) == 0
        begin = instant(f"{first}:00:00Z")
        rows = _truth(market, kind, "1h", _utc(begin), _utc(begin + hours * DAY // 24))
        assert len(rows) == hours
        expected |= rows
    assert_same(stored(store_url, kind, MARKETS[kind], "1h"), expected)


def test_the_repeated_hour_of_berlin_is_two_hours(market: Simulator, store_url: str) -> None:
    """From the first to the second 02:00 of the night in October: one hour, not none."""
    berlin = ZoneInfo("Europe/Berlin")
    twice = [datetime(2025, 10, 26, 2, tzinfo=berlin, fold=fold) for fold in (0, 1)]
    assert _load(market, store_url, "spot", "15m", *twice) == 0
    expected = _truth(market, "spot", "15m", "2025-10-26T00:00:00Z", "2025-10-26T01:00:00Z")
    assert len(expected) == 4
    assert_same(stored(store_url, "spot", "BTCUSDT", "15m"), expected)


@pytest.mark.postgres
def test_the_session_of_these_tests_lives_elsewhere(postgres_database: str) -> None:
    """The server answers in New York's time, and this process lives in Kolkata's."""
    assert select(postgres_database, "SHOW timezone") == [(TIME_ZONE,)]
    assert TIME_ZONE == "America/New_York"
    assert datetime.now().astimezone().utcoffset() == datetime.now(ZoneInfo("Asia/Kolkata")).utcoffset()


def test_days_do_not_shift_with_the_session(market: Simulator, store_url: str) -> None:
    """Daily candles of both weeks around New York's change of clocks open at midnight UTC."""
    assert _load(market, store_url, "spot", "1d", "2026-03-01", "2026-03-15") == 0
    found = stored(store_url, "spot", "BTCUSDT", "1d")
    assert list(found) == list(range(instant("2026-03-01"), instant("2026-03-15"), DAY))
    assert_same(found, _truth(market, "spot", "1d", "2026-03-01T00:00:00Z", "2026-03-15T00:00:00Z"))
