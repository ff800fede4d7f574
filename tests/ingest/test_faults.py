"""What a load does when Binance, the archive or the network misbehave."""

from __future__ import annotations

import errno
import json
import threading
import time

import pytest

from airflow_provider_binance.archive import files
from airflow_provider_binance.archive.listing import ArchiveListing
from airflow_provider_binance.errors import (
    ArchiveError,
    BannedError,
    InputError,
    LocalStorageError,
    MalformedResponseError,
    NaiveTimeError,
    RequestRejectedError,
    RestrictedLocationError,
    StoreUnavailableError,
    UnknownIntervalError,
    UnknownSymbolError,
    UnreachableError,
)
from airflow_provider_binance.market import Market
from airflow_provider_binance.rest import failures
from airflow_provider_binance.rest.client import BinanceRest
from airflow_provider_binance.store.sqlite import SqliteStore

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
    assert report.loads[0].bytes_downloaded > 2 * 80_000  # the file was downloaded twice, for nothing
    [(state, evidence, _)] = it.coverage()
    assert state == "complete"
    assert json.loads(evidence) == {"corrupt": ["BTCUSDT-1m-2024-06-10.zip"]}
    assert it.sql("select distinct source from ingest_log") == [("rest",)]


@pytest.mark.parametrize("way", ["later", "reload", "rest"])
def test_a_file_that_stays_broken_is_failed_when_the_archive_is_forced(bench, way):
    """No other source may be asked: exit 3; it is tried afresh when due, by a reload or another source at once."""
    it = bench()
    it.sim.add_fault("corrupt-zip")
    report = it.load(source="archive", **DAY)
    assert report.exit_status == 3
    assert [gap.state for gap in report.loads[0].gaps] == ["failed"]
    assert it.load(source="archive", **DAY).exit_status == 3
    assert it.asked(".zip") == []
    it.sim.clear_faults()
    if way == "later":
        it.sim.set_clock("2024-06-15T12:45:30Z")
        assert it.load(source="archive", **DAY).counts.rows_inserted == 1440
    elif way == "reload":
        assert it.load(source="archive", reload=True, **DAY).counts.rows_inserted == 1440
    else:
        assert it.load(source="rest", **DAY).counts.rows_inserted == 1440


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


def test_a_published_file_that_the_listing_lacks_is_asked_for_by_its_checksum(bench, mocker):
    """The listing ends early, the files are served: they are found, and read."""
    it = bench()
    whole = ArchiveListing._page

    def stale(self, *asked, **most):
        files, marker, some = whole(self, *asked, **most)
        return {name: entry for name, entry in files.items() if "2024-06-1" not in name}, marker, some

    mocker.patch.object(ArchiveListing, "_page", stale)
    report = it.load(start="2024-06-08", end="2024-06-13")
    assert (report.loads[0].archive_files, report.loads[0].rest_requests, report.exit_status) == (5, 0, 0)
    assert len(it.asked("2024-06-10.zip.CHECKSUM")) == 2  # asked whether it is there, then for its hash


def test_a_listed_file_that_is_not_there_is_planned_anew(bench):
    """404 while loading: the piece comes by REST, and nothing is called broken."""
    it = bench()
    it.sim.add_fault("http=404@BTCUSDT-1m-2024-06-10.zip")
    report = it.load(start="2024-06-09", end="2024-06-11")
    assert (report.exit_status, report.counts.rows_inserted) == (0, 2880)
    assert (report.loads[0].archive_files, report.loads[0].rest_requests) == (1, 2)
    assert {evidence for _, evidence, _ in it.coverage()} == {""}


