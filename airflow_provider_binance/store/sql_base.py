"""What both databases share beneath reading and writing: the named steps, sessions, migrations, the environment.

Shared statements have `%s` for values; table names come from `_table`, times go in by `_time` and come out by `_us`.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from airflow_provider_binance.errors import EnvironmentMismatchError, StoreError, StoreVersionError
from airflow_provider_binance.records import Batch, Series, WriteResult
from airflow_provider_binance.registry import Column, Dataset, Kind
from airflow_provider_binance.store.base import Store, StoreState
from airflow_provider_binance.store.holding import Holding
from airflow_provider_binance.store.schema import (
    LATER,
    PUBLISHED,
    READER_VERSION,
    Migration,
    ddl_of,
    migration_name,
    migrations,
    quoted,
)

log = logging.getLogger(__name__)


def wall_clock_us() -> int:
    """This machine's time in µs."""
    return time.time_ns() // 1_000


class SqlBase(Store):
    """A store over SQL; a subclass brings connection, transactions and the writing of rows."""

    dialect: str

    def __init__(self, *, url: str, schema: str | None, create: bool) -> None:
        self.url = url
        self.clock = wall_clock_us
        self._schema = schema
        self._create = create
        self._mutex = threading.RLock()
        self._applied: frozenset[str] = frozenset()
        self._environment: str | None = None
        self._holds = False
        self._holding: Holding | None = None
        self._series_ids: dict[tuple[str, str, str], int] = {}

    # --- steps that each database brings ------------------------------------------------------------------------------

    @abstractmethod
    def _connect(self, create: bool) -> bool:
        """Be connected; False if there is no database and `create` is false."""

    @abstractmethod
    def _errors(self) -> AbstractContextManager[None]:
        """Turn the driver's errors into this package's."""

    @abstractmethod
    def _query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement returns."""

    @abstractmethod
    def _change(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it touched."""

    @abstractmethod
    def _define(self, statement: str) -> None:
        """Run a statement of the schema, in which `%` means itself."""

    @abstractmethod
    def _table(self, name: str) -> str:
        """The table as it is written in a statement."""

    @abstractmethod
    def _has_tables(self) -> bool:
        """Whether `schema_version` is there."""

    @abstractmethod
    def _refused(self, has_tables: bool) -> list[str]:
        """The rights that loading needs and this role lacks, in words; changes nothing."""

    @abstractmethod
    def _lock_schema(self) -> None:
        """Open a transaction in which no other process migrates."""

    @abstractmethod
    def _lock(self, dataset: Dataset, series: Series) -> None:
        """Open a transaction that holds the lock of the series to its end."""

    @abstractmethod
    def _lock_all(self, series: Sequence[Series]) -> None:
        """Open a transaction that holds the locks of all of the series to its end."""

    @abstractmethod
    def _write_rows(self, batch: Batch) -> WriteResult:
        """Bring the rows of `batch` into the table, under the lock."""

    @abstractmethod
    def _commit(self) -> None:
        """Commit the transaction."""

    @abstractmethod
    def _rollback(self) -> None:
        """Roll back, whatever state the connection is in."""

    @abstractmethod
    def _most_values(self) -> int:
        """How many values a statement may have."""

    @abstractmethod
    def _time(self, at_us: int) -> Any:
        """A time as a value of a statement."""

    @abstractmethod
    def _us(self, expression: str) -> str:
        """A time column as integer µs."""

    def _out(self, column: Column, series: Series) -> str:
        """A data column of a series as `rows` gives it."""
        name = f"d.{quoted(column.name)}"
        return self._us(name) if column.kind is Kind.TIME else name

    # --- schema and environment ---------------------------------------------------------------------------------------

    def exists(self) -> bool:
        with self._session():
            return bool(self._readable())

    def inspect(self) -> StoreState:
        with self._session():
            applied = self._read_applied() if self._connect(create=False) else frozenset()
            lacking = tuple(m.name for m in migrations(self.dialect, self._schema) if m.name not in applied)
            environment = self._read_environment() if applied else None
            return StoreState(bool(applied), lacking, environment, tuple(self._refused(bool(applied))))

    def migrate(self) -> list[str]:
        with self._session():
            self._connect(create=True)
            done = self._read_applied()
            lacking = [m for m in migrations(self.dialect, self._schema) if m.name not in done]
            applied = [migration.name for migration in lacking if self._apply(migration)]
            self._applied = self._read_applied()
        return applied

    def environment(self) -> str | None:
        with self._session():
            # What is recorded stays.
            return (self._environment or self._read_environment()) if self._readable() else None

    def ensure_environment(self, environment: str) -> None:
        with self._session():
            self._applied = frozenset()  # a long-lived store meets a newer schema here at the latest
            if not self._readable():
                self._make_tables("this database has no tables of this package yet")
            elif self._create and not self._applied.issuperset(LATER):
                self._bring_up_to_date()
            if (recorded := self._read_environment()) is None:
                try:
                    self._lock_schema()
                    self._change(
                        f"INSERT INTO {self._table('store_info')} (name, value) VALUES ('environment', %s) "
                        "ON CONFLICT DO NOTHING",
                        [environment],
                    )
                    recorded = self._read_environment()
                    self._commit()
                except BaseException:
                    self._rollback()
                    raise
            if recorded != environment:
                raise EnvironmentMismatchError(
                    f"the store {self.url} holds data of {recorded}, and this load is of {environment}: use another "
                    f"store for it (--store, BINANCE_STORE_URL, store_schema), or set environment if the hosts are "
                    f"those of {recorded}",
                    recorded=recorded,
                    environment=environment,
                )

    # --- what the public methods stand on -----------------------------------------------------------------------------

    @contextmanager
    def _session(self) -> Iterator[None]:
        """One thread at a time, and the driver's errors turned into this package's."""
        with self._mutex, self._errors():
            yield

    def _readable(self, dataset: Dataset | None = None) -> bool:
        """Whether the tables (those of `dataset`, if given) are there; raises StoreVersionError if they are too new."""
        if not self._connect(create=False):
            return False
        if not self._applied or (dataset is not None and migration_name(dataset) not in self._applied):
            self._applied = self._read_applied()
        return bool(self._applied) and (dataset is None or migration_name(dataset) in self._applied)

    def _writable(self, dataset: Dataset) -> None:
        """Have the tables of `dataset`, made now if this store may."""
        if not self._readable(dataset):
            self._make_tables(f"this database has no tables for {dataset.name} yet")

    def _make_tables(self, lack: str) -> None:
        if not self._create:
            raise StoreVersionError(
                f"{lack} ({self.url}), and the store was opened without the right to make them: run "
                f"`binance-ingest migrate`, or have the owner run what `binance-ingest migrate --sql` prints"
            )
        self.migrate()

    def _bring_up_to_date(self) -> None:
        """Apply what an older store lacks, where this role may and nothing is in the way; it serves without."""
        try:
            self.migrate()
        except StoreError as error:
            if error.retryable or isinstance(error, StoreVersionError):
                raise
            self._applied = self._read_applied()
            lacking = ", ".join(name for name in LATER if name not in self._applied)
            log.warning("%s goes on without %s: have its owner run `binance-ingest migrate` (%s)",
                        self.url, lacking, error)  # fmt: skip

    @property
    def _has_published(self) -> bool:
        """Whether `ingest_log` tells when an archive file was published."""
        return PUBLISHED in self._applied

    def _read_applied(self) -> frozenset[str]:
        """The names of the applied migrations; raises StoreVersionError if this code is too old for them."""
        if not self._has_tables():
            return frozenset()
        found = self._query(
            f"SELECT name, min_reader_version FROM {self._table('schema_version')} UNION ALL "
            f"SELECT value, -1 FROM {self._table('store_info')} WHERE name = 'environment'"
        )
        self._environment = next((str(name) for name, version in found if version < 0), None)
        lines = [line for line in found if line[1] >= 0]
        needed = max((line[1] for line in lines), default=0)
        if needed > READER_VERSION:
            raise StoreVersionError(
                f"the store {self.url} asks for reader version {needed}, and this code is version {READER_VERSION}: "
                f"upgrade airflow-provider-binance here",
                needed=needed,
                reader_version=READER_VERSION,
            )
        return frozenset(line[0] for line in lines)

    def _apply(self, migration: Migration) -> bool:
        """Apply one migration with its line; False if another process was faster."""
        try:
            self._lock_schema()
            if migration.name in self._read_applied():
                self._rollback()
                return False
            for statement in migration.statements:
                self._define(statement)
            self._define(ddl_of(self.dialect).version_line(migration, self._schema))
            self._commit()
        except BaseException:
            self._rollback()
            raise
        return True

    def _read_environment(self) -> str | None:
        lines = self._query(f"SELECT value FROM {self._table('store_info')} WHERE name = 'environment'")
        return str(lines[0][0]) if lines else None
