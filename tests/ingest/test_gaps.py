"""What becomes of klines that a source lacks: filled, explained, or asked again."""

from __future__ import annotations

import json

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.errors import UnreachableError

DAY = {"start": "2024-06-10", "end": "2024-06-11"}
HOLE = "2024-06-10T03:00:00Z..2024-06-10T03:05:00Z"


def test_klines_missing_from_the_archive_only_come_by_rest(bench):
    """The day is complete, and the ledger has a line of each source."""
    it = bench()
    it.sim.add_fault(f"missing-archive=BTCUSDT:1m:{HOLE}")
    report = it.load(**DAY)
    assert report.exit_status == 0
    assert report.counts.rows_inserted == 1440
    assert report.loads[0].gaps == ()
    assert it.sql("select source, sum(rows_inserted) from ingest_log group by 1 order by 1") == [
        ("archive", 1435),
        ("rest", 5),
    ]
    assert {state for state, _, _ in it.coverage()} == {"complete"}


def test_klines_missing_from_a_month_are_asked_of_the_day_first(bench):
    """Daily files have what a monthly file lacks: no REST request for klines is made."""
    it = bench(now="2024-07-10T00:00:00Z")
    it.sim.add_fault(f"missing-monthly=BTCUSDT:1m:{HOLE}")
    report = it.load(start="2024-06", end="2024-07")
    assert report.exit_status == 0
    assert report.counts.rows_inserted == 30 * 1440
    files = {ref.rpartition("/")[2] for (ref,) in it.sql("select source_ref from ingest_log")}
    assert files == {"BTCUSDT-1m-2024-06.zip", "BTCUSDT-1m-2024-06-10.zip"}
    assert [path for path in it.asked("/klines?") if "startTime=0" not in path] == []


def test_missing_from_both_is_an_exchange_gap_with_its_evidence(bench):
    """Archive and REST agree: nothing unexplained, exit 0, and nobody is asked a second time."""
    it = bench()
    it.sim.add_fault(f"missing-both=BTCUSDT:1m:{HOLE}")
    report = it.load(**DAY)
    assert report.exit_status == 0
    [gap] = report.loads[0].to_dict()["gaps"]
    assert (gap["start"], gap["end"], gap["state"]) == (
        "2024-06-10T03:00:00Z",
        "2024-06-10T03:05:00Z",
        "exchange_gap",
    )
    evidence = json.loads(gap["evidence"])
    assert evidence["archive"] == ["BTCUSDT-1m-2024-06-10.zip"]
    assert len(evidence["rest"]) == 1
    assert it.load(**DAY).counts.rows_read == 0
    assert it.sim.requests == []


def test_missing_once_from_rest_is_unpublished_and_believed_a_day_later(bench):
    """One REST answer is no proof: exit 3; a late kline is taken when it comes, a halt is believed after 24 h."""
    it = bench()
    it.sim.add_fault(f"missing-rest=BTCUSDT:1m:{HOLE}")
    report = it.load(source="rest", **DAY)
    assert report.exit_status == 3
    assert [gap.state for gap in report.loads[0].gaps] == ["unpublished"]
    again = it.load(source="rest", **DAY)
    assert again.exit_status == 3
    assert it.asked("/klines") == []
    it.sim.set_clock("2024-06-16T12:31:00Z")
    last = it.load(source="rest", **DAY)
    assert last.exit_status == 0
    assert [gap.state for gap in last.loads[0].gaps] == ["exchange_gap"]


def test_a_late_kline_is_taken_when_it_comes(bench):
    """Unpublished is asked again after a quarter of an hour."""
    it = bench()
    it.sim.add_fault(f"missing-rest=BTCUSDT:1m:{HOLE}")
    assert it.load(source="rest", **DAY).exit_status == 3
    it.sim.clear_faults()
    it.sim.set_clock("2024-06-15T12:50:00Z")
    report = it.load(source="rest", **DAY)
    assert (report.exit_status, report.counts.rows_inserted) == (0, 5)
    assert len(it.opens()) == 1440


