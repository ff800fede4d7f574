"""`verify` finds what is wrong, says whose it is, and with `fix` makes it right."""

from __future__ import annotations

import pytest

from airflow_provider_binance.errors import InputError
from tests.upkeep.conftest import at, told

DAY = {"start": "2024-06-09", "end": "2024-06-11"}
HOLE = "2024-06-10T03:00:00Z..2024-06-10T03:05:00Z"
MINUTE = at("2024-06-10T07:07")


@pytest.mark.parametrize("against", [None, ["archive", "rest"]])
def test_a_sound_store_is_clean(shop, against):
    """A halt is told, as Binance's and explained; nobody is asked unless a source is named."""
    it = shop()
    it.sim.add_fault(f"missing-both=BTCUSDT:*:{HOLE}")
    it.load(intervals="1m,5m,1h", **DAY)
    before = it.state()
    report = it.verify(against=against)
    assert set(told(report.findings)) == {("halt", "binance", "explained")}
    assert (report.exit_status, it.state()) == (0, before)
    assert (it.sim.requests == []) == (against is None)
    minutes, *longer = report.checked
    assert (minutes.rows, [entry.rolled_up for entry in longer]) == (2875, [575, 47])
    assert minutes.compared == dict.fromkeys(against or [], 2875)


def test_a_changed_digit_is_ours_and_set_right_from_the_file(shop):
    """The file whose hash the ledger has says otherwise; the correction is on record."""
    it = shop()
    it.load(**DAY)
    before = it.state()
    it.sql("UPDATE klines_data SET volume = '1.25' WHERE open_time = %s", MINUTE)
    report = it.verify(against="archive")
    [finding] = report.findings
    assert told(report.findings) == [("value", "ours", "open")]
    assert (report.exit_status, finding.evidence["columns"]) == (3, ["volume"])
    assert finding.evidence["rows"][0]["volume"]["stored"] == "1.25"
    assert told(it.verify(against="archive", fix=True).findings) == [("value", "ours", "fixed")]
    assert it.state() == before
    assert it.sql("SELECT column_name, old_value FROM corrections") == [("volume", "1.25")]
    assert it.verify(against="archive").findings == ()


def test_what_is_no_number_at_all_is_set_right(shop):
    """SQLite's columns take bytes and any text; PostgreSQL's take NaN."""
    it = shop()
    it.load(**DAY)
    before = it.state()
    if it.url.startswith("sqlite"):
        it.sql("UPDATE klines_data SET low = x'00ff' WHERE open_time = %s", MINUTE)
    else:
        it.sql("UPDATE klines_data SET low = 'NaN' WHERE open_time = %s", MINUTE)
    report = it.verify(against="archive", fix=True)
    assert set(told(report.findings)) == {("rule_broken", "ours", "fixed"), ("value", "ours", "fixed")}
    assert (report.exit_status, it.state()) == (0, before)


def test_a_changed_close_time_is_set_right(shop):
    it = shop()
    it.load(**DAY)
    before = it.state()
    second = "1000000" if it.url.startswith("sqlite") else "interval '1 second'"
    it.sql(f"UPDATE klines_data SET close_time = open_time + {second} WHERE open_time = %s", MINUTE)
    assert told(it.verify(against="archive", fix=True).findings) == [("value", "ours", "fixed")]
    assert it.state() == before


def test_fix_without_a_comparison_asks_only_about_what_is_suspect(shop):
    """A broken rule and a sum that lacks: the file decides, and the other rows are not asked for."""
    it = shop()
    it.load(intervals="1m,1h", **DAY)
    before = it.state()
    it.sql("UPDATE klines_data SET low = '999999' WHERE open_time = %s AND close_time IS NOT NULL", MINUTE)
    it.sql("UPDATE klines_data SET low = '999999' WHERE open_time = %s", MINUTE)
    report = it.verify(fix=True)
    assert {(kind, blame, status) for kind, blame, status in told(report.findings)} == {
        ("rule_broken", "ours", "fixed"),
        ("value", "ours", "fixed"),
    }
    assert (report.exit_status, it.state()) == (0, before)


