"""Sources that disagree, end to end: what is kept, what is corrected, and what the report says of it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.archive.folder import Listed
from airflow_provider_binance.cli.tables import load_lines
from airflow_provider_binance.republished import is_newer
from airflow_provider_binance.store.base import ArchiveLine
from airflow_provider_binance.store.schema import PUBLISHED

DAY = {"start": "2024-06-10", "end": "2024-06-11"}
HOLE = "2024-06-10T03:00:00Z..2024-06-10T03:05:00Z"
LACK = {"start": "2024-06-10T03:00:00Z", "end": "2024-06-10T03:05:00Z", "rows": 5}


def test_what_the_archive_lacks_and_rest_has_is_reported(bench):
    """Rows, span and files: in the JSON and in the table."""
    it = bench()
    it.sim.add_fault(f"missing-archive=BTCUSDT:1m:{HOLE}")
    report = it.load(**DAY)
    assert report.exit_status == 0
    assert report.loads[0].to_dict()["archive_lacks"] == [{**LACK, "files": ["BTCUSDT-1m-2024-06-10.zip"]}]
    shown = "\n".join(load_lines(report))
    assert "rows that the archive's files lack" in shown
    assert "BTCUSDT-1m-2024-06-10.zip" in shown


def test_what_the_days_have_is_not_lacking(bench):
    """A month's hole that the day's file fills is the archive's own."""
    it = bench(now="2024-07-10T00:00:00Z")
    it.sim.add_fault(f"missing-monthly=BTCUSDT:1m:{HOLE}")
    assert it.load(start="2024-06", end="2024-07").loads[0].archive_lacks == ()


@pytest.mark.parametrize("now", ["2024-06-15T12:30:20Z", "2024-07-10T00:00:00Z"], ids=["day", "month"])
def test_a_file_that_confirms_and_lacks_rows_is_reported(bench, now):
    """REST's rows are kept, provisional; all others are confirmed; and the report says so once."""
    it = bench(now=now)
    window = {"start": "2024-06-01", "end": "2024-06-13"}
    it.load(source="rest", **window)
    it.sim.add_fault(f"missing-archive=BTCUSDT:1m:{HOLE}")
    report = it.load(confirm=True, **window)
    assert (report.counts.rows_unchanged, report.counts.rows_inserted) == (12 * 1440 - 5, 0)
    [lack] = report.loads[0].to_dict()["archive_lacks"]
    assert {name: lack[name] for name in LACK} == LACK
    assert "BTCUSDT-1m-2024-06-10.zip" in lack["files"]
    assert len(it.opens()) == 12 * 1440
    assert it.sql("select row_count from coverage where confirmed_by is null") == [(5,)]
    assert it.load(confirm=True, **window).loads[0].archive_lacks == ()


def test_a_hole_of_a_confirming_month_is_confirmed_by_its_day(bench):
    """At once, not by a later load."""
    it = bench(now="2024-07-10T00:00:00Z")
    window = {"start": "2024-06", "end": "2024-07"}
    it.load(source="rest", **window)
    it.sim.add_fault(f"missing-monthly=BTCUSDT:1m:{HOLE}")
    report = it.load(confirm=True, **window)
    assert report.loads[0].archive_lacks == ()
    assert it.sql("select sum(row_count) from coverage where confirmed_by is not null") == [(30 * 1440,)]


# --- files that are published again -----------------------------------------------------------------------------------

SPAN = "BTCUSDT:1m:2024-06-10T03:00..2024-06-10T03:05"
MONTH = {"start": "2024-06", "end": "2024-07"}


def corrections(it) -> list[Any]:
    return it.sql("select column_name, old_source, new_source, count(*) from corrections group by 1, 2, 3")


def again(it, way: str, **window: str) -> Any:
    """What compares anew: a confirming load, or repair."""
    it.sim.clear_requests()
    if way == "confirm":
        return it.load(confirm=True, **window)
    return ingest.repair(market="spot", symbols="BTCUSDT", config=it.config).loads


@pytest.mark.parametrize("way", ["confirm", "repair"])
def test_a_corrected_file_corrects_the_rows(bench, way):
    """Published again with other values: those are taken, each told in `corrections`; and that is all there is."""
    it = bench()
    it.load(**DAY)
    [(before,)] = it.sql("select sha256 from ingest_log")
    it.sim.add_fault(f"corrected={SPAN}")
    assert it.load(**DAY).counts.rows_read == 0, "a plain load asks nobody"
    again(it, way, **DAY)
    assert corrections(it) == [("volume", "archive", "archive", 5)]
    [(first, _), (second, published)] = it.sql("select sha256, published_at from ingest_log order by id")
    assert first == before != second
    assert published > 0
    assert it.sql("select distinct confirmed_by, sum(row_count) from coverage") == [(second, 1440)]
    again(it, way, **DAY)
    assert it.asked(".zip") == []
    assert len(it.sql("select * from ingest_log")) == 2


def test_the_day_before_yesterday_is_watched_by_a_daily_load(bench):
    """A window of one day looks 40 days back, as it does for what is to be confirmed."""
    it = bench()
    it.load(start="2024-06-01", end="2024-06-12")
    it.sim.add_fault(f"corrected={SPAN}")
    report = it.load(confirm=True, start="2024-06-12", end="2024-06-13")
    assert (report.counts.rows_inserted, report.counts.rows_updated) == (1440, 5)