def test_missing_from_the_archive_with_rest_forbidden_is_no_halt(bench):
    """Nobody else was asked: unexplained, and REST settles it at the next load that may ask."""
    it = bench()
    it.sim.add_fault(f"missing-archive=BTCUSDT:1m:{HOLE}")
    report = it.load(source="archive", **DAY)
    assert report.exit_status == 3
    assert [gap.state for gap in report.loads[0].gaps] == ["unpublished"]
    it.sim.set_clock("2024-06-15T13:00:00Z")
    report = it.load(**DAY)
    assert (report.exit_status, report.counts.rows_inserted, report.loads[0].archive_files) == (0, 5, 0)


def test_a_rest_hole_is_asked_of_the_archive(bench):
    """Whoever was asked first, the other is asked before anything is called a gap."""
    it = bench(now="2024-07-10T00:00:00Z")
    hole = "2024-06-10T03:00:00Z..2024-06-10T05:00:00Z"
    it.sim.add_fault(f"missing-rest=BTCUSDT:30m:{hole}")
    report = it.load(intervals="30m", **DAY)
    assert (report.exit_status, report.counts.rows_inserted) == (0, 48)
    assert (report.loads[0].rest_requests, report.loads[0].archive_files) == (1, 1)


def test_a_flat_minute_without_trades_is_no_gap(bench):
    """Rows with volume 0 are rows."""
    it = bench()
    it.load(**DAY)
    flat = it.sql("select count(*) from klines where trade_count = 0 and volume = '0'")[0][0]
    assert flat > 0
    assert len(it.opens()) == 1440


def test_a_late_day_comes_by_rest_and_is_confirmed_later(bench):
    """`--confirm` re-reads provisional ranges whose file is out now, once."""
    it = bench()
    it.sim.add_fault("late-day=2024-06-10")
    first = it.load(**DAY)
    assert (first.exit_status, first.loads[0].rest_requests) == (0, 2)
    assert it.sql("select distinct confirmed_by from coverage where state = 'complete'") == [(None,)]
    it.sim.clear_faults()
    assert it.load(**DAY).counts.rows_read == 0
    confirmed = it.load(confirm=True, **DAY)
    assert (confirmed.counts.rows_unchanged, confirmed.counts.rows_updated) == (1440, 0)
    [(sha,)] = it.sql("select distinct confirmed_by from coverage where state = 'complete'")
    assert len(sha) == 64
    assert it.load(confirm=True, **DAY).counts.rows_read == 0
    # Only whether the file was published again.
    assert {request.path for request in it.sim.requests} == {"/listing"}


def test_what_rest_gave_after_the_file_was_read_is_confirmed_by_it(bench):
    """The file was read before these rows came: `--confirm` reads it again, once."""
    it = bench()
    it.load(**DAY)
    [(sha,)] = it.sql("select distinct confirmed_by from coverage")
    it.sql("delete from klines_data where open_time >= (select min(open_time) + 1380 * 60000000 from klines_data)")
    it.sql("update ingest_log set started_at = started_at - 3600 * 1000000")
    it.sql("update coverage set range_end = range_end - 60 * 60000000, row_count = row_count - 60")
    assert it.load(source="rest", **DAY).counts.rows_inserted == 60
    assert it.sql("select row_count from coverage where confirmed_by is null") == [(60,)]

    confirmed = it.load(confirm=True, **DAY)

    assert (confirmed.counts.rows_unchanged, confirmed.counts.rows_updated) == (60, 0)
    assert it.sql("select distinct confirmed_by, sum(row_count) from coverage") == [(sha, 1440)]
    assert it.load(confirm=True, **DAY).counts.rows_read == 0


