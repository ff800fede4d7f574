"""The tables in SQLite: times as INTEGER µs since the epoch, decimals as canonical TEXT (its NUMERIC is a float)."""

from __future__ import annotations

from airflow_provider_binance.registry import Column, Continuity, Dataset, Kind
from airflow_provider_binance.store.schema import (
    READER_VERSION,
    STATES,
    Migration,
    data_table,
    latest_view,
    literal,
    quoted,
)

_TYPES = {
    Kind.DECIMAL: "TEXT",
    Kind.TIME: "INTEGER",
    Kind.INTEGER: "INTEGER",
    Kind.SMALL_INTEGER: "INTEGER",
    Kind.BOOLEAN: "INTEGER",
    Kind.TEXT: "TEXT",
}

#: The time now, as a statement says it.
NOW_US = "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"


def create_schema(schema: str) -> None:
    """SQLite has no namespaces: a file is one."""


def ledger(schema: str | None) -> tuple[str, ...]:
    """The ledger's tables."""
    overlapping = """SELECT RAISE(ABORT, 'coverage ranges overlap') WHERE EXISTS (
        SELECT 1 FROM coverage c
        WHERE c.dataset = NEW.dataset AND c.market = NEW.market AND c.symbol = NEW.symbol
          AND c."interval" = NEW."interval" AND c.range_start < NEW.range_end AND c.range_end > NEW.range_start"""
    return (
        f"""CREATE TABLE schema_version (
    version INTEGER NOT NULL,
    name TEXT NOT NULL PRIMARY KEY,
    min_reader_version INTEGER NOT NULL,
    applied_at INTEGER NOT NULL DEFAULT ({NOW_US})
)""",
        """CREATE TABLE store_info (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
)""",
        """CREATE TABLE series (
    series_id INTEGER PRIMARY KEY,
    market TEXT NOT NULL,
    symbol TEXT NOT NULL,
    "interval" TEXT NOT NULL DEFAULT '',
    UNIQUE (market, symbol, "interval")
)""",
        """CREATE TABLE ingest_log (
    id INTEGER PRIMARY KEY,
    dataset TEXT NOT NULL,
    market TEXT,
    symbol TEXT,
    "interval" TEXT,
    range_start INTEGER NOT NULL,
    range_end INTEGER NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('archive', 'rest', 'stream')),
    source_ref TEXT NOT NULL,
    sha256 TEXT,
    part INTEGER NOT NULL DEFAULT 1,
    parts INTEGER NOT NULL DEFAULT 1,
    rows_read INTEGER NOT NULL,
    rows_inserted INTEGER NOT NULL,
    rows_updated INTEGER NOT NULL,
    rows_unchanged INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    run_ref TEXT
)""",
        """CREATE INDEX ingest_log_by_series
    ON ingest_log (dataset, market, symbol, "interval", range_start)""",
        f"""CREATE TABLE coverage (
    dataset TEXT NOT NULL,
    market TEXT NOT NULL,
    symbol TEXT NOT NULL,
    "interval" TEXT NOT NULL DEFAULT '',
    range_start INTEGER NOT NULL,
    range_end INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ({STATES})),
    row_count INTEGER NOT NULL DEFAULT 0,
    first_id INTEGER,
    last_id INTEGER,
    confirmed_by TEXT,
    evidence TEXT NOT NULL DEFAULT '',
    checked_at INTEGER NOT NULL DEFAULT ({NOW_US}),
    next_check_at INTEGER,
    PRIMARY KEY (dataset, market, symbol, "interval", range_start),
    CHECK (range_start < range_end)
)""",
        f"""CREATE TRIGGER coverage_no_overlap_insert BEFORE INSERT ON coverage BEGIN
    {overlapping});
END""",
        f"""CREATE TRIGGER coverage_no_overlap_update BEFORE UPDATE ON coverage BEGIN
    {overlapping} AND c.rowid <> OLD.rowid);
END""",
        f"""CREATE TABLE corrections (
    dataset TEXT NOT NULL,
    key TEXT NOT NULL,
    column_name TEXT NOT NULL,
    old_value TEXT,
    new_value TEXT,
    old_source TEXT,
    new_source TEXT,
    corrected_at INTEGER NOT NULL DEFAULT ({NOW_US})
)""",
    )


def published(schema: str | None) -> tuple[str, ...]:
    """When an archive file was published, and the ETag that tells whether it was again."""
    return (
        "ALTER TABLE ingest_log ADD COLUMN published_at INTEGER",
        "ALTER TABLE ingest_log ADD COLUMN etag TEXT",
    )


