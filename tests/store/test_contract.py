"""What a store promises, asked of both databases, and looked at by plain SQL."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from airflow_provider_binance import registry
from airflow_provider_binance.errors import CorruptArchiveError, EnvironmentMismatchError, StoreError, StoreVersionError
from airflow_provider_binance.market import iso, to_us
from airflow_provider_binance.records import CoverageRange, Row, Series, Source, State, WriteResult
from airflow_provider_binance.rows import TupleRows
from airflow_provider_binance.store import Store, open_store
from tests.store.helpers import EVER, SERIES, T0, TICKS, at, batch_of, is_sqlite, kline, klines, make_old, plain

KLINES_VIEW = [
    "market", "symbol", "interval", "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume",
    "trade_count", "taker_buy_base_volume", "taker_buy_quote_volume", "contracts", "taker_buy_contracts",
]  # fmt: skip

NUMBERED = [
    "0001_ledger_and_klines", "0002_published_at", "0003_latest", "0004_agg_trades", "0004_trades", "0005_book_tickers",
    "0005_mark_prices", "0005_liquidations", "0006_sidecars",
]  # fmt: skip

#: Both ways to say it.
NO_ROWS: list[list[tuple[int | str | None, ...]] | None] = [None, []]


def known(store: Store, series: Series = SERIES) -> list[tuple[Any, ...]]:
    found = store.coverage(series.dataset, [series], *EVER)[series]
    return [((r.start_us - T0) // 60_000_000, (r.end_us - T0) // 60_000_000, r.state, r.row_count) for r in found]


def of_time(store_url: str) -> Callable[[int], str]:
    """How a minute is written in a statement."""
    return lambda minute: str(at(minute)) if is_sqlite(store_url) else f"'{iso(at(minute))}'"


def closes(store: Store) -> dict[int, str]:
    return {(int(row[0] or 0) - T0) // 60_000_000: str(row[4]) for row in store.rows("klines", SERIES, *EVER)}


# --- rows and ledger ------------------------------------------------------------------------------------------------


def test_rows_line_and_coverage_arrive_together(store: Store, store_url: str) -> None:
    """A fresh load: counts, rows, ledger line and coverage, as plain SQL sees them."""
    assert store.write(klines(0, 100)) == WriteResult(rows_read=100, rows_inserted=100)
    assert plain(store_url, "SELECT count(*) FROM klines WHERE symbol = 'BTCUSDT'") == [(100,)]
    assert list(store.rows("klines", SERIES, *EVER)) == [kline(i) for i in range(100)]
    assert known(store) == [(0, 100, "complete", 100)]
    line = plain(
        store_url,
        'SELECT dataset, market, symbol, "interval", source, source_ref, sha256, part, parts, rows_read, '
        "rows_inserted, rows_updated, rows_unchanged, run_ref FROM ingest_log",
    )
    assert line == [("klines", "spot", "BTCUSDT", "1m", "rest", "rest 0-100", None, 1, 1, 100, 100, 0, 0, "run")]
    assert store.series() == store.series("klines") == [SERIES]
    assert store.series("other") == []


def test_a_second_identical_load_writes_no_row(store: Store, store_url: str) -> None:
    store.write(klines(0, 100))
    assert store.write(klines(0, 100)) == WriteResult(rows_read=100, rows_unchanged=100)
    assert known(store) == [(0, 100, "complete", 100)]
    assert plain(store_url, "SELECT rows_inserted, rows_updated, rows_unchanged FROM ingest_log ORDER BY id") == [
        (100, 0, 0), (0, 0, 100),
    ]  # fmt: skip
    assert plain(store_url, "SELECT * FROM corrections") == []


def test_a_partial_overlap_adds_what_is_lacking(store: Store) -> None:
    store.write(klines(50, 100))
    assert store.write(klines(0, 150)) == WriteResult(rows_read=150, rows_inserted=100, rows_unchanged=50)
    assert list(closes(store)) == list(range(150))
    assert known(store) == [(0, 150, "complete", 150)]


def test_a_changed_value_is_corrected_and_told(store: Store, store_url: str) -> None:
    """Each changed value has its line, in the same words in both databases."""
    store.clock = lambda: T0 + 1_500_000
    store.write(klines(0, 10))
    changed = [kline(i, close="1.6", close_time=at(i) + 5) if i == 4 else kline(i) for i in range(10)]
    assert store.write(batch_of(changed, 0, 10)) == WriteResult(rows_read=10, rows_updated=1, rows_unchanged=9)
    lines = plain(
        store_url,
        "SELECT dataset, key, column_name, old_value, new_value, old_source, new_source FROM corrections ORDER BY 3",
    )
    key = '{"market": "spot", "symbol": "BTCUSDT", "interval": "1m", "open_time": "2024-01-01T00:04:00Z"}'
    assert lines == [
        ("klines", key, "close", "1.5", "1.6", "rest", "rest"),
        ("klines", key, "close_time", "2024-01-01T00:04:59.999Z", "2024-01-01T00:04:00.000005Z", "rest", "rest"),
    ]
    assert closes(store)[4] == "1.6"
    (stamp,) = {line[0] for line in plain(store_url, "SELECT corrected_at FROM corrections")}
    assert (stamp if is_sqlite(store_url) else to_us(stamp)) == T0 + 1_500_000


def test_equal_is_equal_as_decimals(store: Store, store_url: str) -> None:
    """A number that someone spelled with zeros behind is no other number."""
    store.write(klines(0, 3))
    plain(store_url, "UPDATE klines_data SET close = '1.500', volume = '10.0'")
    assert store.write(klines(0, 3)).rows_unchanged == 3


def test_the_archive_outranks_rest(store: Store, store_url: str) -> None:
    """REST does not overwrite what a file confirmed; it fills and corrects beside it. A file overwrites all."""
    store.write(klines(0, 20))
    assert store.write(klines(5, 10, source=Source.ARCHIVE, confirmed_by="sha", close="2")).rows_updated == 5
    result = store.write(klines(0, 25, close="3"))
    assert result == WriteResult(25, rows_inserted=5, rows_updated=15, rows_unchanged=0, rows_kept=5)
    assert closes(store) == {i: "2" if 5 <= i < 10 else "3" for i in range(25)}
    assert plain(store_url, "SELECT DISTINCT old_source, new_source FROM corrections ORDER BY 2") == [
        ("rest", "archive"), ("rest", "rest"),
    ]  # fmt: skip
    confirmed = [(r.confirmed_by, r.row_count) for r in store.coverage("klines", [SERIES], *EVER)[SERIES]]
    assert confirmed == [(None, 5), ("sha", 5), (None, 15)]
    newer = store.write(klines(5, 10, source=Source.ARCHIVE, confirmed_by="sha2", close="4"))
    assert newer.rows_updated == 5
    assert closes(store)[7] == "4"


def test_rest_outranks_the_stream(store: Store) -> None:
    store.write(klines(0, 10, source=Source.STREAM))
    assert store.write(klines(0, 5, close="2")).rows_updated == 5
    again = store.write(klines(0, 10, source=Source.STREAM, close="3"))
    assert (again.rows_updated, again.rows_kept) == (5, 5)
    assert store.write(klines(0, 5, source=Source.STREAM, close="4")).rows_kept == 5


def test_rows_without_a_ledger_are_overwritten(store: Store, store_url: str) -> None:
    store.write(klines(0, 5))
    for table in ("coverage", "ingest_log"):
        plain(store_url, f"DELETE FROM {table}")
    assert store.write(klines(0, 5, close="2")).rows_updated == 5
    assert {line[0] for line in plain(store_url, "SELECT old_source FROM corrections")} == {None}


def test_columns_not_carried_stay(store: Store) -> None:
    columns = [name for name in registry.KLINES.column_names if name not in ("quote_volume", "close_time")]
    keep = [registry.KLINES.column_names.index(name) for name in columns]
    store.write(klines(0, 5))
    narrow = [tuple(kline(i, high="9")[k] for k in keep) for i in range(5)]
    assert store.write(batch_of(narrow, 0, 5, columns=columns)).rows_updated == 5
    assert list(store.rows("klines", SERIES, *EVER)) == [kline(i, high="9") for i in range(5)]


def test_parts_turn_complete_with_the_last(store: Store, store_url: str) -> None:
    store.write(klines(0, 50, source=Source.ARCHIVE, coverage=False, part=1, parts=2))
    assert known(store) == []
    whole = CoverageRange(at(0), at(100), State.COMPLETE, 100, confirmed_by="sha")
    store.write(batch_of([kline(i) for i in range(50, 100)], 50, 100, source=Source.ARCHIVE, coverage=[whole],
                         sha256="sha", part=2, parts=2))  # fmt: skip
    assert known(store) == [(0, 100, "complete", 100)]
    assert plain(store_url, "SELECT part, parts, rows_read FROM ingest_log ORDER BY id") == [(1, 2, 50), (2, 2, 50)]


def test_an_unconfirmed_part_of_a_file_is_the_archives(store: Store) -> None:
    store.write(klines(0, 50, source=Source.ARCHIVE, coverage=False, part=1, parts=2))
    assert store.write(klines(0, 50, close="7", coverage=False)).rows_kept == 50


def test_a_batch_without_rows_tells_that_the_source_was_asked(store: Store, store_url: str) -> None:
    gap = CoverageRange(at(0), at(5), State.EXCHANGE_GAP, evidence='{"why": "halt"}', checked_at_us=T0)
    for rows in NO_ROWS:
        assert store.write(batch_of(rows, 0, 5, coverage=[gap])) == WriteResult()
    assert store.coverage("klines", [SERIES], *EVER)[SERIES] == [gap]
    assert plain(store_url, "SELECT rows_read FROM ingest_log") == [(0,), (0,)]


def test_rows_outside_the_window_are_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="leave the batch's window"):
        store.write(batch_of([kline(5)], 0, 5))
    assert store.exists() is False


def test_archive_lines_tell_the_files(store: Store) -> None:
    assert store.archive_lines(SERIES, *EVER) == []
    store.write(klines(0, 10, source=Source.ARCHIVE, confirmed_by="sha"))
    store.write(klines(10, 20))
    (line,) = store.archive_lines(SERIES, at(9), at(50))
    assert line == ("archive 0-10", "sha", at(0), at(10), 1, 1, None, None, T0)
    assert store.archive_lines(SERIES, at(10), at(50)) == []


def test_an_error_of_the_rows_themselves_passes_through(store: Store, store_url: str) -> None:
    """Rows that are read while they are written may turn out to be corrupt: nothing is stored, the error stays."""

    class Corrupt(TupleRows):
        def copy_chunks(self, series_id: int) -> Iterator[bytes]:
            yield next(super().copy_chunks(series_id))
            raise CorruptArchiveError("broken zip")

        def sqlite_chunks(self, *, images: int) -> Generator[list[Row]]:
            yield next(super().sqlite_chunks(images=images))
            raise CorruptArchiveError("broken zip")

        def tuples(self) -> list[tuple[int | str | None, ...]]:
            raise CorruptArchiveError("broken zip")

    for present in (False, True):
        if present:
            store.write(klines(5, 6))
        batch = replace(klines(0, 10), rows=Corrupt(registry.KLINES, [kline(i) for i in range(10)]))
        with pytest.raises(CorruptArchiveError, match="broken zip"):
            store.write(batch)
        assert store.row_counts("klines", SERIES, [EVER]) == [int(present)]
    assert store.write(klines(0, 10)).rows_inserted == 9
    assert plain(store_url, "SELECT count(*) FROM ingest_log") == [(2,)]


def test_one_store_serves_many_threads(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: store.write(klines(i * 5, i * 5 + 10)), range(20)))
    assert sum(result.rows_inserted for result in results) == 105
    assert known(store) == [(0, 105, "complete", 105)]


# --- coverage -------------------------------------------------------------------------------------------------------


def test_coverage_comes_whole_and_for_many_series(store: Store) -> None:
    many = [Series("um", "klines", f"S{i}USDT", "1m") for i in range(300)]
    for one in (many[0], many[299]):
        store.write(klines(0, 10, series=one))
    found = store.coverage("klines", [*many, SERIES], at(5), at(6))
    assert len(found) == 301
    assert {s.symbol: [(r.start_us, r.end_us) for r in known] for s, known in found.items() if known} == {
        "S0USDT": [(at(0), at(10))], "S299USDT": [(at(0), at(10))],
    }  # fmt: skip
    assert store.coverage("klines", [many[0]], at(10), at(20))[many[0]] == []


def test_coverage_is_recorded_without_rows(store: Store, store_url: str) -> None:
    waiting = CoverageRange(at(5), at(9), State.UNPUBLISHED, evidence="{}", checked_at_us=T0, next_check_at_us=T0 + 7)
    store.record_coverage("klines", SERIES, [waiting])
    assert store.coverage("klines", [SERIES], *EVER)[SERIES] == [waiting]
    assert plain(store_url, "SELECT count(*) FROM ingest_log") == [(0,)]
    assert store.series() == [SERIES]
    store.write(klines(0, 10))
    assert known(store) == [(0, 10, "complete", 10)]
    store.record_coverage("klines", SERIES, [waiting])
    assert known(store) == [(0, 10, "complete", 10)]


def test_random_overlays_in_the_database_never_overlap(store: Store, store_url: str) -> None:
    dice = random.Random(7)
    for _ in range(60):
        start = dice.randrange(0, 90)
        state = dice.choice(list(State))
        known = CoverageRange(at(start), at(start + dice.randrange(1, 30)), state, checked_at_us=dice.randrange(9))
        store.record_coverage("klines", SERIES, [known])
    lines = plain(store_url, "SELECT range_start, range_end FROM coverage ORDER BY range_start")
    assert lines
    assert all(a[1] <= b[0] for a, b in pairwise(lines))


def test_the_database_itself_refuses_overlap(store: Store, store_url: str) -> None:
    """Whoever writes to `coverage` by hand cannot make two truths of one instant."""
    store.write(klines(0, 10))
    insert = (
        'INSERT INTO coverage (dataset, market, symbol, "interval", range_start, range_end, state) '
        "VALUES ('klines', 'spot', %s, '1m', %s, %s, 'failed')"
    )

    def times(start: int, end: int) -> list[Any]:
        return [t if is_sqlite(store_url) else iso(t) for t in (at(start), at(end))]

    for start, end in ((0, 10), (5, 6), (9, 20), (-5, 1)):
        with pytest.raises(Exception, match=r"overlap|coverage_no_overlap|coverage_pkey"):
            plain(store_url, insert, ["BTCUSDT", *times(start, end)])
    plain(store_url, insert, ["BTCUSDT", *times(10, 20)])
    plain(store_url, insert, ["ETHUSDT", *times(0, 10)])
    with pytest.raises(Exception, match=r"overlap|coverage_no_overlap|coverage_pkey"):
        plain(store_url, "UPDATE coverage SET range_start = %s WHERE state = 'failed' AND symbol = 'BTCUSDT'",
              times(9, 0)[:1])  # fmt: skip
    plain(store_url, "UPDATE coverage SET state = 'unpublished' WHERE state = 'failed'")


# --- nothing is made by reading -------------------------------------------------------------------------------------


def test_reading_an_empty_database_creates_nothing(store: Store, store_url: str) -> None:
    assert store.exists() is False
    assert store.environment() is None
    assert store.coverage("klines", [SERIES], *EVER) == {SERIES: []}
    assert store.series() == []
    assert store.archive_lines(SERIES, *EVER) == []
    assert store.row_counts("klines", SERIES, [EVER]) == [0]
    assert list(store.rows("klines", SERIES, *EVER)) == []
    if is_sqlite(store_url):
        with pytest.raises(Exception, match="no such table"):
            plain(f"{store_url}", "SELECT 1 FROM series")
    else:
        assert plain(store_url, "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
                                "WHERE nspname = 'public'") == [(0,)]  # fmt: skip


def test_a_store_that_may_not_create_says_what_to_run(store_url: str) -> None:
    with open_store(store_url, create=False) as store:
        for attempt in (lambda: store.ensure_environment("simulator"), lambda: store.write(klines(0, 1))):
            with pytest.raises(StoreVersionError, match="binance-ingest migrate"):
                attempt()
        assert store.exists() is False


# --- schema and environment -----------------------------------------------------------------------------------------


def test_migrate_names_what_it_applied(store: Store) -> None:
    assert store.migrate() == NUMBERED
    assert store.migrate() == []
    assert store.exists()


def test_a_name_that_is_taken_stops_no_load(store: Store, store_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A user of an older version may have made a `klines_latest` of his own: it stays, and `migrate` names it."""
    store.ensure_environment("simulator")
    make_old(store_url)
    plain(store_url, "CREATE VIEW klines_latest AS SELECT 1 AS of_the_user")
    with open_store(store_url) as newer:
        newer.ensure_environment("simulator")
        assert "goes on without 0003_latest" in caplog.text
        assert newer.write(klines(0, 5)).rows_inserted == 5
        assert plain(store_url, "SELECT published_at, etag FROM ingest_log") == [(None, None)]
        with pytest.raises(StoreError, match="klines_latest"):
            newer.migrate()
    assert plain(store_url, "SELECT * FROM klines_latest") == [(1,)]