def test_a_daily_load_confirms_the_days_before_it(bench):
    """A day comes by REST before its file is out; the next day's load confirms it, and loads nothing older anew."""
    it = bench(now="2024-06-11T00:01:00Z")
    it.load(start="2024-06-08", end="2024-06-09")
    first = it.load(confirm=True, **DAY)
    assert (first.loads[0].rest_requests, first.loads[0].archive_files) == (2, 0)
    it.sim.set_clock("2024-06-12T10:01:00Z")
    second = it.load(confirm=True, start="2024-06-11", end="2024-06-12")
    assert (second.counts.rows_inserted, second.counts.rows_unchanged) == (1440, 1440)
    assert it.sql("select count(*) from coverage where state = 'complete' and confirmed_by is null") == [(0,)]
    assert len(it.opens()) == 3 * 1440


def test_a_daily_load_asks_again_for_what_the_days_before_lacked(bench):
    """A hole that REST left yesterday is filled by today's load, when it may be asked again."""
    it = bench(now="2024-06-11T00:01:00Z")
    it.sim.add_fault(f"missing-rest=BTCUSDT:1m:{HOLE}")
    it.sim.add_fault("late-day=2024-06-10")
    assert it.load(confirm=True, **DAY).exit_status == 3
    it.sim.clear_faults()
    it.sim.set_clock("2024-06-12T00:01:00Z")
    assert it.load(confirm=True, start="2024-06-11", end="2024-06-12").exit_status == 0
    assert len(it.opens()) == 2880


@pytest.mark.parametrize("interval", ["3d", "1w", "1M"])
def test_a_kline_that_was_open_when_its_file_was_made_comes_by_rest(bench, interval):
    """Files of long intervals end with a kline that had not closed: its line is dropped."""
    it = bench(now="2024-06-20T12:30:00Z")
    window = {"intervals": interval, "start": "2024-01", "end": "2024-06-18"}
    it.load(source="archive", **window)
    report = it.load(**window)
    assert report.exit_status == 0
    rows = it.sql("select open_time / 1000, open, close, volume from klines order by open_time")
    truth = it.sim.truth("spot", "BTCUSDT", interval, "2024-01-01T00:00:00Z", "2024-06-18T00:00:00Z")
    closed = [row for row in truth if int(row[6]) < 1_718_886_598_000]
    assert [at for at, *_ in rows] == [int(row[0]) for row in closed]
    for (_, opened, close, volume), row in zip(rows, closed, strict=True):
        assert [float(opened), float(close), float(volume)] == [float(row[1]), float(row[4]), float(row[5])]


def test_coverage_leaves_out_what_has_not_closed(bench):
    """The future is not missing; `30d` and an end ahead of now are the server's."""
    it = bench()
    it.load(intervals="1h", start="2024-06-10", end="2024-06-15T12:00:00Z")
    report = ingest.coverage(config=it.config, start="2024-06-10", end="2030")
    assert (report.coverage[0].expected, report.exit_status) == (5 * 24 + 12, 0)
    assert ingest.coverage(config=it.config, start="5d").coverage[0].rows == 5 * 24 - 1


def test_coverage_never_takes_the_local_clock(bench):
    """With Binance out of reach, what is open is told by the ledger's own times, and `5d` by nobody."""
    it = bench()  # its clock is years behind this machine's
    it.load(intervals="1h", start="2024-06-10", end="2024-06-15T12:00:00Z")
    it.sim.clear_requests()
    closed = ingest.coverage(config=it.config, start="2024-06-10", end="2024-06-15T12:00:00Z")
    assert (closed.coverage[0].rows, it.asked("")) == (5 * 24 + 12, [])
    dead = it.config.model_copy(update={"spot_rest_url": "http://127.0.0.1:9"})
    report = ingest.coverage(config=dead, start="2024-06-10", end="2030")
    assert (report.coverage[0].expected, report.exit_status) == (5 * 24 + 12, 0)
    with pytest.raises(UnreachableError):
        ingest.coverage(config=dead, start="5d")