def sidecars(schema: str | None) -> tuple[str, ...]:
    """What sidecars say of themselves, and which series is whose."""
    return (
        """CREATE TABLE stream_sidecars (
    instance TEXT NOT NULL PRIMARY KEY,
    shard TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    beat_at INTEGER NOT NULL
)""",
        """CREATE TABLE stream_progress (
    instance TEXT NOT NULL,
    market TEXT NOT NULL,
    dataset TEXT NOT NULL,
    event_at INTEGER,
    commit_at INTEGER,
    lag_seconds REAL,
    PRIMARY KEY (instance, market, dataset)
)""",
        """CREATE TABLE stream_leases (
    market TEXT NOT NULL,
    dataset TEXT NOT NULL,
    symbol TEXT NOT NULL,
    "interval" TEXT NOT NULL DEFAULT '',
    instance TEXT NOT NULL,
    is_home INTEGER NOT NULL,
    claimant TEXT,
    taken_at INTEGER NOT NULL,
    PRIMARY KEY (market, dataset, symbol, "interval")
)""",
    )


def dataset(dataset: Dataset, schema: str | None) -> tuple[str, ...]:
    """The physical table of a dataset, the view that users read, and the view with REAL columns and ISO times."""
    table = quoted(data_table(dataset))
    key = ", ".join(quoted(column) for column in ("series_id", *dataset.key))
    lines = ["series_id INTEGER NOT NULL", *(_column(column) for column in dataset.columns), f"PRIMARY KEY ({key})"]
    body = ",\n    ".join(lines)
    statements = [f"CREATE TABLE {table} (\n    {body}\n) WITHOUT ROWID"]
    if dataset.key[0] != dataset.time_column:
        name, column = quoted(f"{dataset.name}_data_by_time"), quoted(dataset.time_column)
        statements.append(f"CREATE INDEX {name} ON {table} (series_id, {column})")
    source = f"\nFROM {table} d JOIN series s ON s.series_id = d.series_id"
    real = _named(dataset) + [_real(column, dataset) for column in dataset.columns] + _day(dataset)
    statements += [
        f"CREATE VIEW {quoted(dataset.name)} AS\nSELECT {', '.join(_plain(dataset))}{source}",
        f"CREATE VIEW {quoted(f'{dataset.name}_real')} AS\nSELECT {', '.join(real)}{source}",
    ]
    return tuple(statements)


def latest(dataset: Dataset, schema: str | None) -> tuple[str, ...]:
    """The view of every series' newest row. For one series the dataset's view does: this planner knows that market,
    symbol and interval name but one, and reads the key backwards. CROSS keeps it from going over all rows first."""
    table, key = quoted(data_table(dataset)), [quoted(column) for column in dataset.key]
    kept, asked = (", ".join(f"{alias}.{column}" for column in key) for alias in ("d", "o"))
    newest = ", ".join(f"o.{column} DESC" for column in key)
    return (
        f"""CREATE VIEW {quoted(latest_view(dataset))} AS
SELECT {", ".join(_plain(dataset))}
FROM series s CROSS JOIN {table} d ON d.series_id = s.series_id
WHERE ({kept}) = (SELECT {asked} FROM {table} o WHERE o.series_id = s.series_id ORDER BY {newest} LIMIT 1)""",
    )


def version_line(migration: Migration, schema: str | None) -> str:
    """The line of `schema_version` that commits with a migration."""
    return (
        f"INSERT INTO schema_version (version, name, min_reader_version) "
        f"VALUES ({migration.version}, {literal(migration.name)}, {READER_VERSION})"
    )


def _named(dataset: Dataset) -> list[str]:
    return ["s.market", "s.symbol", *(['s."interval"'] if dataset.has_interval else [])]


def _plain(dataset: Dataset) -> list[str]:
    return _named(dataset) + [f"d.{quoted(column.name)}" for column in dataset.columns] + _day(dataset)


def _day(dataset: Dataset) -> list[str]:
    """The UTC day of a row, where the dataset has such a column: SQLite makes it of the time."""
    if dataset.day_column is None:
        return []
    return [f"date(d.{quoted(dataset.time_column)} / 1000000, 'unixepoch') AS {quoted(dataset.day_column)}"]


def _column(column: Column) -> str:
    return f"{quoted(column.name)} {_TYPES[column.kind]}{'' if column.nullable else ' NOT NULL'}"


def _real(column: Column, dataset: Dataset) -> str:
    name = quoted(column.name)
    if column.kind is Kind.DECIMAL:
        return f"CAST(d.{name} AS REAL) AS {name}"
    if column.kind is not Kind.TIME:
        return f"d.{name}"
    # A fixed width, so that the text sorts as the time does. Klines have milliseconds, ticks microseconds.
    fraction = f"printf('.%03dZ', d.{name} / 1000 % 1000)"
    if dataset.continuity is not Continuity.GRID:
        fraction = f"printf('.%06dZ', d.{name} % 1000000)"
    return f"strftime('%Y-%m-%dT%H:%M:%S', d.{name} / 1000000, 'unixepoch') || {fraction} AS {name}"
