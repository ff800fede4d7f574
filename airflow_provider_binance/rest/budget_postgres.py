"""The weight budget in PostgreSQL: a row per pool that one process at a time holds, in a schema of its own.

One step is two round trips: one takes the row's lock and brings its value, the other writes the new one and commits.
Who dies within loses its connection, and with it the lock; who is stopped, or whose host is gone, loses both after some
seconds.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from airflow_provider_binance.errors import (
    ConfigError,
    StoreError,
    StoreRightsError,
    StoreUnavailableError,
)
from airflow_provider_binance.masking import mask_url, mask_values
from airflow_provider_binance.rest.budget_schema import DDL
from airflow_provider_binance.rest.budget_stores import (
    CACHE_BYTES,
    CACHE_ENTRIES,
    CACHE_SECONDS,
    CLEAN_SECONDS,
    LOST,
    BudgetStore,
    Step,
    packed,
    unpacked,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

# Any number that others are unlikely to lock: the letters "budg".
_CREATION_LOCK = 0x62756467

# Whoever holds a row for longer was stopped; the server then ends its session.
HOLDER_SECONDS = 5
# Longer than a dead holder keeps the row.
LOCK_SECONDS = 15
# A commit that a crash of the server loses is made good by the next answer's header; waiting for the disk would cost
# every request some milliseconds.
_BEGIN = (
    f"BEGIN; SET LOCAL synchronous_commit = off; SET LOCAL idle_in_transaction_session_timeout = '{HOLDER_SECONDS}s'; "
    f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; SET LOCAL statement_timeout = '{2 * LOCK_SECONDS}s'; "
)
_TAKE = "SELECT value FROM binance_budget.pools WHERE key = %s FOR UPDATE"
_ABSENT = (errors.UndefinedTable, errors.InvalidSchemaName)
_WAY_OUT = (
    "Or set rate_limit_store (BINANCE_RATE_LIMIT_STORE) to redis://…, or to file:///path if all loads run on one host"
)


class PostgresBudgetStore(BudgetStore):
    """The budget of all who reach one database; `url` as libpq takes it, or SQLAlchemy's spelling of psycopg.

    Raises:
        ConfigError: the URL cannot be read.
    """

    def __init__(self, url: str) -> None:
        self.url = mask_url(url)
        try:
            given = conninfo_to_dict(url.replace("postgresql+psycopg://", "postgresql://", 1))
        except psycopg.ProgrammingError:
            # Without its cause, which repeats the URL.
            raise ConfigError(
                f"the weight budget's URL {self.url!r} cannot be read; it looks like "
                f"postgresql://user:password@host:5432/database",
                field="rate_limit_store",
            ) from None
        self._password = cast("str | None", given.get("password"))
        own = {"connect_timeout": "10", "application_name": "binance-budget", "tcp_user_timeout": "15000"}
        self._conninfo = make_conninfo("", **{**own, **given, "application_name": "binance-budget"})
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._cleaned = float("-inf")

    def transact(self, key: str, step: Step[T]) -> T:
        with self._lock, self._errors():
            value = self._taken(key)
            try:
                made, result = step(value)
            except BaseException:
                self._run("ROLLBACK")
                raise
            text = json.dumps(made, separators=(",", ":"))
            self._run("UPDATE binance_budget.pools SET value = %s, changed_at = now() WHERE key = %s; COMMIT",
                      [text, key])  # fmt: skip
            return result

    def cache_get(self, key: str, max_age_seconds: float) -> bytes | None:
        try:
            with self._lock, self._errors():
                found = self._run_created(
                    "SELECT value FROM binance_budget.cache WHERE key = %s AND put_at >= now() - %s * interval '1 s'",
                    [key, max_age_seconds],
                ).fetchone()
        except StoreError as error:
            log.warning("cannot read the cache beside the weight budget: %s", error)
            return None
        return unpacked(found[0]) if found else None

    def cache_put(self, key: str, value: bytes) -> None:
        try:
            with self._lock, self._errors():
                self._run_created(
                    "INSERT INTO binance_budget.cache (key, value, put_at) VALUES (%s, %s, now()) "
                    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, put_at = excluded.put_at",
                    [key, packed(value)],
                )
                self._clean()
        except StoreError as error:
            log.warning("cannot write the cache beside the weight budget: %s", error)

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _taken(self, key: str) -> dict[str, Any] | None:
        """The value under `key`, None if it is new; its row is locked until the end of the transaction."""
        found = self._run_created(_BEGIN + _TAKE, [key]).fetchone()
        if found is None:
            # An empty row to lock; whoever else makes it at the same time waits here.
            self._run("INSERT INTO binance_budget.pools (key, value) VALUES (%s, '') ON CONFLICT DO NOTHING", [key])
            found = self._run(_TAKE, [key]).fetchone()
        text = found[0] if found else ""
        if not text:
            return None
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        return value if isinstance(value, dict) else LOST

    def _clean(self) -> None:
        if time.monotonic() - self._cleaned < CLEAN_SECONDS:
            return
        self._cleaned = time.monotonic()
        self._run(
            "DELETE FROM binance_budget.cache WHERE put_at < now() - %s * interval '1 s' OR key IN (SELECT key FROM "
            "(SELECT key, row_number() OVER newest AS n, sum(octet_length(value)) OVER newest AS bytes "
            "FROM binance_budget.cache WINDOW newest AS (ORDER BY put_at DESC, key)) AS kept "
            "WHERE n > %s OR bytes > %s)",
            [CACHE_SECONDS, CACHE_ENTRIES, CACHE_BYTES],
        )

    def _run_created(self, statements: str, values: list[Any]) -> psycopg.Cursor[Any]:
        """As `_run`; makes schema and tables first if they are not there."""
        try:
            return self._run(statements, values)
        except _ABSENT:
            self._end()
            self._create()
            return self._run(statements, values)

    def _create(self) -> None:
        log.info("creating the weight budget's schema binance_budget: %s", self.url)
        try:
            # IF NOT EXISTS does not help those who start in the same moment: one after another does.
            self._run("BEGIN; SELECT pg_advisory_xact_lock(%s)", [_CREATION_LOCK])
            for statement in DDL:
                self._run(statement)
            self._run("COMMIT")
        except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as error:
            self._end()
            raise StoreRightsError(
                f"the role may not create the weight budget's tables in {self.url}: {_said(error)}. Way out: have the "
                f"database's owner run what `binance-ingest migrate --sql` prints, and grant this role USAGE on SCHEMA "
                f"binance_budget and SELECT, INSERT, UPDATE, DELETE on its tables. {_WAY_OUT}"
            ) from None

    def _run(self, statements: str, values: list[Any] | None = None) -> psycopg.Cursor[Any]:
        """The last result of some statements, in one round trip: values are put into the text by the client."""
        cursor = psycopg.ClientCursor(self._connected())
        cursor.execute(cast(Any, statements), values)
        while cursor.nextset():
            pass
        return cursor

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        return self._connection

    def _end(self) -> None:
        """Out of a transaction that failed; a connection that cannot do that is done with."""
        try:
            if self._connection is not None:
                self._connection.rollback()
        except psycopg.Error:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            text = mask_values(_said(error), [self._password])
            if isinstance(error, (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)):
                self._end()
                raise StoreRightsError(
                    f"the role may not use the weight budget in {self.url}: {text}. Way out: grant it USAGE on SCHEMA "
                    f"binance_budget and SELECT, INSERT, UPDATE, DELETE on its tables. {_WAY_OUT}"
                ) from None
            # Whatever state it is in: a new one has none.
            self._drop()
            raise StoreUnavailableError(f"the weight budget in {self.url} is not available now: {text}") from None


def _said(error: psycopg.Error) -> str:
    return (error.diag.message_primary or "; ".join(str(error).split("\n"))).strip()