def test_the_environment_is_the_first_loads(store: Store, store_url: str) -> None:
    store.ensure_environment("simulator")
    store.ensure_environment("simulator")
    assert store.environment() == "simulator"
    with (
        open_store(store_url) as other,
        pytest.raises(EnvironmentMismatchError, match=r"simulator.*production") as told,
    ):
        other.ensure_environment("production")
    assert (told.value.facts["recorded"], told.value.facts["environment"]) == ("simulator", "production")
    assert "--store" in str(told.value)
    assert told.value.exit_status == 5


def test_a_store_from_the_future_is_refused(store: Store, store_url: str) -> None:
    store.ensure_environment("simulator")
    plain(store_url, "UPDATE schema_version SET min_reader_version = 2")
    with pytest.raises(StoreVersionError, match="version 2"):
        store.ensure_environment("simulator")
    with open_store(store_url) as other:
        for attempt in (
            lambda: other.ensure_environment("simulator"),
            lambda: other.coverage("klines", [SERIES], *EVER),
            lambda: other.write(klines(0, 1)),
            other.migrate,
        ):
            with pytest.raises(StoreVersionError, match="upgrade"):
                attempt()


def test_newer_code_may_add_what_older_code_can_read(store: Store, store_url: str) -> None:
    store.migrate()
    plain(store_url, "INSERT INTO schema_version (version, name, min_reader_version) VALUES (9, '0009_new', 1)")
    plain(store_url, "ALTER TABLE klines_data ADD COLUMN later TEXT")
    assert store.write(klines(0, 5)).rows_inserted == 5


