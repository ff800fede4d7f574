"""`repair` fills what is lacking inside what is covered, and nothing else."""

from __future__ import annotations

import pytest

from airflow_provider_binance.errors import ArchiveError, InputError
from tests.upkeep.conftest import at, told

DAYS = {"start": "2024-06-08", "end": "2024-06-11"}
HOLE = "2024-06-10T03:00:00Z..2024-06-10T03:05:00Z"


def test_nothing_to_repair_fetches_nothing(shop):
    """A sound store: the archive's listing tells whether a file was published again; no weight, no finding, no row."""
    it = shop()
    it.load(**DAYS)
    before = it.state()
    report = it.repair()
    assert (report.exit_status, report.findings, it.state()) == (0, (), before)
    assert {request.path for request in it.sim.requests} == {"/listing"}


def test_rows_deleted_behind_the_ledgers_back_come_from_the_file_that_gave_them(shop):
    """A minute, a day, and the end: rows and ledger are what they were, and one file is read for each day."""
    it = shop()
    it.load(**DAYS)
    before = it.state()
    for start, end in (
        ("2024-06-08T03:00", "2024-06-08T03:01"),
        ("2024-06-09T00:00", "2024-06-10T00:00"),
        ("2024-06-10T23:00", "2024-06-11T00:00"),
    ):
        it.sql("DELETE FROM klines_data WHERE open_time >= %s AND open_time < %s", at(start), at(end))
    report = it.repair()
    # The hour at the end of one day is no neighbour of the day before it.
    assert told(report.findings) == [("rows_missing", "ours", "fixed")] * 3
    assert [finding.rows for finding in report.findings] == [1, 1440, 60]
    assert (report.exit_status, report.loads[0].counts.rows_inserted) == (0, 1501)
    assert it.state() == before
    assert sorted({path.rpartition("/")[2] for path in it.asked(".zip") if "CHECKSUM" not in path}) == [
        f"BTCUSDT-1m-2024-06-{day}.zip?" for day in ("08", "09", "10")
    ]


def test_a_truncated_table_comes_back(shop):
    it = shop()
    it.load(**DAYS)
    before = it.state()
    it.sql("DELETE FROM klines_data")
    report = it.repair(symbols="BTCUSDT", market="spot", intervals="1m")
    assert (report.exit_status, report.loads[0].counts.rows_inserted, it.state()) == (0, 3 * 1440, before)


@pytest.mark.parametrize("ledger", ["coverage", "ingest_log"])
def test_lost_ledger_lines_are_written_anew_from_the_source_that_gave_the_rows(shop, ledger):
    """Coverage, or the lines that say who brought it: either is told by the other."""
    it = shop()
    it.load(**DAYS)
    before = it.state()
    it.sql(f"DELETE FROM {ledger} WHERE range_start < %s", at("2024-06-09"))
    report = it.repair()
    kind = "rows_uncovered" if ledger == "coverage" else "ledger_line"
    assert [f for f in told(report.findings) if f[0] == kind] == [(kind, "ours", "fixed")]
    assert (report.exit_status, it.state()) == (0, before)
    assert report.loads[0].counts.rows_updated == report.loads[0].counts.rows_inserted == 0
    assert it.repair().findings == ()


def test_a_wrong_count_in_the_ledger_is_set_right(shop):
    it = shop()
    it.load(**DAYS)
    before = it.state()
    it.sql("UPDATE coverage SET row_count = 7")
    report = it.repair()
    assert {f[0] for f in told(report.findings)} == {"row_count"}
    assert (report.exit_status, it.state()) == (0, before)


def test_holes_between_what_is_covered_are_loaded_and_what_lies_beyond_is_not(shop):
    """Two loads with a week between them: the week comes, nothing before and nothing after."""
    it = shop()
    it.load(start="2024-06-01", end="2024-06-02")
    it.load(start="2024-06-09", end="2024-06-10")
    report = it.repair()
    assert told(report.findings) == [("gap", "ours", "fixed")]
    assert (report.exit_status, report.loads[0].counts.rows_inserted) == (0, 7 * 1440)


def test_a_gap_that_is_not_due_waits_unless_asked_for_early(shop):
    """Unpublished by REST: nobody is asked before its time; with `early` the source is, and gives the rows."""
    it = shop()
    it.sim.add_fault(f"missing-rest=BTCUSDT:1m:{HOLE}")
    assert it.load(source="rest", **DAYS).exit_status == 3
    it.sim.clear_faults()
    waiting = it.repair(source="rest")
    assert (waiting.exit_status, it.asked("/klines")) == (3, [])
    assert told(waiting.findings) == [("gap", "unknown", "open")]
    report = it.repair(source="rest", early=True)
    assert (report.exit_status, report.loads[0].counts.rows_inserted) == (0, 5)
    assert told(report.findings) == [("gap", "unknown", "fixed")]


def test_a_gap_that_both_sources_have_becomes_explained(shop):
    """The archive agrees with what REST said: a halt, and no rows invented."""
    it = shop()
    it.sim.add_fault(f"missing-both=BTCUSDT:1m:{HOLE}")
    assert it.load(source="rest", **DAYS).exit_status == 3
    report = it.repair()
    assert told(report.findings) == [("gap", "binance", "explained")]
    assert report.exit_status == 0
    assert it.sql("SELECT count(*) FROM coverage WHERE state = 'exchange_gap'") == [(1,)]