@pytest.mark.parametrize("fault", ["http=503", "http=403", "reset", "451"])
def test_rest_is_the_way_out_where_the_archive_is_away(bench, fault, mocker):
    """The load ends with all rows, provisional; the ledger says that the archive was away, and it is asked again."""
    mocker.patch("airflow_provider_binance.archive.http._LONGEST_SLEEP_SECONDS", 0.01)
    it = bench()
    it.sim.add_fault(f"{fault}@.zip")
    window = {"start": "2024-06-08", "end": "2024-06-11"}
    report = it.load(**window)
    assert (report.exit_status, report.counts.rows_inserted, report.loads[0].archive_files) == (0, 3 * 1440, 0)
    [(state, evidence, _)] = it.coverage()
    assert (state, list(json.loads(evidence))) == ("complete", ["away"])
    assert it.sql("select distinct source from ingest_log") == [("rest",)]
    # Confirming finds the archive still away: the rows stay what they are. When it is back they are confirmed.
    it.load(confirm=True, **window)
    assert [state for state, _, _ in it.coverage()] == ["complete"]
    it.sim.clear_faults()
    again = it.load(confirm=True, **window)
    assert (again.counts.rows_unchanged, again.loads[0].archive_files) == (3 * 1440, 3)
    assert it.sql("select count(*) from coverage where confirmed_by is null or evidence <> ''") == [(0,)]


def test_an_archive_that_is_away_is_an_error_where_nobody_else_may_be_asked(bench, mocker):
    """`--source archive` does not go elsewhere."""
    mocker.patch("airflow_provider_binance.archive.http._LONGEST_SLEEP_SECONDS", 0.01)
    it = bench()
    it.sim.add_fault("http=503@.zip")
    with pytest.raises(UnreachableError, match="attempts in vain"):
        it.load(source="archive", **DAY)
    assert it.asked("/klines?") == []


@pytest.mark.parametrize("market", ["spot", "um", "cm"])
def test_the_archive_is_the_way_out_where_rest_is_barred(bench, market, mocker):
    """HTTP 451 on every REST route: `--source archive` knows symbols and time from the archive alone."""
    symbol = "BTCUSD_PERP" if market == "cm" else "BTCUSDT"
    it = bench(symbols=[f"{market}:{symbol}"])
    for path in ("/api/", "/fapi/", "/dapi/"):
        it.sim.add_fault(f"451@{path}")
    report = it.load(market=market, symbols=symbol, source="archive", **DAY)
    assert (report.exit_status, report.counts.rows_inserted) == (0, 1440)
    with pytest.raises(RestrictedLocationError):
        it.load(market=market, symbols=symbol, source="rest", start="2024-06-11", end="2024-06-12")


def test_a_listing_that_is_a_web_page_is_no_empty_archive(bench, mocker):
    """A maintenance page passes: it is asked again; then files are found by their checksums, or, where nobody else may
    be asked, the load ends with a retryable error, not an unknown symbol."""
    mocker.patch("airflow_provider_binance.archive.http._LONGEST_SLEEP_SECONDS", 0.01)
    it = bench()
    it.sim.add_fault("nonjson=1@/listing")
    assert it.load(**DAY).exit_status == 0
    it.sim.add_fault("nonjson@/listing")
    with pytest.raises(UnreachableError, match="listing") as caught:
        it.load(source="archive", start="2024-06-07", end="2024-06-08")
    assert caught.value.retryable
    report = it.load(start="2024-06-07", end="2024-06-08")
    assert (report.exit_status, report.counts.rows_inserted, report.loads[0].archive_files) == (0, 1440, 1)


@pytest.mark.parametrize("market", ["spot", "um"])
def test_rest_is_the_way_out_where_all_of_the_archive_is_away(bench, market, mocker):
    """Neither its listing nor its files answer: a new series is loaded from its first kline on, and confirmed later."""
    mocker.patch("airflow_provider_binance.archive.http._LONGEST_SLEEP_SECONDS", 0.01)
    it = bench(symbols=[f"{market}:BTCUSDT", f"{market}:NEWUSDT@2024-06-09T05:30:00"])
    for path in ("/listing", "/archive/"):
        it.sim.add_fault(f"http=503@{path}")
    window = {"market": market, "symbols": "NEWUSDT", "intervals": "15m", "start": "2024-06-08", "end": "2024-06-11"}
    report = it.load(confirm=True, **window)
    assert (report.exit_status, report.loads[0].archive_files) == (0, 0)
    truth = it.sim.truth(market, "NEWUSDT", "15m", "2024-06-08T00:00:00Z", "2024-06-11T00:00:00Z")
    assert it.opens("15m") == [int(row[0]) for row in truth]
    assert [gap.state for gap in report.loads[0].gaps] == ["not_listed"]
    it.sim.clear_faults()
    it.load(confirm=True, **window)
    assert it.sql("select count(*) from coverage where state = 'complete' and confirmed_by is null") == [(0,)]


