"""The view `market_data` over the store's klines, in a schema of its own.

Each of the series with the most rows has a branch of its own in a UNION ALL, with its symbol and timeframe as constants
and its rows in the order of the key: a query that names them reads ranges, pages and newest rows as from a plain table.
A join alone finds the rows by the index too, but PostgreSQL cannot know that it yields one series, and sorts all of
them for each page. The others, and all that are loaded later, are read through that join until the view is made anew.

Both say ORDER BY where only the index gives that order, so that the index is what is used; conditions on time still
reach it. PostgreSQL plans each branch before it knows which way the query wants its rows, and so would sort a whole
series for its newest row. `newest_first()` looks for that in the text of the query, while it is planned: the order of
the branches hangs on it, and nothing else, so the rows are the same whatever it finds. That it calls itself IMMUTABLE
makes the planner ask it then, after which one of the two orders is a constant and falls away.

The second and third conditions on the numbers that the join reads say nothing new, but how few rows it will give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from airflow_provider_binance.errors import ConfigError, InputError, StoreUnavailableError
from airflow_provider_binance.integrations.drl_contract import (
    FULL_SYMBOL,
    IS_TAKEN,
    SYMBOL,
    SYMBOL_LENGTH,
    TABLE,
    TIMEFRAME,
    VolumeMode,
    left_out,
)
from airflow_provider_binance.market import iso, to_us
from airflow_provider_binance.store.base import Store
from airflow_provider_binance.store.postgres_schema import create_schema
from airflow_provider_binance.store.schema import literal, qualified

if TYPE_CHECKING:
    from airflow_provider_binance.store.postgres import PostgresStore

SCHEMA = "drl"
#: So many series have their own branch: each costs a query about 0.05 ms of planning (measured).
BRANCHES = 100
#: Whether a query wants the newest row first, by its text. A guess is enough, see above.
NEWEST_FIRST = r"query ~* '\mdesc\M' OR (query ~* '\mmax\s*\(' AND query !~* '\morder\s+by\M')"
#: What `migrate` waits for the rows that are left out; on a large store it is a look at every row.
LOOK_MS = 60_000


class LeftOut(NamedTuple):
    """Rows of one series that the view does not show."""

    market: str
    symbol: str
    interval: str
    reason: str
    rows: int
    first: str
    last: str


class Installed(NamedTuple):
    """What `install_view` made; `left_out` is None where looking took too long."""

    schema: str
    volume_mode: VolumeMode
    series: int
    branches: int
    left_out: list[LeftOut] | None


def view_statements(schema: str, mode: VolumeMode, own: str | None) -> list[str]:
    """What makes the view in `schema` over the store's tables in `own` (None: found by the search path), and makes it
    anew."""
    series, data = qualified("series", own), qualified("klines_data", own)
    view, renew, asked = (qualified(name, schema) for name in (TABLE, "renew", "newest_first"))
    recorded = f"{literal(_recorded(schema))}, {literal(mode)}"
    indexed = f"({SYMBOL}), ({TIMEFRAME})".replace("s.", "")

    def escaped(table: str) -> str:
        return table.replace("%", "%%")  # for format()

    branch = _columns("%s", "%s", "%s", mode) + f" FROM {escaped(data)} d WHERE d.series_id = %s AND {mode.fits}"
    branch = f"({branch} ORDER BY {_either_way('d.open_time', escaped(asked))})"
    joined = (
        f"{_columns(SYMBOL, TIMEFRAME, 's.close_after', mode)} FROM {escaped(series)} s CROSS JOIN LATERAL "
        f"(SELECT * FROM {escaped(data)} o WHERE o.series_id = s.series_id AND o.series_id <> ALL (%1$L::integer[]) "
        f"AND o.series_id >= %2$s ORDER BY {_either_way('o.open_time', escaped(asked))}) d WHERE {mode.fits} "
        f"AND {IS_TAKEN} AND s.series_id <> ALL (%1$L::integer[]) AND s.series_id >= %2$s"
    )
    values = (
        f"quote_literal(n.name) || '::varchar({SYMBOL_LENGTH})', quote_literal(n.\"interval\") || '::varchar(10)', "
        "quote_nullable(n.close_after::text) || '::interval', n.series_id"
    )
    return [
        create_schema(schema),
        f"CREATE INDEX IF NOT EXISTS series_drl ON {series} ({indexed})",
        f"ANALYZE {series}",
        f"""CREATE OR REPLACE FUNCTION {asked}() RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $drl$
