"""What only SQLite has: a file, its journal, its locks."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest

from airflow_provider_binance.errors import ConfigError, StoreError, StoreRightsError, StoreUnavailableError
from airflow_provider_binance.records import WriteResult
from airflow_provider_binance.store import open_store, schema_sql, sqlite
from tests.store.helpers import EVER, SERIES, at, batch_of, kline, klines, plain


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ingest.db"


def test_reading_makes_no_file_and_changes_none(path: Path) -> None:
    """A plan before the first load, and a second run, leave the folder as it was."""
    with open_store(path) as store:
        assert store.coverage("klines", [SERIES], *EVER) == {SERIES: []}
        assert store.exists() is False
    assert not path.exists()
    with open_store(path) as store:
        store.ensure_environment("simulator")
        store.write(klines(0, 100))

    def look() -> tuple[str, int, list[Path]]:
        return hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns, list(path.parent.iterdir())

    before = look()
    with open_store(path) as store:
        store.ensure_environment("simulator")
        assert store.migrate() == []
        assert len(store.coverage("klines", [SERIES], *EVER)[SERIES]) == 1
        assert store.row_counts("klines", SERIES, [EVER]) == [100]
        assert len(list(store.rows("klines", SERIES, *EVER))) == 100
        assert store.series() == [SERIES]
    assert look() == before


def test_the_journal_is_wal(path: Path) -> None:
    with open_store(path) as store:
        store.migrate()
    assert plain(f"sqlite:///{path}", "PRAGMA journal_mode") == [("wal",)]


def test_an_emptied_file_is_an_empty_database(path: Path) -> None:
    path.touch()
    with open_store(path) as store:
        assert store.exists() is False
        assert store.write(klines(0, 1)).rows_inserted == 1


def test_another_writer_is_waited_for_and_then_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    with open_store(path) as store:
        store.write(klines(0, 1))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked") as told:
            store.write(klines(0, 2))
        assert told.value.retryable
        assert store.row_counts("klines", SERIES, [EVER]) == [1]
        other.execute("COMMIT")
        other.close()
        assert store.write(klines(0, 2)) == WriteResult(2, rows_inserted=1, rows_unchanged=1)


def test_what_is_no_database_is_told(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)
    with open_store(path) as store, pytest.raises(StoreError, match="not a database") as told:
        store.write(klines(0, 1))
    assert not told.value.retryable


@pytest.mark.parametrize(
    ("name", "said"), [("no/x.db", "does not exist"), ("file/x.db", "no folder"), ("", "a folder")]
)
def test_a_path_where_no_file_can_be_is_the_callers_mistake(tmp_path: Path, name: str, said: str) -> None:
    """Exit 2, reading included, and nothing that trying again would help."""
    (tmp_path / "file").touch()
    with open_store(tmp_path / name) as store:
        for attempt in (store.exists, lambda: store.write(klines(0, 1)), store.migrate):
            with pytest.raises(ConfigError, match=said) as told:
                attempt()
            assert (told.value.retryable, told.value.exit_status) == (False, 2)


def test_a_file_that_may_not_be_written_is_told(path: Path) -> None:
    with open_store(path) as store:
        store.write(klines(0, 1))
        store._db.execute("PRAGMA query_only = 1")  # type: ignore[attr-defined]  # root may write to any file
        with pytest.raises(StoreRightsError, match="write access") as told:
            store.write(klines(1, 2))
        assert not told.value.retryable


def test_a_failure_in_the_middle_leaves_nothing(path: Path) -> None:
    """Rows of which the last breaks a rule: no row, no line, no coverage, and the store goes on."""
    with open_store(path) as store:
        store.migrate()
        with pytest.raises(StoreError, match="NOT NULL"):
            store.write(batch_of([*(kline(i) for i in range(9)), kline(9, close=None)], 0, 10))
        assert store.row_counts("klines", SERIES, [EVER]) == [0]
        assert plain(f"sqlite:///{path}", "SELECT * FROM ingest_log") == []
        assert store.write(klines(0, 10)).rows_inserted == 10


def test_the_printed_ddl_is_the_schema(path: Path) -> None:
    database = sqlite3.connect(path)
    database.executescript(schema_sql("sqlite"))
    database.close()
    with open_store(path, create=False) as store:
        assert store.exists()
        store.ensure_environment("simulator")
        assert store.write(klines(0, 5)).rows_inserted == 5


def test_the_newest_is_found_by_the_key(path: Path) -> None:
    """Through the views, with nothing sorted and nothing else read."""
    with open_store(f"sqlite:///{path}") as store:
        store.write(klines(0, 100))
    of_one = "WHERE market = 'spot' AND symbol = 'BTCUSDT' AND \"interval\" = '1m'"
    for query in (
        f"SELECT * FROM klines {of_one} ORDER BY open_time DESC LIMIT 1",
        f"SELECT max(open_time) FROM klines {of_one}",
        f"SELECT * FROM klines {of_one} AND open_time >= {at(5)} ORDER BY open_time",
        f"SELECT * FROM klines_latest {of_one}",
        "SELECT * FROM klines_latest",
    ):
        plan = [line[3] for line in plain(f"sqlite:///{path}", f"EXPLAIN QUERY PLAN {query}")]
        assert any(step.startswith("SEARCH d USING PRIMARY KEY (series_id=?") for step in plan), plan
        assert not [step for step in plan if "TEMP B-TREE" in step or step.startswith(("SCAN d", "SCAN o"))], plan


def test_a_full_disk_is_unavailable(path: Path) -> None:
    with open_store(path) as store:
        store.write(klines(0, 5))
        store._db.execute("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]
        with pytest.raises(StoreUnavailableError, match="full"):
            store.write(klines(5, 20_000))
        store._db.execute("PRAGMA max_page_count = 1000000")  # type: ignore[attr-defined]
        assert store.row_counts("klines", SERIES, [EVER]) == [5]
        assert store.write(klines(5, 20_000)).rows_inserted == 19_995
