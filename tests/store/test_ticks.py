"""Tables of ticks: their columns, their months, ids across midnight, and the finer of two times."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.records import CoverageRange, Series, Source, State, WriteResult
from airflow_provider_binance.registry import AGG_TRADES, TRADES
from airflow_provider_binance.rows import Value
from airflow_provider_binance.store import Store, open_store
from tests.fix_postgres import driver_url
from tests.store.helpers import T0, at, batch_of, is_sqlite, plain

DAY = 1440
TICKS = Series("spot", "agg_trades", "BTCUSDT")
_SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with open_store(store_url) as opened:
        yield opened


def tick(i: int, **changed: Value) -> tuple[Value, ...]:
    """The aggregate of the i-th minute."""
    values: dict[str, Value] = {
        "agg_trade_id": i, "price": "1.5", "quantity": "2", "normal_quantity": None, "first_trade_id": 2 * i,
        "last_trade_id": 2 * i + 1, "trade_time": at(i), "is_buyer_maker": i % 2, "is_best_match": 1,
    }  # fmt: skip
    return tuple((values | changed).values())


def batch(rows: list[tuple[Value, ...]], start: int, end: int, **more: Any) -> Any:
    return batch_of(rows, start, end, series=TICKS, dataset=AGG_TRADES, **more)


def test_the_views_have_the_documented_columns(store: Store, store_url: str) -> None:
    store.migrate()
    for entry in (AGG_TRADES, TRADES):
        if is_sqlite(store_url):
            names = [row[1] for row in plain(store_url, f"PRAGMA table_info({entry.name})")]
        else:
            names = [
                row[0]
                for row in plain(
                    store_url,
                    "SELECT column_name FROM information_schema.columns WHERE table_name = %s ORDER BY "
                    "ordinal_position",
                    [entry.name],
                )
            ]
        assert names == ["market", "symbol", *entry.column_names, "trade_day"]


def test_ticks_are_written_and_read_across_months(store: Store, store_url: str) -> None:
    """One batch may touch several months; each has its partition, and whoever reads sees none of it."""
    rows = [tick(i * DAY * 10) for i in range(8)]
    assert store.write(batch(rows, 0, 71 * DAY)).rows_inserted == 8
    assert list(store.rows("agg_trades", TICKS, at(0), at(80 * DAY))) == rows
    assert plain(store_url, "SELECT CAST(min(trade_day) AS text), CAST(max(trade_day) AS text) FROM agg_trades") == [
        ("2024-01-01", "2024-03-11")
    ]
    if not is_sqlite(store_url):
        months = plain(store_url, "SELECT relname FROM pg_class WHERE relname ~ '^agg_trades_data_...._..$'")
        assert sorted(months) == [(f"agg_trades_data_2024_0{month}",) for month in (1, 2, 3)]


def test_an_id_is_one_row_across_midnight(store: Store, store_url: str) -> None:
    """A later source that puts a tick on the other side of midnight moves it: the id is not there twice."""
    store.write(batch([tick(DAY - 1), tick(DAY)], 0, 2 * DAY))
    moved = tick(DAY - 1, trade_time=at(DAY) - 1 + 1_000)
    assert store.write(batch([moved], DAY, 2 * DAY, source=Source.ARCHIVE)) == WriteResult(1, rows_updated=1)
    assert set(store.rows("agg_trades", TICKS, at(0), at(2 * DAY))) == {tick(DAY), moved}
    assert plain(store_url, "SELECT count(*), count(DISTINCT agg_trade_id) FROM agg_trades") == [(2, 2)]
    days = plain(store_url, "SELECT CAST(trade_day AS text) FROM agg_trades ORDER BY agg_trade_id")
    assert days == [("2024-01-02",), ("2024-01-02",)]


def test_the_finer_of_two_times_stays(store: Store, store_url: str) -> None:
    """Milliseconds and microseconds of one moment are one time; the row counts as unchanged, whichever came first."""
    fine = [tick(i, trade_time=at(i) + 123_456) for i in range(4)]
    coarse = [tick(i, trade_time=at(i) + 123_000) for i in range(4)]
    store.write(batch(fine[:2] + coarse[2:], 0, 4))
    assert store.write(batch(coarse[:2] + fine[2:], 0, 4, source=Source.ARCHIVE)) == WriteResult(4, rows_unchanged=4)
    assert list(store.rows("agg_trades", TICKS, at(0), at(9))) == fine
    other = tick(1, trade_time=at(1) + 124_000)
    assert store.write(batch([other], 0, 4, source=Source.ARCHIVE)) == WriteResult(1, rows_updated=1)
    assert plain(store_url, "SELECT column_name FROM corrections") == [("trade_time",)]


def test_a_source_leaves_what_it_does_not_carry(store: Store) -> None:
    """The archive of um knows no normal quantity: that of REST stays."""
    series = Series("um", "agg_trades", "BTCUSDT")
    names = [name for name in AGG_TRADES.column_names if name not in ("normal_quantity", "is_best_match")]
    rest = [tick(i, normal_quantity="1.25", is_best_match=None) for i in range(5)]
    bare = [tuple(v for n, v in zip(AGG_TRADES.column_names, row, strict=True) if n in names) for row in rest]
    store.write(batch_of(rest, 0, 5, series=series, dataset=AGG_TRADES))
    again = batch_of(bare, 0, 5, series=series, dataset=AGG_TRADES, columns=names, source=Source.ARCHIVE)
    assert store.write(again) == WriteResult(5, rows_unchanged=5)
    assert list(store.rows("agg_trades", series, at(0), at(9))) == rest


def test_coverage_keeps_first_and_last_id(store: Store) -> None:
    whole = CoverageRange(at(0), at(10), State.COMPLETE, 10, first_id=0, last_id=9)
    store.write(batch([tick(i) for i in range(10)], 0, 10, coverage=[whole]))
    store.record_coverage("agg_trades", TICKS, [CoverageRange(at(4), at(6), State.RETIRED)])
    found = store.coverage("agg_trades", [TICKS], at(0), at(10))[TICKS]
    assert [(r.state, r.row_count, r.first_id, r.last_id) for r in found] == [
        ("complete", 4, 0, 3), ("retired", 0, None, None), ("complete", 4, 6, 9),
    ]  # fmt: skip


def _write_months(url: str, number: int, barrier: Any, results: Any) -> None:
    series = Series("spot", "agg_trades", f"SYMBOL{number}")
    with open_store(url) as store:
        barrier.wait(60)
        try:
            for month in range(6):
                start = month * 30 * DAY
                rows = [tick(start + i) for i in range(50)]
                store.write(batch_of(rows, start, start + 50, series=series, dataset=AGG_TRADES))
            results.put(None)
        except Exception as error:  # noqa: BLE001 - the parent process judges
            results.put(repr(error))


@pytest.mark.postgres
def test_eight_writers_make_each_month_once(postgres_database: str) -> None:
    """On an empty database: tables, months and rows of all of them are there afterwards, and no error was."""
    barrier, results = _SPAWN.Barrier(8), _SPAWN.Queue()
    children = [_SPAWN.Process(target=_write_months, args=(postgres_database, n, barrier, results)) for n in range(8)]
    for child in children:
        child.start()
    assert [results.get(timeout=90) for _ in children] == [None] * 8
    for child in children:
        child.join(30)
    assert plain(postgres_database, "SELECT count(*) FROM agg_trades") == [(8 * 6 * 50,)]


@pytest.mark.postgres
def test_a_role_that_may_only_write_has_its_months_made(postgres_database: str) -> None:
    """The functions of the owner make and drop months for a role that owns nothing, and for no role without rights."""
    with open_store(postgres_database) as owner:
        owner.migrate()
    role = f"writer_{T0 % 1000}_{id(owner) % 10_000}"
    with psycopg.connect(driver_url(postgres_database), autocommit=True) as admin:
        for name in (role, f"{role}_none"):
            admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
        try:
            admin.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
            admin.execute(f"SET SESSION AUTHORIZATION {role}")
            admin.execute("SELECT tick_month('agg_trades_data'::regclass, date '2021-05-06')")
            assert admin.execute("SELECT to_regclass('agg_trades_data_2021_05')::text").fetchone() == (
                "agg_trades_data_2021_05",
            )
            gone = admin.execute("SELECT drop_tick_months('agg_trades_data'::regclass, date '2021-06-01')").fetchall()
            assert gone == [("agg_trades_data_2021_05",)]
            admin.execute("RESET SESSION AUTHORIZATION")
            admin.execute(f"SET SESSION AUTHORIZATION {role}_none")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                admin.execute("SELECT tick_month('agg_trades_data'::regclass, date '2021-05-06')")
        finally:
            admin.execute("RESET SESSION AUTHORIZATION")
            for name in (role, f"{role}_none"):
                admin.execute(f"DROP OWNED BY {name}")
                admin.execute(f"DROP ROLE {name}")


def test_retention_drops_rows_and_marks_the_ledger_at_once(store: Store, store_url: str) -> None:
    """Whole months in PostgreSQL, days in SQLite; other series likewise; a second time is nothing."""
    other = Series("um", "agg_trades", "ETHUSDT")
    for series in (TICKS, other):
        for month in (0, 31, 60):
            start = month * DAY
            rows = [tick(start + i) for i in range(10)]
            whole = CoverageRange(at(start), at(start + 10), State.COMPLETE, 10, first_id=start, last_id=start + 9)
            store.write(batch_of(rows, start, start + 10, series=series, dataset=AGG_TRADES, coverage=[whole]))
    gone = store.retire("agg_trades", at(31 * DAY + 5))  # in the first minutes of February
    assert (gone.end_us, gone.series, gone.rows) == (at(31 * DAY), 2, 20)
    for series in (TICKS, other):
        assert store.row_counts("agg_trades", series, [(at(0), at(31 * DAY)), (at(31 * DAY), at(90 * DAY))]) == [0, 20]
        found = store.coverage("agg_trades", [series], at(0), at(90 * DAY))[series]
        assert [(r.state, r.row_count) for r in found] == [("retired", 0), ("complete", 10), ("complete", 10)]
    assert store.retire("agg_trades", at(31 * DAY + 5)).rows == 0
    forced = CoverageRange(at(0), at(10), State.COMPLETE, 10, first_id=0, last_id=9)
    store.write(batch([tick(i) for i in range(10)], 0, 10, coverage=[forced]))
    assert store.coverage("agg_trades", [TICKS], at(0), at(10))[TICKS][0].state == "complete"


def test_only_ticks_have_a_retention(store: Store) -> None:
    store.migrate()
    with pytest.raises(InputError, match="no retention"):
        store.retire("klines", at(0))