def test_what_one_look_cannot_tell_is_told_by_the_next(shop, monkeypatch):
    """Of more broken rows than a look tells, those behind are open and not passed over."""
    monkeypatch.setattr("airflow_provider_binance.store.sql_inspect.MOST_ROWS", 2)
    it = shop()
    it.load(**DAY)
    before = it.state()
    last = at("2024-06-10T07:09")
    it.sql("UPDATE klines_data SET low = '999999' WHERE open_time >= %s AND open_time <= %s", MINUTE, last)
    report = it.verify(fix=True)
    assert [finding.kind for finding in report.open] == ["rule_broken"]
    assert (report.exit_status, it.verify(fix=True).exit_status) == (3, 0)
    assert it.state() == before


@pytest.mark.parametrize("changed", ["volume = '1.25'", "open_time = open_time + {moment}"])
def test_a_wholly_wrong_series_is_held_in_bounded_memory(shop, monkeypatch, changed):
    """Every second row differs: some are told one by one, the others together; all are mended, if need be in turns."""
    monkeypatch.setattr("airflow_provider_binance.upkeep.comparing.MOST_RUNS", 20)
    monkeypatch.setattr("airflow_provider_binance.upkeep.comparing._PAGE_ROWS", 20)
    it = shop()
    it.load(start="2024-06-10T00:00:00Z", end="2024-06-10T05:00:00Z")
    before = it.state()
    odd = "open_time / 60000000 % 2 = 1" if it.url.startswith("sqlite") else "extract(minute FROM open_time) % 2 = 1"
    moment = "7000000" if it.url.startswith("sqlite") else "interval '7 seconds'"
    it.sql(f"UPDATE klines_data SET {changed.format(moment=moment)} WHERE {odd}")
    report = it.verify(against="archive")
    told_of = [f for f in report.findings if f.kind == "value"]
    assert len(told_of) <= 20 + 10 + 1
    assert sum(f.rows for f in told_of) == 150 or "volume" not in changed
    turns = 0
    while it.verify(against="archive", fix=True).exit_status:
        turns += 1
        assert turns < 20
    assert it.state() == before


def test_a_sum_that_lacks_is_traced_to_the_series_that_is_wrong(shop):
    """Of an hour and its minutes one is off: unknown until a source is asked."""
    it = shop()
    it.load(intervals="1m,1h", **DAY)
    before = it.state()
    it.sql("UPDATE klines_data SET trade_count = trade_count + 1 WHERE open_time = %s", MINUTE)
    assert told(it.verify().findings) == [("rollup", "unknown", "open")]
    report = it.verify(fix=True)
    assert sorted(told(report.findings)) == [("rollup", "ours", "fixed"), ("value", "ours", "fixed")]
    assert it.state() == before


def test_shifted_rows_are_taken_out_and_brought_back(shop):
    """An hour moved by half a minute: 60 rows too many off the grid, 60 too few on it."""
    it = shop()
    it.load(**DAY)
    before = it.state()
    shift = "30000000" if it.url.startswith("sqlite") else "interval '30 seconds'"
    it.sql(f"UPDATE klines_data SET open_time = open_time + {shift} WHERE open_time >= %s AND open_time < %s",
           at("2024-06-10T07:00"), at("2024-06-10T08:00"))  # fmt: skip
    report = it.verify(against="archive", fix=True)
    assert {kind for kind, _, _ in told(report.findings)} >= {"off_grid", "rows_missing"}
    assert {(blame, status) for _, blame, status in told(report.findings)} == {("ours", "fixed")}
    assert it.state() == before
    assert it.sql("SELECT count(*) FROM corrections WHERE new_value IS NULL AND column_name = 'close'") == [(60,)]


def test_made_up_rows_in_a_halt_are_taken_out(shop):
    """Neither source has them: they go, the halt stays explained as it was."""
    it = shop()
    it.sim.add_fault(f"missing-both=BTCUSDT:1m:{HOLE}")
    it.load(**DAY)
    before = it.state()
    columns = "series_id, open, high, low, close, volume, close_time, quote_volume, trade_count"
    columns += ", taker_buy_base_volume, taker_buy_quote_volume"
    it.sql(f"INSERT INTO klines_data (open_time, {columns}) SELECT %s, {columns} FROM klines_data WHERE open_time = %s",
           at("2024-06-10T03:02"), at("2024-06-10T02:59"))  # fmt: skip
    assert ("rows_in_gap", "ours", "open") in told(it.verify().findings)
    report = it.verify(fix=True)
    assert ("rows_foreign", "ours", "fixed") in told(report.findings)
    assert (report.exit_status, it.state()) == (0, before)


