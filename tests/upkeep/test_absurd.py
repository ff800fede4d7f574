"""What no source can be asked about: columns of another market, impossible times, rows and lines without a series."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.errors import BinanceError, UnreachableError
from tests.upkeep.conftest import at, told

DAY = {"start": "2024-06-09", "end": "2024-06-11"}
MINUTE = at("2024-06-10T07:07")
COLUMNS = (
    "series_id, open, high, low, close, volume, close_time, quote_volume, trade_count, taker_buy_base_volume, "
    "taker_buy_quote_volume"
)
FIXED = ("rows_foreign", "ours", "fixed")


def copy_to(it, time: str, of=MINUTE) -> None:
    """A row more: what opened at `of` again, at a time that is written as SQL."""
    it.sql(f"INSERT INTO klines_data (open_time, {COLUMNS}) SELECT {time}, {COLUMNS} FROM klines_data "
           "WHERE open_time = %s", of)  # fmt: skip


@pytest.mark.parametrize(
    ("market", "symbol", "column"),
    [("um", "BTCUSDT", "contracts"), ("spot", "BTCUSDT", "taker_buy_contracts"), ("cm", "BTCUSD_PERP", "quote_volume")],
)
def test_values_in_columns_that_the_market_has_not_are_found_and_emptied(shop, market, symbol, column):
    """By the store alone: nobody is asked, neighbours are one finding, and every value is in `corrections`."""
    it = shop(symbols=[f"{market}:{symbol}"])
    it.load(symbol, market=market, **DAY)
    before = it.state()
    it.sql(f"UPDATE klines_data SET {column} = '-7' WHERE open_time >= %s AND open_time < %s",
           MINUTE, at("2024-06-10T07:10"))  # fmt: skip
    report = it.verify()
    assert told(report.findings) == [("column_foreign", "ours", "open")]
    assert (report.findings[0].rows, report.findings[0].evidence["columns"]) == (3, [column])
    assert told(it.verify(fix=True).findings) == [("column_foreign", "ours", "fixed")]
    assert (it.state(), it.sim.requests) == (before, [])
    noted = it.sql("SELECT key, column_name, old_value, new_value, new_source FROM corrections ORDER BY key")
    assert [line[1:] for line in noted] == [(column, "-7", None, None)] * 3
    assert json.loads(noted[0][0])["open_time"] == "2024-06-10T07:07:00Z"


def test_a_value_that_lacks_is_found_without_a_source_and_brought(shop):
    it = shop()
    it.load(**DAY)
    before = it.state()
    it.sql("UPDATE klines_data SET quote_volume = NULL WHERE open_time = %s", MINUTE)
    [finding] = it.verify().findings
    assert (finding.kind, finding.evidence["broken"]) == ("rule_broken", ["quote_volume is there"])
    assert it.verify(fix=True).exit_status == 0
    assert it.state() == before


def test_rows_at_times_that_cannot_be_are_told_and_taken_out(shop):
    """Before Binance began and after now, on the grid and off it: no source is asked about them."""
    it = shop()
    it.load(**DAY)
    before = it.state()
    for text in ("1812-06-10T07:07", "2040-06-10T07:07", "9000-01-01T00:00"):
        copy_to(it, it_time(it, text))
        copy_to(it, it_time(it, f"{text}:07"))
    report = it.verify()
    assert {status for _, _, status in told(report.findings)} == {"open"}
    assert sum(finding.rows for finding in report.findings if finding.kind != "rule_broken") == 6
    assert it.sim.requests == []
    report = it.verify(fix=True)
    assert (set(told(report.findings)), report.exit_status) == ({FIXED}, 0)
    assert {request.path for request in it.sim.requests} == {"/api/v3/time"}
    assert it.state() == before
    assert it.sql("SELECT count(*), count(new_source) FROM corrections WHERE column_name = 'close'") == [(6, 0)]
    assert it.verify().findings == ()


@pytest.mark.parametrize("source", [None, "rest"])
def test_rows_beyond_the_calendar_are_told_and_taken_out(shop, source):
    """Times that no datetime can hold, infinities and what is no time at all."""
    it = shop()
    it.load(**DAY)
    before = it.state()
    times = [
        "timestamptz 'infinity'",
        "timestamptz '-infinity'",
        "timestamptz '4000-01-01 BC'",
        "timestamptz '99999-01-01'",
    ]
    if it.url.startswith("sqlite"):
        times = ["-8000000000000000000", "8000000000000000000", "'soon'", "x'00ff'", "1718000000000000.5"]
    for time in times:
        copy_to(it, time)
    report = it.verify()
    assert told(report.findings) == [("rows_foreign", "ours", "open")]
    assert (report.findings[0].rows, report.exit_status) == (len(times), 3)
    assert it.verify(start="2024-06-10", end="2024-06-11").findings == ()
    report = it.verify(fix=True, against=source)
    assert (told(report.findings), report.exit_status, it.state()) == ([FIXED], 0, before)
    assert it.sql("SELECT count(*) FROM corrections WHERE column_name = 'close'") == [(len(times),)]
    copy_to(it, times[0])
    [emptied] = ingest.forget(market="spot", symbols="BTCUSDT", config=it.config).forgotten
    assert (emptied.rows, it.sql("SELECT count(*) FROM klines_data")) == (2881, [(0,)])


def test_a_close_time_beyond_the_calendar_is_set_right(shop):
    it = shop()
    it.load(**DAY)
    before = it.state()
    far = "8000000000000000000" if it.url.startswith("sqlite") else "'infinity'"
    it.sql(f"UPDATE klines_data SET close_time = {far} WHERE open_time = %s", MINUTE)
    assert ("rule_broken", "unknown", "open") in told(it.verify().findings)
    report = it.verify(fix=True, against="archive")
    assert (report.exit_status, it.state()) == (0, before)


def test_adopting_takes_nothing_over_from_the_future(shop):
    """A row of 2040 beside rows of before the ledger: these are taken over, that goes, and nothing else is loaded."""
    it = shop()
    it.load(**DAY)
    rows = it.sql("SELECT count(*) FROM klines_data")
    it.sql("DELETE FROM coverage")
    it.sql("DELETE FROM ingest_log")
    copy_to(it, it_time(it, "2040-01-01T00:00"))
    report = it.verify(adopt=True)
    assert sorted(told(report.findings)) == [FIXED, ("rows_uncovered", "ours", "fixed")]
    assert it.sql("SELECT count(*) FROM klines_data") == rows
    assert it.sql("SELECT count(*) FROM coverage WHERE state <> 'complete'") == [(0,)]
    assert it.verify().findings == ()


@pytest.mark.parametrize(("market", "interval"), [("spot", "7m"), ("um", "1s"), ("margin", "1m")])
def test_a_series_of_no_market_or_interval_is_told(shop, market, interval):
    """It disturbs nobody: the others are verified, repaired, shown and forgotten."""
    it = shop()
    it.load(**DAY)
    it.sql(
        "INSERT INTO series (series_id, market, symbol, \"interval\") VALUES (77, %s, 'BTCUSDT', %s)", market, interval
    )
    it.sql("UPDATE klines_data SET series_id = 77 WHERE open_time = %s", MINUTE)
    it.sql('INSERT INTO coverage (dataset, market, symbol, "interval", range_start, range_end, state, row_count) '
           "VALUES ('klines', %s, 'BTCUSDT', %s, %s, %s, 'complete', 1)", market, interval, MINUTE,
           at("2024-06-10T07:14"))  # fmt: skip
    report = it.verify(fix=True)
    assert sorted(told(report.findings)) == [("rows_missing", "ours", "fixed"), ("series_unknown", "ours", "open")]
    [strange] = report.open
    assert (strange.series.interval, report.exit_status) == (interval, 3)
    assert (market if market == "margin" else interval) in strange.evidence["note"]
    assert it.repair().exit_status == 0
    assert [entry.series.market for entry in ingest.coverage(config=it.config).coverage] == ["spot"]
    assert len(ingest.forget(market="spot", symbols="*", config=it.config).forgotten) == 1


def test_orphans_get_their_series_back_where_it_is_plain(shop):
    """The line of `series` is deleted: the ledger still knows of rows that one number alone can have."""
    it = shop()
    it.load(**DAY)
    before = it.state()
    it.sql("DELETE FROM series")
    report = it.verify()
    assert ("rows_orphaned", "ours", "open") in told(report.findings)
    report = it.verify(fix=True)
    assert told(report.findings) == [("rows_orphaned", "ours", "fixed")]
    assert it.asked(".zip") == []
    assert (it.state(), it.verify().findings) == (before, ())


def test_orphans_of_which_nothing_tells_are_told(shop):
    """Two series are gone, and the ledger with them: which rows were whose is nobody's to say."""
    it = shop(symbols=["BTCUSDT", "ETHUSDT"])
    it.load("BTCUSDT,ETHUSDT", **DAY)
    for table in ("coverage", "ingest_log", "series"):
        it.sql(f"DELETE FROM {table}")
    report = it.verify(fix=True)
    assert told(report.findings) == [("rows_orphaned", "ours", "open")] * 2
    assert ([finding.rows for finding in report.findings], report.exit_status) == ([2880, 2880], 3)
    assert it.sql("SELECT count(*) FROM klines_data") == [(5760,)]