def test_the_same_rows_again_change_nothing(bench):
    """New bytes, ETag and time: the ledger has the new hash, the table is not touched."""
    it = bench()
    it.load(**DAY)
    it.sim.add_fault(f"republished={SPAN}")
    report = it.load(confirm=True, **DAY)
    assert (report.counts.rows_unchanged, report.counts.rows_updated) == (1440, 0)
    assert corrections(it) == []
    assert len(it.sql("select distinct sha256 from ingest_log")) == 2
    assert it.load(confirm=True, **DAY).counts.rows_read == 0


@pytest.mark.parametrize("path", ["/daily/", "/monthly/"])
@pytest.mark.parametrize("reload_as", ["auto", "rest"])
def test_the_file_published_last_has_the_last_word(bench, path, reload_as):
    """A day and its month disagree: whichever is corrected later stays, whatever is loaded again after it."""
    it = bench(now="2024-07-10T00:00:00Z")
    it.load(start="2024-06-10", end="2024-06-11")  # the day's file
    it.load(reload=True, **MONTH)  # the month's
    it.sim.add_fault(f"corrected={SPAN}@{path}")
    it.load(confirm=True, **MONTH)
    updated = corrections(it)
    assert updated == [("volume", "archive", "archive", 5)]
    for window in ({"start": "2024-06-10", "end": "2024-06-11"}, MONTH):
        report = it.load(reload=True, source=reload_as, **window)
        assert report.counts.rows_updated == 0
        is_other = reload_as == "rest" or (path == "/daily/") == (window is MONTH)
        assert report.counts.rows_kept == (5 if is_other else 0)
    assert corrections(it) == updated


def test_a_file_that_was_completed_fills_what_was_a_halt(bench):
    """Archive and REST agreed on a halt; then both have the rows, and the file is published again."""
    it = bench()
    it.sim.add_fault(f"missing-both={SPAN}")
    assert [gap.state for gap in it.load(**DAY).loads[0].gaps] == ["exchange_gap"]
    it.sim.clear_faults()
    it.sim.add_fault(f"republished={SPAN}")
    report = it.load(confirm=True, **DAY)
    assert (report.counts.rows_inserted, report.loads[0].gaps) == (5, ())
    assert it.sql("select distinct state from coverage") == [("complete",)]


def test_a_file_that_lost_rows_takes_none_away(bench):
    """They are kept, still confirmed by the file that had them, and reported."""
    it = bench()
    it.load(**DAY)
    it.sim.add_fault(f"missing-archive={SPAN}")
    it.sim.add_fault(f"republished={SPAN}")
    report = it.load(confirm=True, **DAY)
    assert len(it.opens()) == 1440
    assert report.loads[0].to_dict()["archive_lacks"] == [{**LACK, "files": ["BTCUSDT-1m-2024-06-10.zip"]}]
    assert sorted(it.sql("select sum(row_count) from coverage group by confirmed_by")) == [(5,), (1435,)]
    assert it.load(confirm=True, **DAY).counts.rows_read == 0


def test_a_halt_stays_a_halt_in_a_file_that_still_lacks_it(bench):
    """Its evidence, too; and no row is called kept that is not there."""
    it = bench()
    it.sim.add_fault(f"missing-both={SPAN}")
    it.load(**DAY)
    before = [line for line in it.coverage() if line[0] == "exchange_gap"]
    it.sim.add_fault(f"republished={SPAN}")
    report = it.load(confirm=True, **DAY)
    assert report.loads[0].archive_lacks == ()
    assert [line for line in it.coverage() if line[0] == "exchange_gap"] == before


def test_a_plan_shows_what_would_be_read_again(bench):
    it = bench()
    it.load(**DAY)
    assert it.plan(confirm=True, **DAY) == []
    it.sim.add_fault(f"republished={SPAN}")
    [piece] = it.plan(confirm=True, **DAY)
    assert piece["ref"].endswith("/BTCUSDT-1m-2024-06-10.zip")


def test_an_archive_that_is_away_does_not_end_a_load_that_watches(bench, mocker):
    """Whether something was published again is not known this time; what REST can bring comes."""
    mocker.patch("airflow_provider_binance.archive.http._LONGEST_SLEEP_SECONDS", 0.01)
    it = bench()
    it.load(**DAY)
    it.sim.add_fault("http=503@/listing")
    assert it.load(confirm=True, **DAY).exit_status == 0


def test_lines_of_before_the_migration_do_not_tell(bench):
    """Their files are not all read again."""
    it = bench()
    it.load(**DAY)
    it.sql("update ingest_log set published_at = null, etag = null")
    it.sim.add_fault(f"republished={SPAN}")
    assert it.load(confirm=True, **DAY).counts.rows_read == 0
    assert it.sql(f"select count(*) from schema_version where name = '{PUBLISHED}'") == [(1,)]


def line(start: int, end: int, published_s: int | None, etag: str | None = "a") -> ArchiveLine:
    return ArchiveLine("ref", "sha", start, end, 1, 1, None if published_s is None else published_s * 1_000_000, etag)


@pytest.mark.parametrize(
    ("lines", "newer"),
    [
        ([line(0, 10, 100)], True),
        ([line(0, 10, 200)], False),
        ([line(0, 10, 100, "b")], False),  # the same bytes, uploaded again
        ([line(0, 10, None)], False),
        ([line(0, 10, 100), line(0, 10, 200)], False),
        ([line(0, 10, 100), line(3, 5, 200)], True),  # only a part was compared with the new one
        ([line(3, 5, 200), line(0, 10, 100)], True),
        ([line(3, 5, 100), line(0, 10, 200)], False),
    ],
)
def test_what_counts_as_published_again(lines: list[ArchiveLine], newer: bool) -> None:
    """Later than what was read, to the second, and with another ETag."""
    assert is_newer(Listed(1, "b", 200_900_000), lines) is newer
