"""The service's own table `market_data`, in whatever database it is, and how far each series was brought there.

The table is the service's: it is never made or changed here but for its rows (`create_table` is for trying out). How
far a series is stands in the same database, in the schema `binance_sync`, so that it commits with the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from airflow_provider_binance.errors import InputError, StoreRightsError
from airflow_provider_binance.integrations.drl_changes import Mark, Span
from airflow_provider_binance.integrations.drl_contract import NO_VOLUME, OVERFLOW, TABLE, VolumeMode
from airflow_provider_binance.integrations.drl_view import postgres_of
from airflow_provider_binance.market import from_us, iso, to_us
from airflow_provider_binance.store.base import open_store
from airflow_provider_binance.store.schema import literal, qualified

if TYPE_CHECKING:
    from psycopg import Connection

STATE_SCHEMA = "binance_sync"
_STATE = f"{STATE_SCHEMA}.drl_series"
#: What keeps how far each series is, for a role that may not CREATE.
STATE_SQL = (
    f"CREATE SCHEMA IF NOT EXISTS {STATE_SCHEMA}",
    f"""CREATE TABLE IF NOT EXISTS {_STATE} (
    target text NOT NULL,
    symbol text NOT NULL,
    timeframe text NOT NULL,
    source text NOT NULL,
    volume_mode text NOT NULL,
    mark jsonb NOT NULL,
    synced_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target, symbol, timeframe)
)""",
)
_COLUMNS = ("symbol", "timeframe", "timestamp", "open_price", "high_price", "low_price", "close_price", "volume",
            "created_at")  # fmt: skip
_VALUES = {f"{name}_price": f"d.{name}::double precision" for name in ("open", "high", "low", "close")}
#: The letters "drls": one sync at a time writes into a database.
_LOCK = 0x64726C73


class Piece(NamedTuple):
    """What became of the rows of one span."""

    read: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    left_out: tuple[tuple[str, int, int, int], ...] = ()


class Row(NamedTuple):
    """What the table shows of a kline, exactly: the columns as the contract's SQL calls them, with the time in µs."""

    at_us: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str | None