DECLARE
    query text := current_query();
BEGIN
    RETURN COALESCE({NEWEST_FIRST}, false);
END $drl$""",
        f"GRANT EXECUTE ON FUNCTION {asked}() TO PUBLIC",
        f"""CREATE OR REPLACE FUNCTION {renew}() RETURNS integer LANGUAGE plpgsql SET search_path FROM CURRENT AS $drl$
DECLARE
    chosen integer[];
    branches text;
    others integer;
BEGIN
    SELECT array_agg(n.series_id), string_agg(format({literal(branch + " UNION ALL ")}, {values}), '')
    INTO chosen, branches
    FROM (
        SELECT s.series_id, {FULL_SYMBOL} AS name, s."interval", s.close_after
        FROM {series} s LEFT JOIN {qualified("coverage", own)} c ON c.dataset = 'klines' AND c.series_id = s.series_id
        WHERE {IS_TAKEN}
        GROUP BY s.series_id ORDER BY COALESCE(sum(c.row_count), 0) DESC, s.series_id LIMIT {BRANCHES}
    ) n;
    -- The first number that is none of a branch, and none of a series that cannot be shown: mostly one that no series
    -- has yet. A load that runs may have a lower one that is not seen here.
    SELECT min(n.series_id) + 1 INTO others FROM (
        SELECT 0 AS series_id UNION ALL SELECT s.series_id FROM {series} s
        WHERE s.series_id = ANY (chosen) OR NOT ({IS_TAKEN})
    ) n WHERE NOT EXISTS (
        SELECT FROM {series} s WHERE s.series_id = n.series_id + 1 AND (s.series_id = ANY (chosen) OR NOT ({IS_TAKEN}))
    );
    EXECUTE {literal(f"CREATE OR REPLACE VIEW {view} AS ")} || COALESCE(branches, '')
        || format({literal(joined)}, COALESCE(chosen, '{{}}'), others);
    RETURN COALESCE(cardinality(chosen), 0);
END $drl$""",
        f"SELECT {renew}()",
        f"""CREATE OR REPLACE VIEW {qualified("latest", schema)} AS
{_columns(SYMBOL, TIMEFRAME, "s.close_after", mode)} FROM {series} s CROSS JOIN LATERAL (
    SELECT * FROM {data} d WHERE d.series_id = s.series_id AND {mode.fits} ORDER BY d.open_time DESC LIMIT 1
) d WHERE {IS_TAKEN}""",
        f"""CREATE OR REPLACE VIEW {qualified("left_out", schema)} AS
SELECT s.market, s.symbol, s."interval", {left_out(mode)} AS reason, count(*) AS rows, min(d.open_time) AS first,
    max(d.open_time) AS last
FROM {data} d JOIN {series} s USING (series_id) WHERE {left_out(mode)} IS NOT NULL GROUP BY 1, 2, 3, 4""",
        f"""INSERT INTO {qualified("store_info", own)} (name, value) VALUES ({recorded})
    ON CONFLICT (name) DO UPDATE SET value = excluded.value""",
    ]


def view_sql(schema: str, mode: VolumeMode, own: str | None) -> str:
    """The statements as a script, for a role that may not CREATE."""
    refuse_schema(schema, own)
    script = ["BEGIN", *view_statements(schema, mode, own), "COMMIT"]
    return "-- The view of drl-trading-ingest (--compat drl)\n" + "".join(f"{statement};\n" for statement in script)


def refuse_schema(schema: str, own: str | None) -> None:
    """Raise InputError where the view would lie in the way of the service's own table."""
    if schema in ("", "public") or schema == own:
        raise InputError(
            f"--compat-schema {schema!r}: the view {TABLE} needs a schema of its own, since the service's migration "
            f"makes and indexes a table of that name; the default is {SCHEMA}"
        )