def test_an_odd_exchange_info_is_not_remembered(bench, tmp_path, mocker):
    """An answer that cannot be read is asked for again, by this process and by others."""
    rest = BinanceRest(bench().config.model_copy(update={"environment": "production"}))
    mocker.patch.object(rest, "get", side_effect=[b"{}", b'{"symbols": [], "rateLimits": []}'])
    with pytest.raises(MalformedResponseError):
        rest.exchange_info(Market.SPOT)
    assert rest.exchange_info(Market.SPOT)["symbols"] == []
    assert rest.exchange_info(Market.SPOT)["symbols"] == []


def test_a_full_disk_names_the_folder(bench, mocker):
    """No traceback: what cannot be kept is told, and the next load goes on."""
    it = bench()
    real = files._Download.take

    def full(self, answer):
        raise OSError(errno.ENOSPC, "No space left on device")

    mocker.patch.object(files._Download, "take", full)
    with pytest.raises(LocalStorageError, match="TMPDIR") as caught:
        it.load(**DAY)
    assert (caught.value.exit_status, caught.value.retryable) == (5, True)
    mocker.patch.object(files._Download, "take", real)
    assert it.load(**DAY).counts.rows_inserted == 1440


def test_an_error_does_not_wait_for_what_is_still_being_fetched(bench, mocker):
    """The store fails while pages come slowly: the load ends at once."""
    it = bench()
    it.load(start="2024-06-01", end="2024-06-02")
    it.sim.add_fault("latency=1500@/api/v3/klines")
    mocker.patch("airflow_provider_binance.pipeline._PAGES_A_BATCH", 1)
    mocker.patch.object(SqliteStore, "write", side_effect=StoreUnavailableError("gone"))
    begun = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        it.load(start="2024-06-02", end="2024-06-15", source="rest", jobs=2)
    assert time.monotonic() - begun < 12  # nineteen pages would take longer, two at a time


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
        ({"start": "now", "end": None}, InputError, "not before now"),
        ({"start": "2031", "end": "2032"}, InputError, "not before now"),
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


def test_a_load_reports_all_the_weight_that_it_spent(bench):
    """Pages by series; with time, exchangeInfo, probes and tries that failed in the sum."""
    it = bench(now="2024-07-10T12:00:00Z")
    it.sim.add_fault("http=503:2@/klines")
    report = it.load(start="2024-07-09", end="2024-07-10T06:00:00Z", source="rest")
    spent = sum(record.weight for record in it.sim.requests)
    assert report.weight_used == report.to_dict()["weight_used"]
    assert report.weight_used - spent in (0, 2, 4), (
        "what a 503 answered is charged here; the simulator asks nothing for it"
    )
    assert 0 < sum(load.weight_used for load in report.loads) < report.weight_used


def test_btc_slash_usdt_is_understood(bench):
    """Other tools' spelling is mapped."""
    assert bench().load(symbols="btc/usdt", **DAY).loads[0].series.symbol == "BTCUSDT"