class Target:
    """The table in `schema` of the database `url`.

    Raises:
        InputError: it is not there, or not as the contract says.
        StoreError: the database cannot be reached, or refuses.
    """

    def __init__(self, url: str, *, schema: str = "public", create_table: bool = False) -> None:
        self.name = f"{schema}.{TABLE}"
        self._table = qualified(TABLE, schema)
        self._schema = schema
        self._store = open_store(url, create=False)
        self._server = postgres_of(self._store, "the table of drl-trading-ingest")
        self.url = self._server.url
        self._oid = 0
        self._create_table = create_table

    @contextmanager
    def held(self) -> Iterator[None]:
        """While this lasts no other sync writes into this database; it is waited for."""
        try:
            with self._server.transaction() as connection:
                connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            self._prepare()
            yield
        finally:
            self._store.close()

    def _prepare(self) -> None:
        with self._server.transaction() as connection:
            if self._create_table:
                for statement in create_table_sql(self._schema):
                    connection.execute(cast("Any", statement))
            self._oid = self._check(connection)
            [(is_there,)] = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [_STATE]).fetchall()
        if is_there:
            return
        try:
            with self._server.transaction() as connection:
                for statement in STATE_SQL:
                    connection.execute(cast("Any", statement))
        except StoreRightsError as error:
            raise StoreRightsError(
                f"the role may not make the table that keeps how far each series is, in {self.url}: have its owner run "
                f"what `binance-ingest sync drl --sql` prints, and grant the role SELECT, INSERT and UPDATE on {_STATE}"
            ) from error

    def _check(self, connection: Connection[Any]) -> int:
        columns_of = "SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped"
        found = connection.execute(
            f"SELECT c.oid::bigint, c.relkind::text, array({columns_of}) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
            [self._schema, TABLE],
        ).fetchone()
        if found is None:
            raise InputError(
                f"{self.url} has no table {self.name}: the service's own migration makes it; --target-schema names "
                "another schema, and --create-table makes it for trying out"
            )
        oid, kind, columns = found
        if kind not in ("r", "p"):
            raise InputError(f"{self.name} of {self.url} is no table: a sync writes rows; the view needs none")
        if lacking := [name for name in _COLUMNS if name not in columns]:
            raise InputError(f"{self.name} of {self.url} lacks {', '.join(lacking)}: it is not the service's table")
        unique = connection.execute(
            "SELECT 1 FROM pg_index i WHERE i.indrelid = %s AND i.indisunique AND i.indpred IS NULL AND (SELECT "
            "array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a WHERE a.attrelid = i.indrelid AND "
            "a.attnum = ANY (i.indkey::int2[])) = ARRAY['symbol', 'timeframe', 'timestamp']",
            [oid],
        ).fetchone()
        if unique is None:
            raise InputError(f"{self.name} of {self.url} has no unique key of symbol, timeframe and timestamp")
        return int(oid)

    # --- how far each series is ---------------------------------------------------------------------------------------

    def mode(self) -> VolumeMode | None:
        """The volume mode by which the table was filled last, if it was."""
        with self._server.transaction() as connection:
            found = connection.execute(
                f"SELECT volume_mode FROM {_STATE} WHERE target = %s ORDER BY synced_at DESC LIMIT 1", [self.name]
            ).fetchone()
        return VolumeMode(found[0]) if found else None

    def mark(self, symbol: str, timeframe: str, source: str, mode: VolumeMode) -> Mark | None:
        """How far a series is; None if it is not there, or came from another store or by another mode."""
        with self._server.transaction() as connection:
            found = connection.execute(
                f"SELECT mark FROM {_STATE} WHERE target = %s AND symbol = %s AND timeframe = %s AND source = %s "
                "AND volume_mode = %s",
                [self.name, symbol, timeframe, self._source(source), mode],
            ).fetchone()
        return Mark.from_dict(found[0]) if found else None

    def _source(self, source: str) -> str:
        return f"{source} {self._oid}"  # a table that was made anew has nothing

    def keep(self, symbol: str, timeframe: str, source: str, mode: VolumeMode, mark: Mark) -> None:
        """Keep how far a series is, without rows."""
        with self._server.transaction() as connection:
            self._keep(connection, symbol, timeframe, source, mode, mark)

    def _keep(
        self, connection: Connection[Any], symbol: str, timeframe: str, source: str, mode: VolumeMode, mark: Mark
    ) -> None:
        connection.execute(
            f"INSERT INTO {_STATE} (target, symbol, timeframe, source, volume_mode, mark) "
            "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (target, symbol, timeframe) DO UPDATE "
            "SET source = excluded.source, volume_mode = excluded.volume_mode, mark = excluded.mark, synced_at = now()",
            [self.name, symbol, timeframe, self._source(source), mode, json.dumps(mark.to_dict())],
        )

    # --- rows ---------------------------------------------------------------------------------------------------------

    def write(
        self, symbol: str, timeframe: str, source: str, mode: VolumeMode, mark: Mark, span: Span, rows: Iterable[Row],
        *, prune: bool,
    ) -> Piece:  # fmt: skip
        """Bring the rows of a span into the table, and with them how far the series is then, in one transaction.

        With `prune`, rows of the span that the store has not are taken out.
        """
        with self._server.transaction() as connection:
            read = _stage(connection, rows)
            within = (
                f"t.symbol = {literal(symbol)} AND t.timeframe = {literal(timeframe)} AND "
                f't."timestamp" >= {_instant(span[0])} AND t."timestamp" < {_instant(span[1])}'
            )
            same = f'{within} AND t."timestamp" = d.open_time'
            gone = f"DELETE FROM {self._table} t USING drl_stage d WHERE {same} AND NOT COALESCE({mode.fits}, false)"
            deleted = _count(connection, gone)
            if prune:
                deleted += _count(
                    connection,
                    f"DELETE FROM {self._table} t WHERE {within} AND NOT EXISTS "
                    '(SELECT 1 FROM drl_stage d WHERE d.open_time = t."timestamp")',
                )
            updated = inserted = 0
            left_out: tuple[tuple[str, int, int, int], ...] = ()
            if read:
                values = {**_VALUES, "volume": mode.whole}
                sets = ", ".join(f"{name} = {value}" for name, value in values.items())
                differs = " OR ".join(f"t.{name} IS DISTINCT FROM {value}" for name, value in values.items())
                updated = _count(
                    connection,
                    f"UPDATE {self._table} t SET {sets} FROM drl_stage d WHERE {same} AND {mode.fits} AND ({differs})",
                )
                names = ", ".join(values)
                inserted = _count(
                    connection,
                    f'INSERT INTO {self._table} (symbol, timeframe, "timestamp", {names}, created_at) SELECT '
                    f"{literal(symbol)}, {literal(timeframe)}, d.open_time, {', '.join(values.values())}, now() "
                    f"FROM drl_stage d WHERE {mode.fits} ORDER BY d.open_time "
                    'ON CONFLICT (symbol, timeframe, "timestamp") DO NOTHING',
                )
                left_out = _left_out(connection, mode)
            self._keep(connection, symbol, timeframe, source, mode, mark)
        return Piece(read, inserted, updated, deleted, left_out)


