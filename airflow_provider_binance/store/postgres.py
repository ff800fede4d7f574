"""The store in PostgreSQL: psycopg, COPY, and advisory locks that end with their transaction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast
from urllib.parse import quote, urlencode

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo

from airflow_provider_binance.errors import ConfigError, StoreError, StoreRightsError, StoreUnavailableError
from airflow_provider_binance.market import INTERVALS, from_us, to_us
from airflow_provider_binance.masking import mask_values
from airflow_provider_binance.records import Batch, LedgerLine, Series, WriteResult
from airflow_provider_binance.registry import Column, Dataset, Kind, datasets
from airflow_provider_binance.rows import ManyRows
from airflow_provider_binance.store import postgres_partitions
from airflow_provider_binance.store.holding import Holding
from airflow_provider_binance.store.postgres_dialect import PostgresDialect
from airflow_provider_binance.store.postgres_flush import Tails, write_many, write_rows_of_many
from airflow_provider_binance.store.postgres_rows import bigints, write_rows
from airflow_provider_binance.store.postgres_schema import actual, close_after, create_schema
from airflow_provider_binance.store.schema import data_table, qualified, quoted

_FIRST_US, _LAST_US = (to_us(at) for at in (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)))
_NAME_BYTES = 63  # PostgreSQL cuts longer names off without an error

# Not to_regclass(): within a transaction that waited for its lock, its cache still says "not there".
_HAS_TABLES = (
    "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = 'schema_version' "
    "AND CASE WHEN %s::text IS NULL THEN n.nspname = ANY (current_schemas(false)) ELSE n.nspname = %s END"
)

#: The protocol takes 65,535.
_MOST_VALUES = 30_000

#: SQLSTATE classes after which the same call may succeed: connection, transaction rollback (deadlock), resources (disk
#: full, too many connections), lock not available or object in use, operator intervention (shutdown), system error.
_PASSING = ("08", "40", "53", "55", "57", "58")


class PostgresStore(PostgresDialect):
    """A store in PostgreSQL, over one connection."""

    dialect = "postgresql"

    def __init__(
        self, settings: Mapping[str, str], *, url: str, schema: str | None = None, create: bool = True
    ) -> None:
        if schema is not None and not 0 < len(schema.encode()) <= _NAME_BYTES:
            raise ConfigError(f"store_schema {schema!r} must have 1 to {_NAME_BYTES} bytes", field="store_schema")
        self._settings = {"connect_timeout": "10", "application_name": "binance-ingest", **settings}
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._namespace = schema or ""
        self._saw_tables = False
        self._verb = ""
        self._tails: Tails = {}
        super().__init__(url=url, schema=schema, create=create)

    @property
    def server_url(self) -> str:
        return "postgresql://?" + urlencode(self._settings, quote_via=quote)

    def close(self) -> None:
        with self._mutex:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def another(self) -> PostgresStore:
        other = PostgresStore(self._settings, url=self.url, schema=self._schema, create=self._create)
        other.clock = self.clock
        return other

    @property
    def namespace(self) -> str:
        """The schema of the tables; that of the search path if none was named."""
        with self._session():
            self._connect(create=False)
            return self._namespace

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """The connection, in a transaction that commits with the `with`, for statements of the caller's own.

        The driver's errors are turned into this package's.
        """
        with self._session(), self._db.transaction():
            self._verb = "USE"
            yield self._db

    # --- connection ---------------------------------------------------------------------------------------------------

    def _connect(self, create: bool) -> bool:
        if self._connection is None or self._connection.closed:
            self._series_ids.clear()  # another server may answer now
            held, self._holding = self._holding, None
            if held is not None:
                raise StoreUnavailableError(f"the connection to {self.url} was lost with what was not committed")
            self._verb = "CONNECT"
            # Prepared statements are of no use here, and a pooler between would lose them.
            self._connection = psycopg.connect(
                make_conninfo("", **self._settings), autocommit=True, prepare_threshold=None
            )
            # A role's or server's time-outs are made for short queries. Just-in-time compilation only delays these.
            found = self._query(
                "SELECT current_schema(), set_config('statement_timeout', '0', false), "
                "set_config('idle_in_transaction_session_timeout', '0', false), set_config('jit', 'off', false), "
                f"EXISTS ({_HAS_TABLES})",
                [self._schema, self._schema],
            )
            self._namespace = self._schema or found[0][0] or ""
            self._saw_tables = bool(found[0][-1])
        return True

    @property
    def _db(self) -> psycopg.Connection[tuple[Any, ...]]:
        self._connect(create=False)
        assert self._connection is not None
        return self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            told = self._told(error)
            if self._connection is not None and self._connection.closed:
                self._connection = None
            raise told from (None if self._verb == "CONNECT" else error)

    def _told(self, error: psycopg.Error) -> StoreError:
        # One line, without the quotation of the statement and the row that the full text has.
        said = error.diag.message_primary or "; ".join(str(error).split("\n"))
        text = mask_values(said.strip(), [self._settings.get("password")])
        if isinstance(error, errors.InsufficientPrivilege):
            remedy = (
                "have the owner run what `binance-ingest migrate --sql` prints"
                if self._verb in ("CREATE", "ALTER")
                else "the tables are those of `binance-ingest migrate --sql`; grant the role SELECT, INSERT, UPDATE "
                "and DELETE on them, USAGE on their schema and TEMPORARY on the database"
            )
            return StoreRightsError(f"the role may not {self._verb} in {self.url}: {text}. Way out: {remedy}")
        if isinstance(error, errors.ReadOnlySqlTransaction):
            return StoreRightsError(f"{self.url} is read-only, {self._verb} was refused: {text}")
        lost = self._connection is None or self._connection.closed
        if lost or (error.sqlstate or "").startswith(_PASSING):
            return StoreUnavailableError(f"the store {self.url} is not available now: {text}")
        return StoreError(f"the store {self.url} cannot do this ({self._verb}): {text}")

    def _has_tables(self) -> bool:
        # Told when the connection was made: true once, since tables may vanish under a long-lived store.
        seen, self._saw_tables = self._saw_tables, False
        return seen or bool(self._query(_HAS_TABLES, [self._schema, self._schema]))

    def _refused(self, has_tables: bool) -> list[str]:
        if self._query("SELECT 1 WHERE current_setting('transaction_read_only')::boolean OR pg_is_in_recovery()"):
            return ["write (the database is read-only)"]
        if has_tables:
            return [*self._refused_on_tables(), *self._refused_on_database("TEMPORARY")]
        if self._schema is None:
            return self._refused_to_create("current_schema()", [])
        known = self._query("SELECT 1 FROM pg_namespace WHERE nspname = %s", [self._schema])
        return self._refused_to_create("%s", [self._schema]) if known else self._refused_on_database("CREATE")

    def _refused_on_tables(self) -> list[str]:
        changed = ["coverage", *(data_table(dataset) for dataset in datasets())]
        wanted = [(name, "SELECT") for name in ("schema_version", "store_info", "series", "ingest_log")]
        wanted += [(name, "INSERT") for name in ("store_info", "series", "ingest_log", "corrections")]
        wanted += [(name, right) for name in changed for right in ("SELECT", "INSERT", "UPDATE", "DELETE")]
        found = self._query(
            "SELECT t, r FROM unnest(%s::text[], %s::text[], %s::text[]) AS wanted(t, q, r) "
            "WHERE NOT coalesce(has_table_privilege(to_regclass(q), r), true)",  # of no table: a migration is lacking
            [
                [name for name, _ in wanted],
                [qualified(name, self._schema) for name, _ in wanted],
                [right for _, right in wanted],
            ],
        )
        return [f"{right} on {name}" for name, right in found]

    def _refused_on_database(self, right: str) -> list[str]:
        found = self._query(
            "SELECT current_database() WHERE NOT has_database_privilege(current_database(), %s)", [right]
        )
        return [f"{right} on database {name}" for (name,) in found]

    def _refused_to_create(self, schema: str, values: Sequence[str]) -> list[str]:
        found = self._query(
            f"SELECT coalesce(s, 'of the search path') FROM (SELECT {schema}::text AS s) named "
            "WHERE NOT coalesce(has_schema_privilege(s, 'CREATE'), false)",
            values,
        )
        return [f"CREATE in schema {name}" for (name,) in found]

    # --- statements ---------------------------------------------------------------------------------------------------

    def _run(self, statement: str, values: Sequence[Any]) -> psycopg.Cursor[tuple[Any, ...]]:
        word = re.match(r"\s*(\w+)", statement)
        self._verb = word[1].upper() if word else "?"
        return self._db.execute(cast(Any, statement), list(values))

    def _define(self, statement: str) -> None:
        self._verb = statement.split(maxsplit=1)[0].upper()
        self._db.execute(cast(Any, statement))  # without values, % is a character like any other

    def _query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._run(statement, values).fetchall()

    def _change(self, statement: str, values: Sequence[Any] = ()) -> int:
        return self._run(statement, values).rowcount

    def _table(self, name: str) -> str:
        return qualified(name, self._schema).replace("%", "%%")

    def _most_values(self) -> int:
        return _MOST_VALUES

    def _time(self, at_us: int) -> datetime:
        # Whoever asks for all time may go beyond what Python's datetime can say.
        return from_us(min(max(at_us, _FIRST_US), _LAST_US))

    def _us(self, expression: str) -> str:
        # An integer whatever the session's time zone and date style are.
        return f"(extract(epoch FROM {expression}) * 1000000)::bigint"

    def _order(self, entry: Dataset) -> tuple[str, ...]:
        # As the key's index has them; a window of a large day is not sorted for each page.
        return super()._order(entry) if entry.day_column is None else (entry.day_column, *entry.key)

    def _between(self, entry: Dataset, start_us: int, end_us: int) -> tuple[str, list[Any]]:
        within, bounds = super()._between(entry, start_us, end_us)
        if entry.day_column is None:
            return within, bounds
        # Whoever does not name the days asks every partition.
        days = [self._time(at_us).date() for at_us in (start_us, end_us)]
        return f"{within} AND d.{quoted(entry.day_column)} BETWEEN %s AND %s", [*bounds, *days]

    def _key_value(self, entry: Dataset, name: str, row: Mapping[str, Any]) -> Any:
        if name == entry.day_column:
            return self._time(row[entry.time_column]).date()
        return super()._key_value(entry, name, row)

    def _out(self, column: Column, series: Series) -> str:
        name = f"d.{quoted(column.name)}"
        if column.implied:
            return self._us(self._clamped(actual(column, "d", close_after(series.interval))))
        if column.kind is Kind.DECIMAL:
            return f"trim_scale({name})::text"
        return f"{name}::integer" if column.kind is Kind.BOOLEAN else super()._out(column, series)

    # --- transactions -------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._commit_held()
        # What was committed while this one waited for its lock must be seen: not so under stricter isolation.
        self._change("BEGIN ISOLATION LEVEL READ COMMITTED")

    def _lock_schema(self) -> None:
        self._begin()
        self._query("SELECT pg_advisory_xact_lock(%s)", [self._lock_key("migrate")])
        if self._schema is not None:
            known = self._query("SELECT 1 FROM pg_namespace WHERE nspname = %s", [self._schema])
            if not known:
                self._define(create_schema(self._schema))

    def _begin_sidecars(self) -> None:
        self._begin()

    def _lock_sidecars(self) -> None:
        self._begin()
        self._query("SELECT pg_advisory_xact_lock(%s)", [self._lock_key("sidecars")])

    def _lock(self, dataset: Dataset, series: Series) -> None:
        self._lock_all([series])

    def _lock_all(self, series: Sequence[Series]) -> None:
        self._begin()
        # In one order everywhere, so that two who want some of the same wait and do not block each other for good.
        keys = sorted([_series_key(self._namespace, one) for one in series])
        self._query("SELECT pg_advisory_xact_lock(key) FROM unnest(%s::bigint[]) AS wanted(key)", [bigints(keys)])

    def _make_room(self, batch: Batch) -> None:
        if batch.rows is not None and len(batch.rows):
            self._make_months(batch.dataset, batch.rows.first_us, batch.rows.last_us)

    def _make_months(self, dataset: Dataset, first_us: int, last_us: int) -> None:
        """Have the partitions of all months between two instants, where a table has such."""
        if dataset.day_column is None:
            return
        # Whoever drops months waits for those who write, and these for it.
        self._query("SELECT pg_advisory_xact_lock_shared(%s)", [self._lock_key("months", dataset.name)])
        parent, make = qualified(data_table(dataset), self._schema), self._table("tick_month")
        for month in postgres_partitions.months(first_us, last_us):
            self._query(f"SELECT {make}(%s::text::regclass, %s::date)", [parent, month])

    def _retired_end(self, before_us: int) -> int:
        return INTERVALS["1M"].floor(before_us)

    def _lock_to_drop(self, entry: Dataset, series: Sequence[Series]) -> None:
        self._lock_all(series)
        # Behind the series, as who writes has it: else each would wait for the other.
        self._query("SELECT pg_advisory_xact_lock(%s)", [self._lock_key("months", entry.name)])

    def _drop_before(self, entry: Dataset, end_us: int) -> None:
        parent, drop = qualified(data_table(entry), self._schema), self._table("drop_tick_months")
        self._query(f"SELECT {drop}(%s::text::regclass, %s::date)", [parent, self._time(end_us).date()])

    def _lock_key(self, *parts: str) -> int:
        return _lock_key(self._namespace, *parts)

    def _may_hold(self, dataset: Dataset) -> bool:
        # Its lock is that of one series; who makes a month's table locks those who write to other months out.
        return self._holds and dataset.day_column is None

    def _begin_held(self, holding: Holding) -> None:
        before = "RELEASE SAVEPOINT batch; " if holding.batches > 1 else ""
        self._define(f"{before}SAVEPOINT batch")  # in one trip

    def _rollback_batch(self) -> None:
        self._series_ids.clear()
        try:
            self._change("ROLLBACK TO SAVEPOINT batch")
        except BaseException:
            self._holding = None
            self._rollback()
            raise

    def _commit(self) -> None:
        if self._run("COMMIT", ()).statusmessage != "COMMIT":  # it rolls back, without an error, what has failed
            raise StoreUnavailableError(f"the store {self.url} rolled back what was to be committed")

    def _rollback(self) -> None:
        self._series_ids.clear()
        self._tails.clear()
        connection = self._connection
        if connection is None or connection.closed:
            return
        try:
            connection.rollback()
        except psycopg.Error:
            # The server rolls back what it loses; the error that led here is the one to tell.
            connection.close()

    def _write_rows(self, batch: Batch) -> WriteResult:
        if batch.rows is None or not len(batch.rows):
            return WriteResult()
        return write_rows(self, batch, batch.rows, self._make_series(batch.series))

    def _write_many(self, batches: Sequence[Batch], line: LedgerLine) -> WriteResult:
        return write_many(self, batches, line, self._tails)

    def _write_rows_of_many(self, many: ManyRows, line: LedgerLine) -> WriteResult:
        return write_rows_of_many(self, many, line)


@lru_cache(20_000)
def _series_key(namespace: str, series: Series) -> int:
    return _lock_key(namespace, "series", series.dataset, series.market, series.symbol, series.interval)


def _lock_key(*parts: str) -> int:
    digest = hashlib.sha256("\0".join(("airflow_provider_binance", *parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
