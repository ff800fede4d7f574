"""What a load does when Binance, the archive or the network misbehave."""

from __future__ import annotations

import json

import pytest

from airflow_provider_binance.errors import (
    BannedError,
    InputError,
    NaiveTimeError,
    RestrictedLocationError,
    UnknownIntervalError,
    UnknownSymbolError,
    UnreachableError,
)

DAY = {"start": "2024-06-10", "end": "2024-06-11"}


@pytest.mark.parametrize("fault", ["corrupt-zip=1", "bad-checksum=1"])
def test_a_broken_file_is_fetched_once_more(bench, fault):
    """A republished or damaged answer is no reason to go to REST."""
    it = bench()
    it.sim.add_fault(fault)
    report = it.load(**DAY)
    assert (report.exit_status, report.counts.rows_inserted, report.loads[0].archive_files) == (0, 1440, 1)
    assert report.loads[0].rest_requests == 0


@pytest.mark.parametrize("fault", ["corrupt-zip", "bad-checksum"])
def test_a_file_that_stays_broken_is_replaced_by_rest_and_remembered(bench, fault):
    """The rows come by REST, and the ledger says which file could not be read."""
    it = bench()
    it.sim.add_fault(fault)
    report = it.load(**DAY)
    assert (report.exit_status, report.counts.rows_inserted) == (0, 1440)
    [(state, evidence, _)] = it.coverage()
    assert state == "complete"
    assert json.loads(evidence) == {"corrupt": ["BTCUSDT-1m-2024-06-10.zip"]}
    assert it.sql("select distinct source from ingest_log") == [("rest",)]


def test_a_file_that_stays_broken_is_failed_when_the_archive_is_forced(bench):
    """No other source may be asked: exit 3, and the next load tries afresh."""
    it = bench()
    it.sim.add_fault("corrupt-zip")
    report = it.load(source="archive", **DAY)
    assert report.exit_status == 3
    assert [gap.state for gap in report.loads[0].gaps] == ["failed"]
    it.sim.clear_faults()
    assert it.load(source="archive", **DAY).counts.rows_inserted == 1440


@pytest.mark.parametrize("fault", ["http=503:2", "reset=2", "truncate=2"])
@pytest.mark.parametrize("source", ["archive", "rest"])
def test_passing_failures_are_tried_again(bench, fault, source, mocker):
    """5xx, resets and cut bodies end in the same rows."""
    mocker.patch("time.sleep")
    it = bench()
    it.sim.add_fault(f"{fault}@klines")
    report = it.load(source=source, **DAY)
    assert (report.exit_status, report.counts.rows_inserted) == (0, 1440)


def test_a_host_that_is_away_is_told_and_nothing_is_half_done(bench, mocker):
    """After bounded tries the error names what was asked; the store has no row of it."""
    it = bench()
    mocker.patch("airflow_provider_binance.rest.client.time.sleep")
    it.load(start="2024-06-09", end="2024-06-10")
    it.sim.add_fault("reset@/data/")
    mocker.patch("airflow_provider_binance.archive.http._LONGEST_SLEEP_SECONDS", 0.01)
    with pytest.raises(UnreachableError, match="5 attempts"):
        it.load(source="archive", **DAY)
    assert len(it.opens()) == 1440
    it.sim.clear_faults()
    assert it.load(**DAY).counts.rows_inserted == 1440


def test_a_ban_stops_the_load_and_says_for_how_long(bench):
    """HTTP 418 is no reason to go on asking."""
    it = bench()
    it.sim.add_fault("418=300@klines")
    with pytest.raises(BannedError) as caught:
        it.load(source="rest", **DAY)
    assert 200 <= (caught.value.retry_after or 0) <= 301
    assert caught.value.retryable


def test_a_restricted_location_is_told_the_way_out(bench):
    """451 names the data-only host or the archive."""
    it = bench()
    it.sim.add_fault("451@/api/")
    with pytest.raises(RestrictedLocationError, match=r"data-api\.binance\.vision"):
        it.load(source="rest", **DAY)


def test_a_listing_that_lacks_a_published_file_is_second_guessed(bench):
    """The listing ends early, the files are served: they are asked for by their checksums."""
    it = bench()
    it.load(start="2024-06-01", end="2024-06-02")
    stale = it.sim
    stale.add_fault("late-day=2024-06-10")
    assert it.load(**DAY).loads[0].archive_files == 0


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"symbols": "BTCUSDC"}, UnknownSymbolError, "BTCUSDT"),
        ({"symbols": "btc usdt; drop table klines"}, InputError, "no symbol"),
        ({"symbols": ""}, InputError, "no symbol given"),
        ({"symbols": "X*"}, UnknownSymbolError, r"X\*"),
        ({"intervals": "1mm"}, UnknownIntervalError, "1m"),
        ({"intervals": ""}, InputError, "no interval"),
        ({"market": "um", "intervals": "1s"}, UnknownIntervalError, "does not exist in market um"),
        ({"market": "margin"}, InputError, "spot"),
        ({"source": "tape"}, InputError, "auto, archive, rest"),
        ({"start": "2024-06-10T00:00:00"}, NaiveTimeError, "2024-06-10T00:00:00Z"),
        ({"start": "2024-06-12", "end": "2024-06-11"}, InputError, "2024-06-12"),
        ({"start": "2024-06-11", "end": "2024-06-11"}, InputError, "empty"),
        ({"start": None}, InputError, "--start listing"),
        ({"dataset": "candles"}, InputError, "klines"),
        ({"jobs": 0}, InputError, "jobs"),
    ],
)
def test_bad_words_are_refused_before_anything_is_done(bench, arguments, error, words):
    """The message names the value and the way out; no store is made."""
    it = bench()
    given = {**DAY, **arguments}
    with pytest.raises(error, match=words):
        it.load(**given)
    assert not it.file.exists()
    assert error("").exit_status == 2


def test_a_plan_writes_nothing_and_creates_nothing(bench):
    """Not even the SQLite file; the load then does what the plan said."""
    it = bench(now="2024-07-10T12:00:00Z")
    window = {"start": "2024-05", "end": "2024-07-10"}
    pieces = it.plan(**window)
    assert not it.file.exists()
    assert {piece["source"] for piece in pieces} == {"archive", "rest"} or {p["source"] for p in pieces} == {"archive"}
    report = it.load(**window)
    assert report.loads[0].archive_files == sum(piece["files"] for piece in pieces)
    assert report.loads[0].rest_requests == sum(piece["requests"] for piece in pieces)
    assert report.loads[0].weight_used == sum(piece["weight"] for piece in pieces)
    assert it.plan(**window) == []


def test_btc_slash_usdt_is_understood(bench):
    """Other tools' spelling is mapped."""
    assert bench().load(symbols="btc/usdt", **DAY).loads[0].series.symbol == "BTCUSDT"