def state_sql() -> str:
    """What keeps how far each series is, as a script for a role that may not CREATE."""
    return "-- How far each series is (sync drl)\n" + "".join(f"{statement};\n" for statement in STATE_SQL)


def create_table_sql(schema: str) -> list[str]:
    """The table as the contract has it; the service's own migration may make more of it."""
    return [
        f"CREATE SCHEMA IF NOT EXISTS {qualified(schema, None)}",
        f"""CREATE TABLE IF NOT EXISTS {qualified(TABLE, schema)} (
    symbol varchar(20) NOT NULL,
    timeframe varchar(10) NOT NULL,
    "timestamp" timestamptz NOT NULL,
    open_price double precision NOT NULL,
    high_price double precision NOT NULL,
    low_price double precision NOT NULL,
    close_price double precision NOT NULL,
    volume bigint NOT NULL DEFAULT 0,
    created_at timestamptz DEFAULT now(),
    PRIMARY KEY (symbol, timeframe, "timestamp")
)""",
    ]


def _stage(connection: Connection[Any], rows: Iterable[Row]) -> int:
    connection.execute(
        "CREATE TEMPORARY TABLE drl_stage (open_time timestamptz, open numeric, high numeric, low numeric, "
        "close numeric, volume numeric, quote_volume numeric) ON COMMIT DROP"
    )
    read = 0
    with connection.cursor() as cursor, cursor.copy("COPY drl_stage FROM STDIN") as copy:
        for row in rows:
            copy.write_row((from_us(row[0]), *row[1:]))
            read += 1
    connection.execute("ANALYZE drl_stage (open_time)")
    return read


def _left_out(connection: Connection[Any], mode: VolumeMode) -> tuple[tuple[str, int, int, int], ...]:
    reason = f"CASE WHEN d.{mode.column} IS NULL THEN {literal(NO_VOLUME)} ELSE {literal(OVERFLOW)} END"
    statement = (
        f"SELECT {reason}, count(*), min(d.open_time), max(d.open_time) FROM drl_stage d "
        f"WHERE NOT COALESCE({mode.fits}, false) GROUP BY 1"
    )
    found = connection.execute(cast("Any", statement)).fetchall()
    return tuple((reason, rows, to_us(first), to_us(last)) for reason, rows, first, last in found)


def _count(connection: Connection[Any], statement: str) -> int:
    return connection.execute(cast("Any", statement)).rowcount


def _instant(at_us: int) -> str:
    return f"timestamptz {literal(iso(at_us))}"
