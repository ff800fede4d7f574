"""Sources that disagree, end to end: what is kept, what is corrected, and what the report says of it."""

from __future__ import annotations

import pytest

from airflow_provider_binance.cli.tables import load_lines

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