def test_rows_that_binance_had_not_and_has_now_are_its_own_doing(shop):
    """A halt that was filled later: published late, and loaded."""
    it = shop()
    it.sim.add_fault(f"missing-both=BTCUSDT:1m:{HOLE}")
    it.load(**DAY)
    it.sim.clear_faults()
    found = told(it.verify(against="rest").findings)
    assert ("published_late", "binance", "open") in found
    report = it.verify(against="rest", fix=True)
    assert ("published_late", "binance", "fixed") in told(report.findings)
    assert it.verify().findings == ()
    assert it.sql("SELECT count(*) FROM klines") == [(2880,)]


def test_two_symbols_that_were_swapped_are_put_back(shop):
    it = shop(symbols=["BTCUSDT", "ETHUSDT"])
    it.load("BTCUSDT,ETHUSDT", **DAY)
    before = it.state()
    hour = at("2024-06-10T07:00"), at("2024-06-10T08:00")
    swap = "UPDATE klines_data SET series_id = %s WHERE series_id = %s AND open_time >= %s AND open_time < %s"
    [(one,), (two,)] = it.sql("SELECT series_id FROM series ORDER BY series_id")
    for new, old in ((-1, one), (one, two), (two, -1)):
        it.sql(swap, new, old, *hour)
    report = it.verify(against="archive", fix=True)
    assert told(report.findings) == [("value", "ours", "fixed")] * 2
    assert [finding.rows for finding in report.findings] == [60, 60]
    assert it.state() == before


def test_a_lost_ledger_is_written_anew(shop):
    """Coverage gone, the log left: the rows are what it says, and coverage comes back as it was."""
    it = shop()
    it.load(**DAY)
    before = it.state()
    it.sql("DELETE FROM coverage")
    assert told(it.verify().findings) == [("rows_uncovered", "ours", "open")]
    assert told(it.verify(fix=True).findings) == [("rows_uncovered", "ours", "fixed")]
    assert it.state() == before


def test_rows_of_before_the_ledger_wait_for_adopt(shop):
    """Written by somebody else: told, left alone by fix, and taken over after each was compared with its source."""
    it = shop()
    it.load(**DAY)
    rows = it.sql("SELECT count(*) FROM klines_data")
    it.sql("DELETE FROM coverage")
    it.sql("DELETE FROM ingest_log")
    it.sql("UPDATE klines_data SET volume = '1.25' WHERE open_time = %s", MINUTE)
    assert told(it.verify(fix=True).findings) == [("rows_uncovered", "ours", "open")]
    report = it.verify(adopt=True)
    assert sorted(told(report.findings)) == [("rows_uncovered", "ours", "fixed"), ("value", "ours", "fixed")]
    assert it.sql("SELECT state, row_count FROM coverage WHERE state = 'complete'")[0] == ("complete", 1440)
    assert it.sql("SELECT old_value FROM corrections") == [("1.25",)]
    assert it.sql("SELECT count(*) FROM klines_data") == rows
    assert it.verify(against="archive").findings == ()


def test_sources_that_disagree_are_binances_and_stay(shop):
    """REST lacks what the file has: the archive's word stands, nothing is changed, exit 0."""
    it = shop()
    it.load(**DAY)
    before = it.state()
    it.sim.add_fault(f"missing-rest=BTCUSDT:1m:{HOLE}")
    report = it.verify(against="rest", fix=True)
    assert told(report.findings) == [("sources_disagree", "binance", "explained")]
    assert (report.exit_status, it.state()) == (0, before)


def test_rows_that_only_rest_has_are_kept(shop):
    """The file lacks them, REST gave them and gives them still."""
    it = shop()
    it.sim.add_fault(f"missing-archive=BTCUSDT:1m:{HOLE}")
    it.load(**DAY)
    before = it.state()
    report = it.verify(against="archive", fix=True)
    assert {(blame, status) for _, blame, status in told(report.findings)} <= {("binance", "explained")}
    assert (report.exit_status, it.state()) == (0, before)


def test_a_provisional_digit_is_told_by_rest(shop):
    """No file is out: REST decides, and the range stays provisional."""
    it = shop()
    it.sim.add_fault("late-day=2024-06-10")
    it.load(**DAY)
    before = it.state()
    it.sql("UPDATE klines_data SET close = '1', low = '1' WHERE open_time = %s", MINUTE)
    assert told(it.verify(against="archive").findings) == []
    assert told(it.verify(against="rest", fix=True).findings) == [("value", "ours", "fixed")]
    assert it.state() == before


