"""The planner: which source brings which stretch, decided without asking anybody."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_binance.archive.finding import ListedFiles
from airflow_provider_binance.archive.folder import Folder, Listed
from airflow_provider_binance.archive.layout import ArchiveFile, Partition, file_at
from airflow_provider_binance.evidence import Evidence, Stretch
from airflow_provider_binance.market import DAY_US, INTERVALS, to_us
from airflow_provider_binance.planner import ArchivePiece, RestPiece, Sources, plan_stretches
from airflow_provider_binance.records import Series


def us(text: str) -> int:
    """An ISO date or time as microseconds."""
    return to_us(datetime.fromisoformat(text).replace(tzinfo=UTC))


NOW = us("2024-06-15T12:00")


def archive(file: ArchiveFile) -> Listed | None:
    """An archive that has every file whose period is over, with sizes as they are."""
    name = file.name.split("-")[1]
    rows = INTERVALS["1M" if name == "1mo" else name].count(file.start_us, file.end_us)
    return Listed(rows * 50, "etag", None) if file.end_us <= NOW else None


def pieces(interval: str, start: str, end: str, **arguments):
    """The plan of one window of spot BTCUSDT."""
    sources = arguments.pop("sources", Sources(archive, True))
    series = Series(arguments.pop("market", "spot"), "klines", "BTCUSDT", interval)
    evidence = arguments.pop("evidence", Evidence())
    return plan_stretches(series, [Stretch(us(start), us(end), evidence)], sources, NOW)


def test_months_days_and_a_rest_tail():
    """Whole months by month, the rest of closed days by day, today by REST."""
    planned = pieces("1m", "2024-03-30", "2024-06-15T12:00")
    names = [p.file.name if isinstance(p, ArchivePiece) else "REST" for p in planned]
    assert names == [
        "BTCUSDT-1m-2024-03-30.zip",
        "BTCUSDT-1m-2024-03-31.zip",
        "BTCUSDT-1m-2024-04.zip",
        "BTCUSDT-1m-2024-05.zip",
        *(f"BTCUSDT-1m-2024-06-{day:02d}.zip" for day in range(1, 15)),
        "REST",
    ]
    tail = planned[-1]
    assert isinstance(tail, RestPiece)
    assert (len(tail.pages), tail.weight) == (1, 2)


@pytest.mark.parametrize(("interval", "source"), [("1m", ArchivePiece), ("1h", ArchivePiece), ("1d", RestPiece)])
def test_the_cheaper_source_is_picked_by_rows_per_file(interval, source):
    """One page of REST replaces thirty files of one row each, not forty pages of a month of 1m."""
    assert {type(piece) for piece in pieces(interval, "2024-01-01", "2024-06-01")} == {source}


def test_without_archive_all_comes_by_rest_in_pages_of_the_market():
    """The test hosts have no archive."""
    [piece] = pieces("1m", "2024-06-01", "2024-06-04", sources=Sources(None, True))
    assert isinstance(piece, RestPiece)
    assert [page.limit for page in piece.pages] == [1000] * 5


def test_a_stretch_that_nobody_can_bring_yields_no_piece():
    """Nothing is invented."""
    assert pieces("1m", "2024-06-15", "2024-06-15T10:00", sources=Sources(archive, False)) == []
    assert pieces("1m", "2024-06-01", "2024-06-02", sources=Sources(None, False)) == []


def test_a_month_that_lacked_rows_is_followed_by_its_day_then_by_rest():
    """No file is read twice for the same stretch."""
    month = Evidence(archive=("BTCUSDT-1m-2024-05.zip",))
    [piece] = pieces("1m", "2024-05-10T03:00", "2024-05-10T03:05", evidence=month)
    assert isinstance(piece, ArchivePiece)
    assert piece.file.name == "BTCUSDT-1m-2024-05-10.zip"
    both = month.with_archive(piece.file.name)
    [piece] = pieces("1m", "2024-05-10T03:00", "2024-05-10T03:05", evidence=both)
    assert isinstance(piece, RestPiece)
    assert pieces("1m", "2024-05-10T03:00", "2024-05-10T03:05", evidence=both.with_rest(NOW)) == []


def test_an_unreadable_file_sends_its_stretch_to_rest():
    """It was fetched twice already."""
    [piece] = pieces("1m", "2024-05-10", "2024-05-11", evidence=Evidence(corrupt=("BTCUSDT-1m-2024-05-10.zip",)))
    assert isinstance(piece, RestPiece)


def test_holes_close_to_each_other_share_a_page():
    """Ten holes of an hour cost one request."""
    series = Series("spot", "klines", "BTCUSDT", "1m")
    at = us("2024-06-10")
    holes = [Stretch(at + n * 6_000_000_000, at + n * 6_000_000_000 + 60_000_000) for n in range(9)]
    [piece] = plan_stretches(series, holes, Sources(None, True), NOW)
    assert isinstance(piece, RestPiece)
    assert len(piece.pages) == 1
    assert len(piece.stretches) == 9


@settings(deadline=None)
@given(
    st.sampled_from(["1m", "15m", "1h", "4h", "1d", "3d", "1w", "1M"]),
    st.integers(0, 900),
    st.integers(1, 700),
    st.booleans(),
    st.sets(st.integers(0, 60)),
    st.sampled_from(["spot", "um", "cm"]),
)
def test_a_plan_covers_every_kline_once(interval_name, offset, length, rest, absent, market):
    """Whatever the archive has, the pieces' stretches are disjoint, and with REST they cover the window."""
    interval = INTERVALS[interval_name]
    start = interval.ceil(us("2022-01-01") + offset * DAY_US // 2)
    end = interval.floor(min(start + length * DAY_US, NOW))
    if start >= end:
        return

    def find(file: ArchiveFile) -> Listed | None:
        month = datetime.fromtimestamp(file.start_us / 1e6, UTC)
        return None if (month.year - 2022) * 12 + month.month in absent else archive(file)

    series = Series(market, "klines", "BTCUSDT", interval_name)
    planned = plan_stretches(series, [Stretch(start, end)], Sources(find, rest), NOW)
    opens = [at for piece in planned for s in piece.stretches for at in interval.opens(s.start_us, s.end_us)]
    assert len(opens) == len(set(opens))
    assert set(opens) <= set(interval.opens(start, end))
    if rest:
        assert sorted(opens) == list(interval.opens(start, end))
    for piece in planned:
        if isinstance(piece, ArchivePiece):
            assert all(piece.file.start_us <= s.start_us < piece.file.end_us for s in piece.stretches)
        else:
            inside = [(page.start_us, page.end_us) for page in piece.pages]
            assert all(inside[0][0] <= s.start_us and s.end_us <= inside[-1][1] for s in piece.stretches)


def test_a_published_file_that_the_listing_lacks_is_asked_for_until_one_is_not_there():
    """A stale listing costs a question per file that it hides, and one more."""
    series = Series("spot", "klines", "BTCUSDT", "1m")
    days = Folder.of("", None, [(f"2024-06-{day:02d}", Listed(70_000, "e", None)) for day in (1, 2, 5)])
    asked: list[str] = []

    def ask(file: ArchiveFile) -> Listed | None:
        asked.append(file.name[-14:-4])
        return Listed(0, "", None) if file.name < "BTCUSDT-1m-2024-06-08" else None

    find = ListedFiles(lambda file: days, ask, NOW)
    found = []
    for day in range(1, 15):
        file = file_at(series, Partition.DAILY, us(f"2024-06-{day:02d}"))
        if find(file):
            found.append(day)
    assert found == [1, 2, 3, 4, 5, 6, 7]
    assert asked == ["2024-06-03", "2024-06-04", "2024-06-06", "2024-06-07", "2024-06-08"]