def test_what_is_refused_of_one_series_does_not_keep_the_others_from_loading(bench):
    """The error comes at the end and tells of every series; the next load brings what is left."""
    symbols = ["BTCUSDT", "ETHUSDT", "BNBUSDT", "LTCUSDT"]
    it = bench(symbols=symbols)
    it.load(symbols=symbols, start="2024-06-13", end="2024-06-14", source="rest")
    it.sim.add_fault("http=400:2@/klines")
    window = {"symbols": symbols, "start": "2024-06-14", "end": "2024-06-15", "source": "rest", "jobs": 1}
    with pytest.raises(RequestRejectedError) as caught:
        it.load(**window)
    loads = {load.series.symbol: load for load in caught.value.report.loads}
    assert [loads[symbol].counts.rows_inserted for symbol in symbols] == [0, 0, 1440, 1440]
    assert [bool(loads[symbol].error) for symbol in symbols] == [True, True, False, False]
    assert [gap.state for gap in loads["BTCUSDT"].gaps] == ["uncovered"]
    assert caught.value.report.to_dict()["loads"][0]["error"] == str(caught.value)
    report = it.load(**window)
    assert (report.exit_status, report.counts.rows_inserted) == (0, 2 * 1440)


def test_what_is_refused_while_one_series_is_planned_does_not_keep_the_others_from_loading(bench):
    """Whether the archive has a file is refused for one symbol; the others are loaded, and the error tells all."""
    symbols = ["BTCUSDT", "ETHUSDT", "LTCUSDT"]
    it = bench(symbols=symbols)
    it.sim.add_fault("stale-listing=2024-06-10")
    it.sim.add_fault("http=400@/ETHUSDT/")
    window = {"symbols": symbols, "start": "2024-06-12", "end": "2024-06-13", "source": "archive"}
    with pytest.raises(ArchiveError) as caught:
        it.load(**window)
    loads = {load.series.symbol: load for load in caught.value.report.loads}
    assert [loads[symbol].counts.rows_inserted for symbol in symbols] == [1440, 0, 1440]
    assert [bool(loads[symbol].error) for symbol in symbols] == [False, True, False]
    it.sim.clear_faults()
    report = it.load(**window)
    assert (report.exit_status, report.counts.rows_inserted) == (0, 1440)


def test_a_venue_that_answers_nobody_ends_the_load_at_the_second_series(bench, mocker):
    """Hundreds of series are not tried five times each; what was loaded before is told all the same."""
    symbols = ["BTCUSDT", "ETHUSDT", "BNBUSDT", "LTCUSDT"]
    it = bench(symbols=symbols)
    it.load(symbols=symbols, start="2024-06-13", end="2024-06-14", source="rest")
    mocker.patch.object(failures, "pause", return_value=None)
    it.sim.add_fault("nonjson@/klines")
    with pytest.raises(MalformedResponseError) as caught:
        it.load(symbols=symbols, start="2024-06-14", end="2024-06-15", source="rest", jobs=1)
    assert [bool(load.error) for load in caught.value.report.loads] == [True, False, False, False]
    for thread in threading.enumerate():
        if thread.name.startswith("fetch"):
            thread.join(10)  # what was asked ahead is let go, and ends on its own
    assert 2 <= len(it.asked("/klines")) <= 4


def test_an_archive_that_tells_a_wrong_time_makes_no_open_kline_closed(bench):
    """Its clock is only asked where no row of REST depends on it."""
    it = bench(now="2024-06-15T12:30:20Z")
    it.sim.add_fault("wrong-date=200000@/listing")
    report = it.load(start="2024-06-14", end="2024-06-16")
    assert report.exit_status == 0
    assert it.opens()[-1] == 1_718_454_540_000  # 12:29, the last that has closed
    assert it.opens() == list(range(1_718_323_200_000, 1_718_454_600_000, 60_000))


def test_what_planning_several_series_weighs_is_in_the_report(bench):
    """Series are planned in threads, whose probes for first klines count for the load."""
    symbols = ["BTCUSDT", "ETHUSDT", "BNBUSDT"]
    it = bench(symbols=symbols)
    report = it.load(symbols=symbols, start="2024-06-14", end="2024-06-15", source="rest")
    assert report.weight_used == sum(request.weight or 0 for request in it.sim.requests)
    assert len([request for request in it.sim.requests if "startTime=0&" in request.query]) == 3