def test_view_has_the_columns_of_the_contract(store: Store, store_url: str) -> None:
    store.migrate()
    if is_sqlite(store_url):
        columns = [line[1] for line in plain(store_url, "PRAGMA table_info(klines)")]
        real = plain(store_url, "PRAGMA table_info(klines_real)")
        assert [line[1] for line in real] == KLINES_VIEW
    else:
        types = dict(plain(store_url, "SELECT column_name, data_type FROM information_schema.columns "
                                      "WHERE table_name = 'klines' ORDER BY ordinal_position"))  # fmt: skip
        columns = list(types)
        assert types["trade_count"] == "bigint"
        assert types["open_time"] == types["close_time"] == "timestamp with time zone"
        assert {types[n] for n in columns[4:] if n not in ("close_time", "trade_count")} == {"numeric"}
    assert columns == KLINES_VIEW
    with pytest.raises(Exception, match=r"cannot (modify|delete)|may not"):
        plain(store_url, "DELETE FROM klines")


def test_the_newest_row_of_every_series(store: Store, store_url: str) -> None:
    """One row per series that has any, as the dataset's view has it; another load's rows take its place."""
    others = [Series("um", "klines", "BTCUSDT", "1m"), Series("spot", "klines", "BTCUSDT", "1h")]
    store.write(klines(0, 20))
    store.write(klines(3, 5, series=others[0], close="7"))
    store.write(klines(0, 3))
    store.record_coverage("klines", others[1], [CoverageRange(at(0), at(60), State.NOT_LISTED)])
    newest = "SELECT * FROM klines_latest ORDER BY market"
    wanted = "SELECT * FROM klines WHERE market = 'spot' AND {} OR market = 'um' AND {} ORDER BY market"
    times = [f"open_time = {literal}" for literal in map(of_time(store_url), (19, 4))]
    assert plain(store_url, newest) == plain(store_url, wanted.format(*times))
    assert len(plain(store_url, newest)) == 2
    store.write(klines(20, 21))
    ((opened,),) = plain(store_url, "SELECT open_time FROM klines_latest WHERE market = 'spot' AND symbol = 'BTCUSDT'")
    assert (opened if is_sqlite(store_url) else to_us(opened)) == at(20)
    vouched = "SELECT max(range_end) FROM coverage WHERE state = 'complete' AND market = 'spot' AND \"interval\" = '1m'"
    ((end,),) = plain(store_url, vouched)
    assert (end if is_sqlite(store_url) else to_us(end)) == at(21)


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["123456789012.12345678", "0.00000001", "0", "1000"])
def test_decimals_are_exact(store: Store, store_url: str, text: str) -> None:
    for _ in range(2):  # the direct way, then the comparison
        store.write(klines(0, 2, close=text))
        store.write(klines(0, 2, close="1"))
        store.write(klines(0, 2, close=text))
        assert closes(store) == {0: text, 1: text}
    (value,) = {line[0] for line in plain(store_url, "SELECT close FROM klines")}
    assert Decimal(value) == Decimal(text)
    assert plain(store_url, "SELECT new_value FROM corrections ORDER BY corrected_at DESC LIMIT 1") == [(text,)]


