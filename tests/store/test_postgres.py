"""What only PostgreSQL has: roles, sessions, schemas, plans."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.engine import make_url

from airflow_provider_binance.errors import StoreError, StoreRightsError, StoreUnavailableError
from airflow_provider_binance.kline_rows import KlineRows
from airflow_provider_binance.market import INTERVALS, Market, to_us
from airflow_provider_binance.records import Batch, WriteResult
from airflow_provider_binance.store import open_store, postgres_rows, schema_sql
from airflow_provider_binance.store.postgres import PostgresStore
from tests.fix_postgres import driver_url
from tests.store.helpers import EVER, SERIES, at, batch_of, kline, klines, make_old, plain

pytestmark = pytest.mark.postgres


@pytest.fixture
def url(postgres_database: str) -> str:
    return postgres_database


@pytest.fixture
def role(url: str) -> Iterator[str]:
    """The URL for a role that may connect and nothing else."""
    name = "ingest_test_role"
    plain(url, f"DROP ROLE IF EXISTS {name}")
    plain(url, f"CREATE ROLE {name} LOGIN PASSWORD 'geheim'")
    yield make_url(url).set(username=name, password="geheim").render_as_string(hide_password=False)
    plain(url, f"DROP OWNED BY {name}")
    plain(url, f"DROP ROLE {name}")


def test_a_second_run_writes_nothing(url: str) -> None:
    """Reading methods leave no trace in the statistics of any table."""
    with open_store(url) as store:
        store.ensure_environment("simulator")
        store.write(klines(0, 100))
    count = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del), pg_stat_force_next_flush()::text FROM pg_stat_user_tables"
    deadline = time.monotonic() + 60
    while (before := plain(url, count))[0][0] < 100:  # a server process reports what it did when it has ended
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with open_store(url) as store:
        store.ensure_environment("simulator")
        assert store.migrate() == []
        assert len(store.coverage("klines", [SERIES], *EVER)[SERIES]) == 1
        assert len(list(store.rows("klines", SERIES, *EVER))) == 100
        assert store.row_counts("klines", SERIES, [EVER]) == [100]
        assert store._query("SELECT pg_current_xact_id_if_assigned()") == [(None,)]  # type: ignore[attr-defined]
    assert plain(url, count) == before


def test_an_identical_load_touches_no_row(url: str) -> None:
    with open_store(url) as store:
        store.write(klines(0, 100))
        before = plain(url, "SELECT ctid::text, xmin::text FROM klines_data ORDER BY 1")
        store.write(klines(0, 100))
    assert plain(url, "SELECT ctid::text, xmin::text FROM klines_data ORDER BY 1") == before


def test_tables_live_in_the_schema_that_was_asked_for(url: str) -> None:
    """Any name, and two schemas in one database know nothing of each other."""
    for schema in ('we"ird %s $$', "Zweites"):
        with open_store(url, schema=schema) as store:
            store.ensure_environment("simulator" if schema == "Zweites" else "testnet")
            assert store.write(klines(0, 10)).rows_inserted == 10
            assert store.write(klines(0, 12, close="2")).rows_updated == 10
            assert len(store.coverage("klines", [SERIES], *EVER)[SERIES]) == 1
            assert len(list(store.rows("klines", SERIES, *EVER))) == 12
    assert plain(url, 'SELECT count(*) FROM "Zweites".klines') == [(12,)]
    assert (
        plain(url, "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public'")
        == []
    )


#: How users ask for a part of the 20 series of the test below, and what the plan of it has.
TEN_MINUTES = "open_time >= '2024-01-01T00:10Z' AND open_time < '2024-01-01T00:20Z'"
OF_VIEW = "WHERE market = 'spot' AND symbol = 'S3USDT' AND \"interval\" = '1m'"
OF_ONE = "klines_of('spot', 'S3USDT', '1m')"
BACKWARDS = r"Index (Only )?Scan Backward using klines_data_pkey"
KEYED = {
    f"SELECT * FROM klines {OF_VIEW} AND {TEN_MINUTES}": r"Index Cond: .*series_id = .*open_time",
    f"SELECT * FROM klines_latest {OF_VIEW}": BACKWARDS,
    "SELECT * FROM klines_latest": BACKWARDS,
    f"SELECT * FROM {OF_ONE} ORDER BY open_time DESC LIMIT 1": BACKWARDS,
    f"SELECT close FROM {OF_ONE} ORDER BY open_time DESC OFFSET 20 LIMIT 10": BACKWARDS,
    f"SELECT max(open_time) FROM {OF_ONE}": BACKWARDS,
    f"SELECT max(open_time) FROM {OF_ONE} WHERE {TEN_MINUTES}": BACKWARDS,
    f"SELECT * FROM {OF_ONE} WHERE {TEN_MINUTES} ORDER BY open_time": r"Index Cond: .*series_id = .*open_time",
    'SELECT k.* FROM series s CROSS JOIN LATERAL (SELECT * FROM klines_of(s.market, s.symbol, s."interval") '
    "ORDER BY open_time DESC LIMIT 1) k": BACKWARDS,
}


def test_the_key_is_used(url: str) -> None:
    """Through the views, and through the function, which is inlined: nothing is sorted, nothing read in vain."""
    with open_store(url) as store:
        for i in range(20):
            store.write(klines(0, 1_000, series=type(SERIES)("spot", "klines", f"S{i}USDT", "1m")))
    plain(url, "ANALYZE klines_data, series")
    for query, wanted in KEYED.items():
        plan = "\n".join(line[0] for line in plain(url, f"EXPLAIN {query}"))
        assert "klines_data_pkey" in plan, plan
        assert re.search(wanted, plan), plan
        assert not re.search("Seq Scan on klines_data|Function Scan|Sort", plan), f"{query}\n{plan}"
    newest = [to_us(row[0]) for row in plain(url, "SELECT open_time FROM klines_latest")]
    assert newest == [at(999)] * 20
    assert plain(url, f"SELECT * FROM {OF_ONE} ORDER BY open_time DESC LIMIT 1") == plain(
        url, f"SELECT * FROM klines_latest {OF_VIEW}"
    )


def test_rows_of_one_series_are_those_of_the_view(url: str) -> None:
    """Regular, cut short and monthly closes; of a series that is not there, none. In any schema, whatever the path."""
    with open_store(url, schema='we"ird %s $$') as store:
        store.write(lines(0, 10, close_ms=30_000))
        store.write(klines(3, 8, series=SERIES._replace(symbol="ETHUSDT")))
        store.write(klines(0, 1, series=SERIES._replace(interval="1M"), close_time=at(44_640) - 1_000))
    named, missing = '"we""ird %s $$".klines', "O''B"
    for symbol, interval, rows in (
        ("BTCUSDT", "1m", 10),
        ("ETHUSDT", "1m", 5),
        ("BTCUSDT", "1M", 1),
        (missing, "1m", 0),
    ):
        one = f"market => 'spot', \"interval\" => '{interval}', symbol => '{symbol}'"
        found = plain(url, f"SELECT * FROM {named}_of({one}) ORDER BY open_time")
        same = one.replace("=>", "=").replace(", ", " AND ")
        assert found == plain(url, f"SELECT * FROM {named} WHERE {same} ORDER BY open_time")
        assert len(found) == rows


def test_who_reads_needs_rights_on_views_and_for_the_function_on_tables(url: str, role: str) -> None:
    """The function is inlined, so it reads with its caller's rights."""
    with open_store(url) as store:
        store.write(klines(0, 5))
    plain(url, "GRANT USAGE ON SCHEMA public TO ingest_test_role")
    plain(url, "GRANT SELECT ON klines, klines_latest TO ingest_test_role")
    assert plain(role, "SELECT count(*) FROM klines_latest") == [(1,)]
    with pytest.raises(errors.InsufficientPrivilege):
        plain(role, "SELECT count(*) FROM klines_of('spot', 'BTCUSDT', '1m')")
    plain(url, "GRANT SELECT ON klines_data, series TO ingest_test_role")
    assert plain(role, "SELECT count(*) FROM klines_of('spot', 'BTCUSDT', '1m')") == [(5,)]