def test_rows_that_no_source_has_any_more_leave_a_true_ledger(shop):
    """Deleted, and Binance does not give them again: the ledger must not go on calling them complete."""
    it = shop()
    it.load(**DAYS)
    it.sim.add_fault(f"missing-both=BTCUSDT:1m:{HOLE}")
    start, end = at("2024-06-10T03:00"), at("2024-06-10T03:05")
    it.sql("DELETE FROM klines_data WHERE open_time >= %s AND open_time < %s", start, end)
    report = it.repair()
    assert told(report.findings) == [("rows_missing", "binance", "explained")]
    assert it.sql("SELECT state FROM coverage WHERE range_start = %s", start) == [("exchange_gap",)]


@pytest.mark.parametrize("lasting", [True, False])
def test_rows_in_a_settled_gap_are_mended_and_not_told_again(shop, lasting):
    """What no source has is taken out and the halt stays; what Binance gives by now is covered. Then all is quiet."""
    it = shop()
    it.sim.add_fault(f"missing-both=BTCUSDT:1m:{HOLE}")
    it.load(**DAYS)
    before = it.state()
    columns = "series_id, open, high, low, close, volume, close_time, quote_volume, trade_count"
    columns += ", taker_buy_base_volume, taker_buy_quote_volume"
    it.sql(f"INSERT INTO klines_data (open_time, {columns}) SELECT %s, {columns} FROM klines_data WHERE open_time = %s",
           at("2024-06-10T03:02"), at("2024-06-10T02:59"))  # fmt: skip
    if not lasting:
        it.sim.clear_faults()
    report = it.repair()
    assert ({status for _, _, status in told(report.findings)}, report.exit_status) == ({"fixed"}, 0)
    assert (it.state() == before) == lasting
    [(count,)] = it.sql("SELECT count(*) FROM klines_data")
    assert count == 3 * 1440 - (5 if lasting else 4)
    assert it.repair().findings == ()
    assert {f.kind for f in it.verify().findings} == {"halt"}


def test_what_is_refused_of_one_symbol_does_not_keep_the_others_from_being_repaired(shop):
    """The error comes at the end, and tells what was found and done of all."""
    it = shop(symbols=["BTCUSDT", "ETHUSDT", "LTCUSDT"])
    it.load("BTCUSDT,ETHUSDT,LTCUSDT", **DAYS)
    it.sql("DELETE FROM klines_data WHERE open_time = %s", at("2024-06-10T03:00"))
    it.sql("DELETE FROM ingest_log")  # so that the archive's checksums are asked which file it was
    it.sim.add_fault("http=400@/ETHUSDT/")
    with pytest.raises(ArchiveError) as caught:
        it.repair(source="archive", confirm=False)
    report = caught.value.report
    assert {load.series.symbol: bool(load.error) for load in report.loads} == {
        "BTCUSDT": False, "ETHUSDT": True, "LTCUSDT": False,
    }  # fmt: skip
    assert {finding.series.symbol for finding in report.open} == {"ETHUSDT"}
    it.sim.clear_faults()
    assert it.repair().exit_status == 0
    assert it.sql("SELECT count(*) FROM klines_data") == [(3 * 3 * 1440,)]


def test_what_was_forgotten_in_the_middle_comes_back(shop):
    """A hole between what is covered is what `repair` fills: whoever wants less forgets an end."""
    from airflow_provider_binance import ingest

    it = shop()
    it.load(**DAYS)
    before = it.state()
    ingest.forget(market="spot", symbols="BTCUSDT", start="2024-06-09", end="2024-06-10", config=it.config)
    assert it.repair().exit_status == 0
    assert it.state() == before
    ingest.forget(market="spot", symbols="BTCUSDT", end="2024-06-10", config=it.config)
    after = it.state()
    assert (it.repair().findings, it.state()) == ((), after)


def test_provisional_ranges_are_confirmed_once_their_file_is_out(shop):
    """By REST first; confirmed when the day's file is there; not at all if not wanted."""
    it = shop()
    it.sim.add_fault("late-day=2024-06-10")
    it.load(**DAYS)
    it.sim.clear_faults()
    unconfirmed = "SELECT count(*) FROM coverage WHERE confirmed_by IS NULL"
    assert it.sql(unconfirmed) == [(1,)]
    it.repair(confirm=False)
    assert it.sql(unconfirmed) == [(1,)]
    assert it.repair().exit_status == 0
    assert it.sql(unconfirmed) == [(0,)]


def test_provisional_rows_that_were_lost_come_by_rest(shop):
    """Where they came from; the day's file is not out."""
    it = shop()
    it.sim.add_fault("late-day=2024-06-10")
    it.load(**DAYS)
    before = it.state()
    it.sql("DELETE FROM klines_data WHERE open_time >= %s", at("2024-06-10T20:00"))
    assert it.repair().exit_status == 0
    assert it.state() == before


def test_only_the_window_and_the_series_that_are_asked_for(shop):
    it = shop(symbols=["BTCUSDT", "ETHUSDT"])
    it.load("BTCUSDT,ETHUSDT", **DAYS)
    it.sql("DELETE FROM klines_data")
    report = it.repair(symbols="ETH*", start="2024-06-09", end="2024-06-10")
    assert [load.series.symbol for load in report.loads] == ["ETHUSDT"]
    assert it.sql("SELECT symbol, count(*) FROM klines GROUP BY symbol") == [("ETHUSDT", 1440)]


def test_what_the_store_has_not_is_refused(shop):
    it = shop()
    it.load(**DAYS)
    with pytest.raises(InputError, match=r"nothing of spot ETHUSDT: `load` brings it"):
        it.repair(market="spot", symbols="ETHUSDT")
    with pytest.raises(InputError, match="unknown source"):
        it.repair(source="ftp")
    assert it.repair(symbols="*BUSD").loads == ()


def test_an_empty_store_has_nothing_to_repair(shop):
    it = shop()
    assert it.repair().to_dict() == {"schema": 1, "repairs": [], "findings": []}
    assert it.sim.requests == []