@pytest.mark.parametrize("symbol", ["币安人生USDT", "O'B\"R;--\\", "%s%%(x)s", "{0}", "BTCUSD_PERP"])
def test_symbols_of_any_kind(store: Store, store_url: str, symbol: str) -> None:
    """A symbol is a value, never a piece of SQL."""
    series = Series("cm", "klines", symbol, "1M")
    batch = batch_of([kline(0)], 0, 1, series=series,
                     coverage=[CoverageRange(at(0), at(1), State.COMPLETE, 1)])  # fmt: skip
    store.write(batch)
    store.write(batch_of([kline(0, close="5")], 0, 1, series=series))
    assert store.series() == [series]
    assert len(store.coverage("klines", [series], *EVER)[series]) == 1
    assert plain(store_url, "SELECT symbol FROM klines") == [(symbol,)]
    ((key,),) = plain(store_url, "SELECT key FROM corrections")
    assert json.loads(key)["symbol"] == symbol


def test_times_are_instants(store: Store, store_url: str) -> None:
    """The process is in Kolkata, the database in New York: a reader sees the same instant."""
    store.write(klines(0, 1))
    ((opened,),) = plain(store_url, "SELECT open_time FROM klines")
    ((start,),) = plain(store_url, "SELECT range_start FROM coverage")
    if is_sqlite(store_url):
        assert (opened, start) == (T0, T0)
        assert plain(store_url, "SELECT open_time, close_time, close FROM klines_real") == [
            ("2024-01-01T00:00:00.000Z", "2024-01-01T00:00:59.999Z", 1.5)
        ]
    else:
        assert plain(store_url, "SHOW timezone") == [("America/New_York",)]
        assert opened == start == datetime(2024, 1, 1, tzinfo=UTC)
        assert plain(store_url, "SELECT open_time::text FROM klines") == [("2023-12-31 19:00:00-05",)]


