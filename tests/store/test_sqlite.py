"""What only SQLite has: a file, its journal, its locks."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_provider_binance import kline_rows
from airflow_provider_binance.errors import ConfigError, StoreError, StoreRightsError, StoreUnavailableError
from airflow_provider_binance.kline_rows import KlineRows
from airflow_provider_binance.market import INTERVALS, Market, iso
from airflow_provider_binance.normalize import archive_rows
from airflow_provider_binance.records import Batch, Image, Source, WriteResult
from airflow_provider_binance.store import open_store, schema_sql, sqlite, sqlite_incoming
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


# --- Klines as they are loaded ----------------------------------------------------------------------------------------


@pytest.fixture(params=["images", "tuples"])
def small_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether this SQLite reads images. Chunks are so small that a batch has more of them than images may be."""
    monkeypatch.setattr(kline_rows, "_CHUNK_ROWS", 20)
    if request.param == "tuples":
        monkeypatch.setattr(sqlite_incoming, "takes_images", lambda db: False)
    return str(request.param)


def loaded(numbers: Iterable[int], source: Source = Source.ARCHIVE, **changed: str) -> Batch:
    """The klines of these minutes as lines; `changed` are the texts of other than the usual fields."""
    fields = {"open": "1.10000000", "high": "2.00000000", "volume": "10", "count": "3"} | changed
    lines = [
        f"{at(n) // 1000},{fields['open']},{fields['high']},1,1.5,{fields['volume']},{at(n + 1) // 1000 - 1},12.50,"
        f"{fields['count']},1.0,0.00000001,0"
        for n in numbers
    ]
    rows = archive_rows("\n".join(lines).encode(), Market.SPOT, INTERVALS["1m"], ref="file")
    return replace(klines(0, 1_000, source=source), rows=rows)


def table(path: Path) -> list[tuple[object, ...]]:
    return plain(f"sqlite:///{path}", "SELECT * FROM klines_data ORDER BY open_time")


@pytest.mark.usefixtures("small_chunks")
def test_klines_are_inserted_and_compared(path: Path) -> None:
    """Fresh, identical, with rows lacking, with holes, and beyond what is there."""
    with open_store(path) as store:
        minutes = [n for n in range(800) if n % 50]
        assert store.write(loaded(minutes)) == WriteResult(784, 784)
        before = table(path)
        assert before[0][:9] == (1, at(1), "1.1", "2", "1", "1.5", "10", at(2) - 1_000, "12.5")
        assert store.write(loaded(minutes)) == WriteResult(784, rows_unchanged=784)
        assert table(path) == before
        assert store.write(loaded(range(900))) == WriteResult(900, 900 - 784, rows_unchanged=784)
        whole = table(path)
        assert [row[1] for row in whole] == [at(n) for n in range(900)]
        plain(f"sqlite:///{path}", "DELETE FROM klines_data WHERE open_time % 7 = 0")
        lacking = 900 - len(table(path))
        assert lacking
        assert store.write(loaded(range(900))) == WriteResult(900, lacking, rows_unchanged=900 - lacking)
        assert table(path) == whole


@pytest.mark.usefixtures("small_chunks")
def test_klines_that_say_otherwise_are_corrected(path: Path) -> None:
    """A changed digit, bytes, text for a number, another close. A number spelled otherwise is no change."""
    url = f"sqlite:///{path}"
    with open_store(path) as store:
        store.write(loaded(range(700)))
        whole = table(path)
        for number, change in enumerate(
            [
                "open = '1.11'",
                "high = x'32'",
                "trade_count = 'three'",
                "close_time = close_time - 1000",
                "quote_volume = NULL",
            ]
        ):
            plain(url, f"UPDATE klines_data SET {change} WHERE open_time = %s", [at(100 * number)])
        plain(url, "UPDATE klines_data SET volume = '10.0' WHERE open_time = %s", [at(600)])
        assert store.write(loaded(range(700))) == WriteResult(700, 0, 5, 695)
        spelled = [(*row[:6], "10.0", *row[7:]) if row[1] == at(600) else row for row in whole]
        assert table(path) == spelled
        told = plain(url, "SELECT key, column_name, old_value, new_value FROM corrections")
        assert [line[1:] for line in told] == [
            ("open", "1.11", "1.1"),
            ("high", "b'2'", "2"),
            ("trade_count", "three", "3"),
            ("close_time", iso(at(301) - 2_000), iso(at(301) - 1_000)),
            ("quote_volume", None, "12.5"),
        ]
        assert '"open_time": "2024-01-01T01:40:00Z"' in told[1][0]


@pytest.mark.usefixtures("small_chunks")
def test_klines_of_a_higher_source_stay(path: Path) -> None:
    with open_store(path) as store:
        store.write(loaded(range(500)))
        before = table(path)
        assert store.write(loaded(range(600), Source.REST, volume="11")) == WriteResult(600, 100, 0, 0, 500)
        assert table(path)[:500] == before
        assert store.write(loaded(range(600), volume="11")) == WriteResult(600, 0, 500, 100)


def test_one_odd_kline_holds_up_no_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images and tuples by turns in one batch."""
    monkeypatch.setattr(kline_rows, "_CHUNK_ROWS", 20)
    lines = [loaded([n], open="-1" if n == 50 else "007") if n in (50, 90) else loaded([n]) for n in range(160)]
    rows = KlineRows.joined(
        [batch.rows for batch in lines if isinstance(batch.rows, KlineRows)], Market.SPOT, INTERVALS["1m"]
    )
    kinds = [isinstance(chunk, Image) for chunk in rows.sqlite_chunks(images=8)]
    assert kinds == [True, True, False, True, False, True, True, True]
    with open_store(path) as store:
        batch = replace(lines[0], rows=rows)
        assert store.write(batch) == WriteResult(160, 160)
        assert store.write(batch) == WriteResult(160, rows_unchanged=160)
        assert [row[1:12] for row in table(path)] == list(rows.tuples())


def test_a_database_in_utf_16_is_served(path: Path) -> None:
    """It accepts no image beside it."""
    with closing(sqlite3.connect(path)) as made:
        made.executescript("PRAGMA encoding = 'UTF-16le'; CREATE TABLE of_the_user (a)")
    with open_store(path) as store:
        assert store.write(loaded(range(100))) == WriteResult(100, 100)
        assert store.write(loaded(range(100))) == WriteResult(100, rows_unchanged=100)


def test_waiting_for_another_writer_ends_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that says who is waited for and what to do, exit status 5, nothing half done; later it goes through."""
    from airflow_provider_binance.cli import main

    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    path = tmp_path / "busy.db"
    store = open_store(path)
    store.write(klines(0, 10))
    with closing(sqlite3.connect(path, isolation_level=None)) as other, other:
        other.execute("BEGIN IMMEDIATE")
        for work in (
            lambda: store.write(klines(10, 20)),
            lambda: store.record_coverage("klines", SERIES, klines(10, 20).coverage),
            lambda: store.forget(SERIES, *EVER),
        ):
            with pytest.raises(
                StoreUnavailableError, match=r"another process has been writing to it for more than 0.1 s"
            ):
                work()
        words = ["forget", "--store", f"sqlite:///{path}", "--market", "spot", "--symbol", "*", "--yes"]
        assert main(words) == 5
        assert "run the same again when that one is through" in capsys.readouterr().err
        assert store.audit(SERIES, *EVER).rows == 10
        other.execute("ROLLBACK")
    other.close()
    assert store.write(klines(10, 20)).rows_inserted == 10
    store.close()