@pytest.mark.parametrize("fault", ["418=7200", "451"])
def test_what_was_found_before_binance_refuses_is_told(shop, fault):
    """Of three symbols the sources are lost at the second: what the store tells of itself is told of all three."""
    it = shop(symbols=["BTCUSDT", "ETHUSDT", "LTCUSDT"])
    it.load("BTCUSDT,ETHUSDT,LTCUSDT", **DAY)
    it.sql("UPDATE klines_data SET volume = '1.25' WHERE open_time = %s", MINUTE)
    it.sql("DELETE FROM klines_data WHERE open_time = %s", at("2024-06-10T09:00"))
    seen: list[str] = []

    def refuse(progress) -> None:
        seen.append(progress.series.symbol)
        if len(seen) == 1:
            it.sim.add_fault(fault)

    with pytest.raises(BinanceError) as refused:
        it.verify(against="rest", on_progress=refuse)
    report = refused.value.report
    missing = [f.series.symbol for f in report.findings if f.kind == "rows_missing"]
    assert (missing, refused.value.exit_status) == (["BTCUSDT", "ETHUSDT", "LTCUSDT"], 4)
    assert [f.series.symbol for f in report.findings if f.kind == "value"] == ["BTCUSDT"]
    assert [bool(entry.error) for entry in report.checked][1:] == [True, True]


def it_time(it, text: str) -> str:
    """A time as SQL."""
    if it.url.startswith("sqlite"):
        return str(it.time(at(text)))
    return f"timestamptz '{text}+00'"


def test_the_command_line_tells_what_was_found_before_the_refusal(shop):
    """Exit 4, the findings on stdout, the reason on stderr."""
    it = shop()
    it.load(**DAY)
    it.sql("DELETE FROM klines_data WHERE open_time = %s", MINUTE)
    settings = {
        **it.sim.settings,
        "BINANCE_STORE_URL": it.url,
        "BINANCE_ARCHIVE_URL": "http://127.0.0.1:9",
        "BINANCE_SPOT_REST_URL": "http://127.0.0.1:9",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "airflow_provider_binance.cli", "verify", "--against", "rest", "--json"],
        capture_output=True, text=True, check=False, env={**os.environ, **settings},
    )  # fmt: skip
    document = json.loads(ended.stdout)
    assert (ended.returncode, document["error"]["type"]) == (4, UnreachableError.__name__)
    assert [finding["kind"] for finding in document["findings"]] == ["rows_missing"]
    assert document["checked"][0]["error"]