def install_view(store: Store, *, schema: str = SCHEMA, volume_mode: VolumeMode | None = None) -> Installed:
    """Make the view, or make it anew for the series that are there now.

    Args:
        store: the ingest database, with its tables; PostgreSQL.
        schema: where the view shall be; not the store's schema, and not `public`.
        volume_mode: what becomes of volumes; default: what was recorded when the view was made, at first `round`.

    Raises:
        InputError: no PostgreSQL, or a schema that cannot take the view.
        StoreError: the database refused.
    """
    server = postgres_of(store, "the view of drl-trading-ingest")
    with server.transaction() as connection:
        own = server.namespace
        refuse_schema(schema, own)
        taken = connection.execute(
            "SELECT c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relname = %s AND c.relkind <> 'v'", [schema, TABLE]
        ).fetchone()  # fmt: skip
        if taken is not None:
            raise InputError(f"--compat-schema {schema!r} has a table {TABLE} of its own: name another schema")
        if volume_mode is None:
            recorded = connection.execute(
                cast(
                    "Any", f"SELECT value FROM {qualified('store_info', own)} WHERE name = {literal(_recorded(schema))}"
                )
            ).fetchone()
            volume_mode = VolumeMode.parse(recorded[0]) if recorded else VolumeMode.ROUND
        branches = 0
        for statement in view_statements(schema, volume_mode, own):
            cursor = connection.execute(cast("Any", statement))
            if cursor.description:
                [(branches,)] = cursor.fetchall()
        [(series,)] = connection.execute(
            cast("Any", f"SELECT count(*) FROM {qualified('series', own)} s WHERE {IS_TAKEN}")
        ).fetchall()
    return Installed(schema, volume_mode, series, branches, _look(server, schema))


def _look(server: PostgresStore, schema: str) -> list[LeftOut] | None:
    """The rows that the view leaves out; None if that takes too long."""
    try:
        with server.transaction() as connection:
            connection.execute(cast("Any", f"SET LOCAL statement_timeout = {LOOK_MS}"))
            found = connection.execute(
                cast("Any", f"SELECT * FROM {qualified('left_out', schema)} ORDER BY 1, 2, 3, 4")
            ).fetchall()
    except StoreUnavailableError:
        return None
    return [LeftOut(*line[:5], *(iso(to_us(at)) for at in line[5:])) for line in found]


def postgres_of(store: Store, what: str) -> PostgresStore:
    """The store, which must be in PostgreSQL for `what`; raises ConfigError else."""
    if store.server_url:
        from airflow_provider_binance.store.postgres import PostgresStore

        if isinstance(store, PostgresStore):
            return store
    raise ConfigError(
        f"{what} needs a PostgreSQL store, and this one is {store.url}: give --store postgresql+psycopg://… or set "
        "BINANCE_STORE_URL",
        field="store_url",
    )


def _columns(symbol: str, timeframe: str, close_after: str, mode: VolumeMode) -> str:
    prices = ", ".join(f"d.{name}::double precision AS {name}_price" for name in ("open", "high", "low", "close"))
    return (
        f'SELECT {symbol} AS symbol, {timeframe} AS timeframe, d.open_time AS "timestamp", {prices}, '
        f"{mode.whole} AS volume, COALESCE(d.close_time, d.open_time + {close_after}) AS created_at"
    )


def _either_way(column: str, asked: str) -> str:
    """What to order by: the newest first where `asked` says so, else the oldest."""
    return f"CASE WHEN NOT {asked}() THEN {column} END, CASE WHEN {asked}() THEN {column} END DESC"


def _recorded(schema: str) -> str:
    """The name of the line of `store_info` that has the volume mode."""
    return f"drl_volume_mode {schema}"