def test_rows_come_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_binance.store.sql_read._PAGE_ROWS", 7)
    store.write(klines(0, 30))
    assert [row[0] for row in store.rows("klines", SERIES, at(2), at(25))] == [at(i) for i in range(2, 25)]
    seen = 0
    for _ in store.rows("klines", SERIES, at(0), at(14)):
        store.write(klines(100 + seen, 101 + seen))  # the reader holds no lock
        seen += 1
    assert seen == 14


# --- datasets keyed by ids ------------------------------------------------------------------------------------------


@pytest.fixture
def ticks() -> Iterator[Series]:
    registry.register(TICKS)
    yield Series("um", TICKS.name, "BTCUSDT")
    registry.unregister(TICKS.name)


def tick(i: int, **changed: Any) -> tuple[Any, ...]:
    # Two ticks share each instant.
    values = {"tick_id": i, "trade_time": T0 + i // 2, "price": "1.5", "is_buyer_maker": i % 2, "note": None}
    return tuple((values | changed).values())


def test_a_dataset_keyed_by_ids(store: Store, store_url: str, ticks: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another registered dataset gets its tables, and all that klines have."""
    monkeypatch.setattr("airflow_provider_binance.store.sql_read._PAGE_ROWS", 7)
    assert store.migrate() == [*NUMBERED, f"dataset_{TICKS.name}"]

    def batch(rows: list[tuple[Any, ...]], coverage: list[CoverageRange], **more: Any) -> Any:
        return batch_of(rows, 0, 1, series=ticks, dataset=TICKS, coverage=coverage, **more)

    whole = CoverageRange(T0, T0 + 50, State.COMPLETE, 100, first_id=0, last_id=99)
    assert store.write(batch([tick(i) for i in range(100)], [whole])).rows_inserted == 100
    assert list(store.rows(TICKS.name, ticks, *EVER)) == [tick(i) for i in range(100)]
    assert store.row_counts(TICKS.name, ticks, [EVER, (T0, T0 + 1)]) == [100, 2]
    again = store.write(batch([tick(i, note="a,b" if i == 3 else None) for i in range(110)], []))
    assert again == WriteResult(110, rows_inserted=10, rows_updated=1, rows_unchanged=99)
    assert plain(store_url, "SELECT key, column_name, old_value, new_value FROM corrections") == [
        ('{"market": "um", "symbol": "BTCUSDT", "tick_id": 3}', "note", None, "a,b")
    ]
    assert plain(store_url, f"SELECT symbol, tick_id FROM {TICKS.name}_latest") == [("BTCUSDT", 109)]
    if not is_sqlite(store_url):
        of_one = f"FROM {TICKS.name}_of('um', 'BTCUSDT') WHERE tick_id < 100"
        assert plain(store_url, f"SELECT count(*), max(tick_id) {of_one}") == [(100, 99)]
    store.record_coverage(TICKS.name, ticks, [CoverageRange(T0 + 10, T0 + 20, State.RETIRED)])
    found = store.coverage(TICKS.name, [ticks], *EVER)[ticks]
    assert [(r.row_count, r.first_id, r.last_id) for r in found] == [(20, 0, 19), (0, None, None), (60, 40, 99)]


def test_an_id_that_comes_at_another_time_is_found(store: Store, ticks: Series) -> None:
    """The probe by time sees nothing, the key is taken: the comparison decides."""
    store.write(batch_of([tick(i) for i in range(10)], 0, 1, series=ticks, dataset=TICKS))
    later = [tick(i, trade_time=at(5) + i) for i in range(8, 12)]
    result = store.write(batch_of(later, 5, 6, series=ticks, dataset=TICKS))
    assert result == WriteResult(4, rows_inserted=2, rows_updated=2)
    assert store.row_counts(TICKS.name, ticks, [EVER]) == [12]


def test_a_dataset_registered_later_is_made_by_its_first_write(store: Store, ticks: Series) -> None:
    registry.unregister(TICKS.name)
    store.migrate()
    registry.register(TICKS)
    assert list(store.rows(TICKS.name, ticks, *EVER)) == []
    assert store.write(batch_of([tick(0)], 0, 1, series=ticks, dataset=TICKS)).rows_inserted == 1


# --- several processes ----------------------------------------------------------------------------------------------

_SPAWN = multiprocessing.get_context("spawn")


def _migrate(url: str, barrier: Any, results: Any) -> None:
    with open_store(url) as store:
        barrier.wait(60)
        try:
            results.put(store.migrate())
        except Exception as error:  # noqa: BLE001 - the parent process judges
            results.put(repr(error))


def _write(url: str, first: bool, barrier: Any, results: Any) -> None:
    with open_store(url) as store:
        barrier.wait(60)
        try:
            total = WriteResult()
            for i in range(40):
                start = i * 10 if first else 390 - i * 10
                total += store.write(klines(start, start + 25))
            results.put(total)
        except Exception as error:  # noqa: BLE001 - the parent process judges
            results.put(repr(error))


def _die(url: str, step: str) -> None:
    store = open_store(url)
    store.write(klines(0, 5))
    setattr(store, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    store.write(klines(5, 10))


@pytest.mark.parametrize("step", ["_lock", "_write_rows", "_write_line", "_write_coverage", "_commit"])
def test_a_kill_at_any_step_leaves_the_batch_out(store: Store, store_url: str, step: str) -> None:
    """The process dies instead of doing the step: rows, line and coverage are those of before."""
    process = _SPAWN.Process(target=_die, args=(store_url, step))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert store.row_counts("klines", SERIES, [EVER]) == [5]
    assert known(store) == [(0, 5, "complete", 5)]
    assert store.write(klines(0, 10)) == WriteResult(10, rows_inserted=5, rows_unchanged=5)
    assert plain(store_url, "SELECT count(*) FROM ingest_log") == [(2,)]


def _together(work: Any, arguments: list[tuple[Any, ...]]) -> list[Any]:
    barrier, results = _SPAWN.Barrier(len(arguments)), _SPAWN.Queue()
    processes = [_SPAWN.Process(target=work, args=(*given, barrier, results)) for given in arguments]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return found


def test_eight_processes_migrate_one_empty_database(store_url: str) -> None:
    found = _together(_migrate, [(store_url,)] * 8)
    assert sorted(name for applied in found for name in applied) == sorted(NUMBERED)  # each by one of them
    with open_store(store_url) as store:
        assert store.write(klines(0, 5)).rows_inserted == 5


def test_two_processes_write_overlapping_windows(store: Store, store_url: str) -> None:
    """Nothing twice, nothing lost, ledger and rows agree."""
    found = _together(_write, [(store_url, True), (store_url, False)])
    assert all(isinstance(total, WriteResult) for total in found), found
    assert sum(total.rows_inserted for total in found) == 415
    assert sum(total.rows_read for total in found) == 2 * 40 * 25
    assert list(closes(store)) == list(range(415))
    assert known(store) == [(0, 415, "complete", 415)]
    assert plain(store_url, "SELECT count(*), sum(rows_inserted) FROM ingest_log") == [(80, 415)]


def test_a_flush_of_many_series_is_one_transaction_with_one_line(store: Store, store_url: str) -> None:
    """As streams bring them: the line names no series, and what one series refuses none has."""
    other = SERIES._replace(symbol="ETHUSDT")
    line = replace(klines(0, 1).line, source=Source.STREAM, source_ref="stream", run_ref="")
    batches = [klines(0, 2), klines(1, 2, series=other)]
    many = [klines(0, 1, series=SERIES._replace(symbol=f"S{number}USDT", interval="5m")) for number in range(20)]

    assert store.write_flush(batches, line) == WriteResult(rows_read=3, rows_inserted=3)
    assert store.write_flush(batches, line) == WriteResult(rows_read=3, rows_unchanged=3)
    assert store.write_flush([], line) == WriteResult()
    with pytest.raises(StoreError, match="leave the batch's window"):
        store.write_flush([klines(5, 6), replace(klines(6, 7), end_us=at(6))], line)

    assert known(store) == [(0, 2, "complete", 2)]
    assert known(store, other) == [(1, 2, "complete", 1)]
    assert store.series() == [SERIES, other]
    assert [store.write_flush(many, line) for _ in range(2)] == [WriteResult(20, 20), WriteResult(20, 0, 0, 20)]
    lines = plain(store_url, 'SELECT dataset, market, symbol, "interval", source, rows_read FROM ingest_log')
    assert lines == [("klines", None, None, None, "stream", 3)] * 2 + [("klines", None, None, None, "stream", 20)] * 2
