"""The store in one SQLite file: WAL, several processes of one host."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_binance.errors import ConfigError, StoreError, StoreRightsError, StoreUnavailableError
from airflow_provider_binance.market import DAY_US
from airflow_provider_binance.records import Batch, Series, WriteResult
from airflow_provider_binance.registry import Dataset
from airflow_provider_binance.store import sqlite_incoming, sqlite_rows
from airflow_provider_binance.store.schema import data_table, quoted
from airflow_provider_binance.store.sqlite_dialect import SqliteDialect, teach

#: How long a writer waits for another one. A batch of 1 M rows takes 5–10 s on a slow disk, and writers may queue.
BUSY_SECONDS = 120.0

#: Ten thousand series in one statement are enough.
_MOST_VALUES = 30_000

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
#: A full disk has many names: where a file is mapped into memory, it is an input/output error.
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_UNAVAILABLE = {*_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM}
_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}


class SqliteStore(SqliteDialect):
    """A store in a file. `path` may be relative: it is read against the working directory of now."""

    dialect = "sqlite"

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - resolve() would follow links
        self._connection: sqlite3.Connection | None = None
        super().__init__(url=f"sqlite:///{self.path}", schema=None, create=create)

    def close(self) -> None:
        with self._mutex:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    # --- connection ---------------------------------------------------------------------------------------------------

    def _connect(self, create: bool) -> bool:
        if self._connection is not None:
            return True
        self._check_path()
        if not create and not self.path.exists():
            return False
        self._connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={'rwc' if create else 'rw'}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,  # the mutex lets one thread in at a time
        )
        # With WAL this loses at most the last commits when the power fails, rows and ledger alike; a kill loses none.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        teach(self._connection)
        return True

    def _check_path(self) -> None:
        """Raise ConfigError where no file can be: whoever named it is to name another, trying again does not help."""
        folder = self.path.parent
        if not folder.is_dir():
            wrong = f"the folder {folder} does not exist" if not folder.exists() else f"{folder} is no folder"
        elif self.path.is_dir():
            wrong = f"{self.path} is a folder"
        else:
            return
        raise ConfigError(
            f"the store {self.url} cannot be: {wrong}. Make the folder, or name another file (--store, "
            f"BINANCE_STORE_URL)",
            field="store_url",
        )

    @property
    def _db(self) -> sqlite3.Connection:
        self._connect(create=False)
        if self._connection is None:
            raise StoreUnavailableError(f"the store {self.url} is not there any more")
        return self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._told(error) from error

    def _told(self, error: sqlite3.Error) -> StoreError:
        # The extended code carries the plain one in its low byte.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _REFUSED:
            return StoreRightsError(
                f"the store {self.url} may not be written ({error}): the process needs write access to the file and "
                f"its folder"
            )
        if code in _NO_ROOM:
            free = shutil.disk_usage(self.path.parent).free
            return StoreUnavailableError(
                f"the store {self.url} is not available now: {error}. {free:,} bytes are free in {self.path.parent}: "
                f"make room there, or lift its quota"
            )
        if code in _BUSY:
            return StoreUnavailableError(
                f"the store {self.url} is not available now ({error}): another process has been writing to it for more "
                f"than {BUSY_SECONDS:g} s. What was committed stays; run the same again when that one is through, or "
                f"use PostgreSQL, where several may write at once"
            )
        if code in _UNAVAILABLE:
            return StoreUnavailableError(f"the store {self.url} is not available now: {error}")
        return StoreError(f"the store {self.url} cannot do this: {error}")

    def _has_tables(self) -> bool:
        return bool(self._query("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'"))

    def _refused(self, has_tables: bool) -> list[str]:
        folder = self.path.parent
        if not os.access(folder, os.W_OK | os.X_OK):
            return [f"write in the folder {folder}"]
        if not self.path.exists():
            return []
        if not os.access(self.path, os.W_OK):
            return [f"write the file {self.path}"]
        try:
            self._db.execute("PRAGMA busy_timeout = 0")
            self._db.execute("BEGIN IMMEDIATE")
            # To begin is not refused yet, to write is; what is written is what was there, and is rolled back.
            [version] = self._db.execute("PRAGMA user_version").fetchone()
            self._db.execute(f"PRAGMA user_version = {int(version)}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in _REFUSED:
                return [f"write the file {self.path} ({error})"]
            if error.sqlite_errorcode & 0xFF not in _BUSY:  # who is busy writes, so that one may
                raise
        finally:
            self._rollback()
            self._db.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        return []

    # --- statements ---------------------------------------------------------------------------------------------------

    def _query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._db.execute(statement.replace("%s", "?"), values).fetchall()

    def _change(self, statement: str, values: Sequence[Any] = ()) -> int:
        return self._db.execute(statement.replace("%s", "?"), values).rowcount

    def _define(self, statement: str) -> None:
        self._db.execute(statement)

    def _table(self, name: str) -> str:
        return quoted(name)

    def _most_values(self) -> int:
        # 999 in builds before 3.32; what the build takes need not be asked for at once.
        return min(self._db.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER), _MOST_VALUES)

    def _time(self, at_us: int) -> int:
        return at_us

    def _us(self, expression: str) -> str:
        return expression

    # --- transactions -------------------------------------------------------------------------------------------------

    def _lock_schema(self) -> None:
        if not self._db.in_transaction:
            self._use_wal()
        self._db.execute("BEGIN IMMEDIATE")

    def _use_wal(self) -> None:
        """Set the journal for good. SQLite does not wait for others here, so this does."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                if self._db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                    self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _lock(self, dataset: Dataset, series: Series) -> None:
        self._lock_all([series])

    def _lock_all(self, series: Sequence[Series]) -> None:
        sqlite_incoming.let_go(self._db)
        # SQLite has one writer per file, so the lock of the file is the lock of every series.
        self._db.execute("BEGIN IMMEDIATE")

    def _begin_sidecars(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def _lock_sidecars(self) -> None:
        self._begin_sidecars()

    def _retired_end(self, before_us: int) -> int:
        return before_us - before_us % DAY_US

    def _lock_to_drop(self, entry: Dataset, series: Sequence[Series]) -> None:
        self._lock_all(series)

    def _drop_before(self, entry: Dataset, end_us: int) -> None:
        table, time = self._table(data_table(entry)), quoted(entry.time_column)
        self._change(f"DELETE FROM {table} WHERE {time} < ?", [end_us])

    def _commit(self) -> None:
        self._db.execute("COMMIT")

    def _rollback(self) -> None:
        self._series_ids.clear()
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _write_rows(self, batch: Batch) -> WriteResult:
        if batch.rows is None or not len(batch.rows):
            return WriteResult()
        dataset, series = batch.dataset, batch.series
        return sqlite_rows.write_rows(
            self._db,
            batch,
            self._make_series(series),
            lambda: self._read_sources(dataset, series, batch.start_us, batch.end_us),
            self.clock(),
        )