def test_what_cannot_be_meant_is_refused(shop):
    it = shop()
    it.load(**DAY)
    with pytest.raises(InputError, match="unknown source 'ftp' to verify against: use archive, rest or both"):
        it.verify(against="ftp")
    with pytest.raises(InputError, match="nothing of"):
        it.verify(symbols="NOSUCH")


def test_a_file_that_was_replaced_is_told_and_taken_over(shop):
    """New bytes: the ledger's hash is not the archive's any more. With the same rows that is explained; where rows
    were corrected it is Binance's, open until they are loaded, and the ledger then names the new file."""
    it = shop()
    it.load(**DAY)
    hashes = it.sql("SELECT DISTINCT confirmed_by FROM coverage ORDER BY 1")
    it.sim.add_fault("republished=BTCUSDT:1m:2024-06-10T00:00:00Z..2024-06-11T00:00:00Z")
    same = it.verify(against="archive")
    assert told(same.findings) == [("republished", "binance", "explained")]
    it.sim.clear_faults()
    it.sim.add_fault("corrected=BTCUSDT:1m:2024-06-10T07:00:00Z..2024-06-10T07:05:00Z")
    report = it.verify(against="archive")
    assert ("republished", "binance", "open") in told(report.findings)
    assert {blame for _, blame, _ in told(report.findings)} == {"binance"}
    assert ("republished", "binance", "fixed") in told(it.verify(against="archive", fix=True).findings)
    assert it.sql("SELECT DISTINCT confirmed_by FROM coverage ORDER BY 1") != hashes
    assert it.verify(against="archive").findings == ()


def test_every_interval_adds_up_as_binance_makes_it(shop):
    """Hours into weeks that begin on Mondays, calendar months and 3d, seconds into minutes; a halt leaves its klines
    out of the longer ones, and those are not judged."""
    it = shop(now="2024-06-15T12:30:20Z")
    it.sim.add_fault("halt=BTCUSDT:*:2024-05-02T05:00:00Z..2024-05-02T07:00:00Z")
    it.load(intervals="1h,2h,4h,6h,8h,12h,1d,3d,1w,1M", start="2024-03-25", end="2024-06-10")
    report = it.verify()
    assert {kind for kind, _, _ in told(report.findings)} <= {"halt", "gap"}
    rolled = {entry.series.interval: (entry.rolled_up, entry.rows) for entry in report.checked}
    assert rolled == {
        "1h": (0, 1846), "2h": (922, 924), "4h": (461, 462), "6h": (306, 308), "8h": (230, 231), "12h": (153, 154),
        "1d": (76, 77), "3d": (24, 26), "1w": (10, 11), "1M": (1, 2),
    }  # fmt: skip
    it.sql("UPDATE klines_data SET trade_count = trade_count + 1 WHERE open_time = %s", at("2024-04-08"))
    # The hour itself is wrong too, so that not its sums but the klines that were changed beside it show.
    wrong = {f.series.interval for f in it.verify().findings if f.kind == "rollup"}
    assert wrong == {"3d", "1M"}


def test_seconds_add_up_to_minutes(shop):
    it = shop(now="2024-06-11T12:30:20Z")
    it.load(intervals="1s,1m,1h", start="2024-06-10T10:00:00Z", end="2024-06-10T12:00:00Z")
    report = it.verify()
    assert report.findings == ()
    assert [(e.series.interval, e.rolled_up) for e in report.checked] == [("1s", 0), ("1m", 120), ("1h", 2)]


def test_coin_margined_klines_are_compared_slot_by_slot(shop):
    """Contracts and base volume lie elsewhere there; a digit of either is found and set right."""
    it = shop(symbols=["cm:BTCUSD_PERP"])
    it.load("BTCUSD_PERP", "1h", market="cm", **DAY)
    before = it.state()
    assert it.verify(against=["archive", "rest"]).findings == ()
    it.sql("UPDATE klines_data SET contracts = contracts + 1 WHERE open_time = %s", at("2024-06-10T07:00"))
    it.sql("UPDATE klines_data SET volume = '0.5' WHERE open_time = %s", at("2024-06-10T09:00"))
    report = it.verify(against="rest", fix=True)
    assert [f.evidence["columns"] for f in report.findings if f.kind == "value"] == [["contracts"], ["volume"]]
    assert (report.exit_status, it.state()) == (0, before)