def test_fixed_width_columns_come_first(url: str) -> None:
    with open_store(url) as store:
        store.migrate()
    columns = "FROM pg_attribute WHERE attrelid = 'klines_data'::regclass AND attnum > 0 ORDER BY attnum"
    lines = plain(url, f"SELECT attname, attlen {columns}")
    assert [name for name, length in lines if length > 0] == ["open_time", "close_time", "series_id", "trade_count"]
    assert [name for name, _ in lines[:4]] == ["open_time", "close_time", "series_id", "trade_count"]


def lines(start: int, end: int, close_ms: int = 59_999) -> Batch:
    """The batch of `klines(start, end)` as an archive file has it; the first kline closes so long after its open."""
    text = b"\n".join(
        b"%d,1.1,2,1,1.5,10,%d,12.5,3,1,0.00000001,0"
        % (at(i) // 1000, at(i) // 1000 + (close_ms if i == start else 59_999))
        for i in range(start, end)
    )
    return replace(klines(start, end), rows=KlineRows.read(text, Market.SPOT, INTERVALS["1m"]))


def test_regular_close_time_is_implied(url: str) -> None:
    """NULL in the table, the time in the view and in `rows`; written out by hand it is the same value."""
    closes = [at(i + 1) - 1_000 for i in range(10)]
    with open_store(url) as store:
        assert store.write(lines(0, 10)) == WriteResult(10, rows_inserted=10)
        assert plain(url, "SELECT DISTINCT close_time FROM klines_data") == [(None,)]
        assert [to_us(row[0]) for row in plain(url, "SELECT close_time FROM klines ORDER BY open_time")] == closes
        assert [row[6] for row in store.rows("klines", SERIES, *EVER)] == closes

        assert store.write(klines(0, 10)) == WriteResult(10, rows_unchanged=10)
        plain(url, "UPDATE klines_data d SET close_time = k.close_time FROM klines k WHERE k.open_time = d.open_time")
        assert store.write(lines(0, 10)) == WriteResult(10, rows_unchanged=10)
    assert plain(url, "SELECT 1 FROM corrections") == []


def test_close_time_that_is_not_regular_is_kept(url: str) -> None:
    """A kline cut short has its own; a correction names both times."""
    with open_store(url) as store:
        store.write(lines(0, 10, close_ms=30_000))
        assert [row[6] for row in store.rows("klines", SERIES, *EVER)][:2] == [at(0) + 30_000_000, at(2) - 1_000]

        assert store.write(lines(0, 10)) == WriteResult(10, rows_updated=1, rows_unchanged=9)
        assert next(row[6] for row in store.rows("klines", SERIES, *EVER)) == at(1) - 1_000
    found = plain(url, "SELECT column_name, old_value, new_value FROM corrections")
    assert found == [("close_time", "2024-01-01T00:00:30Z", "2024-01-01T00:00:59.999Z")]


def test_every_interval_that_is_no_month_implies_its_close(url: str) -> None:
    with open_store(url) as store:
        store.migrate()
    for name, interval in INTERVALS.items():
        plain(url, f"INSERT INTO series (market, symbol, \"interval\") VALUES ('spot', 'X', '{name}')")
        found = plain(url, f"SELECT extract(epoch FROM close_after) * 1000 FROM series WHERE \"interval\" = '{name}'")
        assert found == [(None if interval.is_calendar else interval.size_us // 1000 - 1,)]


def test_a_unique_violation_falls_back_to_the_comparison(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign writer that took no lock came between probe and COPY."""
    with open_store(url) as store:
        store.write(klines(50, 60))
        real = postgres_rows._copy

        def late(store: PostgresStore, table: str, *parts: Any) -> Any:
            if "klines_data" in table:
                plain(
                    url,
                    "INSERT INTO klines_data (open_time, close_time, series_id, trade_count, open, high, low, "
                    "close, volume, taker_buy_base_volume) SELECT '2024-01-01T00:03Z', '2024-01-01T00:03:59.999Z', "
                    "series_id, 3, 1, 1, 1, 1, 1, 1 FROM series",
                )
            return real(store, table, *parts)

        monkeypatch.setattr(postgres_rows, "_copy", late)
        assert store.write(klines(0, 10)) == WriteResult(10, rows_inserted=9, rows_updated=1)
        assert len(store.coverage("klines", [SERIES], *EVER)[SERIES]) == 2


def test_a_lost_connection_is_unavailable_and_made_anew(url: str) -> None:
    """A server that goes away in mid-transaction: nothing of the batch is there, and the next call goes on."""
    with open_store(url) as store:
        store.write(klines(0, 5))

        def cut(*_: Any) -> None:
            (pid,) = store._query("SELECT pg_backend_pid()")[0]  # type: ignore[attr-defined]
            plain(url, "SELECT pg_terminate_backend(%s)", [pid])
            store._query("SELECT 1")  # type: ignore[attr-defined]

        store._write_line = cut  # type: ignore[attr-defined]
        with pytest.raises(StoreUnavailableError) as told:
            store.write(klines(5, 10))
        assert told.value.retryable
        del store._write_line  # type: ignore[attr-defined]
        assert store.row_counts("klines", SERIES, [EVER]) == [5]
        assert store.write(klines(5, 10)).rows_inserted == 5


def test_missing_rights_are_named_with_the_way_out(url: str, role: str) -> None:
    """No CREATE: the DDL is for the owner. The DDL alone: the missing grants are named. With them: it works."""
    with open_store(role) as store:
        with pytest.raises(StoreRightsError, match=r"may not CREATE.*binance-ingest migrate --sql") as told:
            store.ensure_environment("simulator")
        assert "geheim" not in str(told.value)
        assert not told.value.retryable
    with open_store(role, schema="others") as store, pytest.raises(StoreRightsError, match="may not CREATE"):
        store.migrate()
    plain(url, schema_sql("postgresql", "others"))
    with open_store(role, schema="others", create=False) as store:
        with pytest.raises(StoreRightsError, match=r"may not SELECT.*grant"):
            store.ensure_environment("simulator")
        plain(url, "GRANT USAGE ON SCHEMA others TO ingest_test_role")
        plain(url, "GRANT SELECT ON ALL TABLES IN SCHEMA others TO ingest_test_role")
        with pytest.raises(StoreRightsError, match=r"may not INSERT"):
            store.ensure_environment("simulator")
        plain(url, "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA others TO ingest_test_role")
        store.ensure_environment("simulator")
        assert store.migrate() == []
        assert store.write(klines(0, 10)).rows_inserted == 10
        assert store.write(klines(0, 10, close="2")).rows_updated == 10


def test_a_role_that_may_not_alter_goes_on_with_an_older_store(
    url: str, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It says what the owner should do, and loads."""
    with open_store(url) as store:
        store.migrate()
    make_old(url)
    for rights in ("USAGE ON SCHEMA public", "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"):
        plain(url, f"GRANT {rights} TO ingest_test_role")
    with open_store(role) as store:
        store.ensure_environment("simulator")
        assert "binance-ingest migrate" in caplog.text
        assert store.write(klines(0, 10)).rows_inserted == 10


def test_a_read_only_database_is_told(url: str) -> None:
    with open_store(url) as store:
        store.migrate()
    name = make_url(url).database
    plain(url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    with open_store(url) as store:
        assert store.exists()
        with pytest.raises(StoreRightsError, match="read-only"):
            store.ensure_environment("simulator")


def test_settings_of_the_database_do_not_matter(url: str) -> None:
    """Time-outs, isolation and date style that an administrator set for other work."""
    name = make_url(url).database
    for setting in (
        "statement_timeout = 500",
        "default_transaction_isolation = 'serializable'",
        "datestyle = 'SQL, DMY'",
        "search_path = 'public'",
    ):
        plain(url, f'ALTER DATABASE "{name}" SET {setting}')
    with open_store(url) as store:
        assert store.write(klines(0, 5_000)).rows_inserted == 5_000
        assert len(store._query("SELECT pg_sleep(0.7)")) == 1  # type: ignore[attr-defined]
        assert store.write(klines(0, 5_000, close="2")).rows_updated == 5_000
        assert next(store.rows("klines", SERIES, *EVER)) == kline(0, close="2")
    assert plain(url, "SELECT DISTINCT old_value FROM corrections") == [("1.5",)]


def test_the_series_lock_is_held_to_commit(url: str) -> None:
    """A second writer of the series waits; one of another series does not."""
    other = type(SERIES)("spot", "klines", "ETHUSDT", "1m")
    with open_store(url) as first, open_store(url) as second:
        first.write(klines(0, 5))
        second.write(klines(0, 5, series=other))
        done = threading.Event()
        real = first._commit  # type: ignore[attr-defined]

        def commit() -> None:
            thread.start()
            assert not done.wait(0.5), "the second writer did not wait"
            real()

        def write() -> None:
            second.write(klines(0, 10))
            done.set()

        thread = threading.Thread(target=write)
        first._commit = commit  # type: ignore[attr-defined]
        with open_store(url) as third:
            first.write(klines(5, 20))
            third.write(klines(0, 10, series=other))
        thread.join(30)
        assert done.is_set()
        assert first.row_counts("klines", SERIES, [EVER]) == [20]


@pytest.mark.parametrize(
    "error", [errors.DiskFull, errors.AdminShutdown, errors.DeadlockDetected, errors.TooManyConnections]
)
def test_what_passes_is_unavailable(url: str, monkeypatch: pytest.MonkeyPatch, error: type[psycopg.Error]) -> None:
    with open_store(url) as store:
        store.write(klines(0, 5))

        def fail(*_: Any) -> None:
            raise error("as the server says it")

        monkeypatch.setattr(store, "_write_line", fail)
        with pytest.raises(StoreUnavailableError, match="as the server says it") as told:
            store.write(klines(5, 10))
        assert told.value.retryable
        assert store.row_counts("klines", SERIES, [EVER]) == [5]


def test_a_failure_in_the_middle_leaves_nothing(url: str) -> None:
    with open_store(url) as store:
        store.migrate()
        with pytest.raises(StoreError, match="null value"):
            store.write(batch_of([*(kline(i) for i in range(9)), kline(9, close=None)], 0, 10))
        assert plain(url, "SELECT * FROM ingest_log") == []
        assert store.write(klines(0, 10)).rows_inserted == 10


def test_times_and_text_do_not_depend_on_the_session(url: str) -> None:
    with open_store(url) as store:
        store.write(klines(0, 3))
        store.write(klines(0, 3, close="2"))
    ((zone,),) = plain(url, "SHOW timezone")
    assert zone == "America/New_York"
    keys = plain(url, "SELECT key FROM corrections ORDER BY key")
    assert keys[0][0].endswith('"open_time": "2024-01-01T00:00:00Z"}')
    with psycopg.connect(driver_url(url)) as reader:
        assert reader.execute("SELECT open_time AT TIME ZONE 'UTC' FROM klines ORDER BY 1").fetchone() is not None
