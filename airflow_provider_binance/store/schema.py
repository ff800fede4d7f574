"""The tables, said once for both databases: what a migration is, and how the DDL is made from the registry.

The ledger's tables (`ingest_log`, `coverage`, `corrections`, `schema_version`, `series`) are migration 0001, together
with the first dataset. Later changes of the ledger are further numbered migrations, after it; every further registered
dataset is a migration named after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from airflow_provider_binance.errors import ConfigError
from airflow_provider_binance.registry import Column, Dataset, Kind, datasets

#: What `min_reader_version` is compared with: this code reads stores that ask for this version or less.
READER_VERSION = 1
#: The migration that lets `ingest_log` tell when an archive file was published. A store may lack it where the role may
#: not ALTER: there the file that was loaded last counts as the newest.
PUBLISHED = "0002_published_at"
#: The migration that makes what asks for the newest rows quickly. Nothing in this package reads it.
LATEST = "0003_latest"
#: The migration that makes the tables of sidecars. A sidecar makes them when it begins, if it may.
SIDECARS = "0006_sidecars"
#: What an older store may lack: code serves it without.
LATER = (PUBLISHED, LATEST)
#: The dataset whose tables belong to migration 0001.
FIRST_DATASET = "klines"

#: The migrations of the datasets that have a number.
_NUMBERED = {
    "klines": "0001_ledger_and_klines", "agg_trades": "0004_agg_trades", "trades": "0004_trades",
    "book_tickers": "0005_book_tickers", "mark_prices": "0005_mark_prices", "liquidations": "0005_liquidations",
}  # fmt: skip

DIALECTS = ("postgresql", "sqlite")
STATES = "'complete', 'exchange_gap', 'not_listed', 'unpublished', 'unavailable', 'failed', 'retired'"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: applied whole, with its line in `schema_version`, or not at all."""

    version: int
    name: str
    statements: tuple[str, ...]
    dataset: str | None = None


class Ddl(Protocol):
    """How one database spells the tables; `schema` is the namespace, already resolved, or None."""

    def ledger(self, schema: str | None) -> tuple[str, ...]: ...

    def published(self, schema: str | None) -> tuple[str, ...]: ...

    def sidecars(self, schema: str | None) -> tuple[str, ...]: ...

    def dataset(self, dataset: Dataset, schema: str | None) -> tuple[str, ...]: ...

    def latest(self, dataset: Dataset, schema: str | None) -> tuple[str, ...]: ...

    def version_line(self, migration: Migration, schema: str | None) -> str: ...

    def create_schema(self, schema: str) -> str | None: ...


def quoted(name: str) -> str:
    """`name` as an SQL identifier, whatever characters it has."""
    if "\0" in name:
        raise ConfigError(f"{name!r} cannot be the name of a table or schema")
    return '"' + name.replace('"', '""') + '"'


def qualified(name: str, schema: str | None) -> str:
    """The table `name` in `schema` (None: found by the search path)."""
    return quoted(name) if schema is None else f"{quoted(schema)}.{quoted(name)}"


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def data_table(dataset: Dataset) -> str:
    """The physical table of a dataset; the dataset's own name is the view that users read."""
    return f"{dataset.name}_data"


def latest_view(dataset: Dataset) -> str:
    """The view of the newest row of every series of a dataset."""
    return f"{dataset.name}_latest"


def migration_name(dataset: Dataset) -> str:
    """The name under which `schema_version` knows that the tables of `dataset` are there."""
    return _NUMBERED.get(dataset.name, f"dataset_{dataset.name}")


def migrations(dialect: str, schema: str | None) -> list[Migration]:
    """Every migration this code knows, in order."""
    ddl = ddl_of(dialect)
    found = []
    for dataset in sorted(datasets(), key=lambda d: (d.name != FIRST_DATASET, d.number)):
        tables, latest = ddl.dataset(dataset, schema), ddl.latest(dataset, schema)
        if dataset.name == FIRST_DATASET:
            found += [
                Migration(1, migration_name(dataset), ddl.ledger(schema) + tables, dataset.name),
                Migration(2, PUBLISHED, ddl.published(schema)),
                Migration(3, LATEST, latest),
            ]
            continue
        name = migration_name(dataset)
        version = int(name[:4]) if dataset.name in _NUMBERED else 1
        found.append(Migration(version, name, tables + latest, dataset.name))
    found.append(Migration(6, SIDECARS, ddl.sidecars(schema)))
    return sorted(found, key=lambda migration: migration.name.startswith("dataset_"))


def ddl_of(dialect: str) -> Ddl:
    """The module that spells the tables for `dialect`; raises ConfigError with the accepted names."""
    if dialect == "postgresql":
        from airflow_provider_binance.store import postgres_schema

        return postgres_schema
    if dialect == "sqlite":
        from airflow_provider_binance.store import sqlite_schema

        return sqlite_schema
    raise ConfigError(f"unknown database {dialect!r}: use {' or '.join(DIALECTS)}")


def schema_sql(dialect: str, schema: str | None = None) -> str:
    """The whole DDL as a script that a database owner can run, for roles that may not CREATE."""
    ddl = ddl_of(dialect)
    parts = ["BEGIN"]
    if schema is not None and (create := ddl.create_schema(schema)):
        parts.append(create)
    for migration in migrations(dialect, schema):
        parts += [f"-- {migration.name}", *migration.statements, ddl.version_line(migration, schema)]
    parts.append("COMMIT")
    return "".join(part + "\n" if part.startswith("--") else part + ";\n" for part in parts)


_WIDTH = {Kind.TIME: 0, Kind.INTEGER: 0, Kind.SMALL_INTEGER: 2, Kind.BOOLEAN: 3, Kind.DECIMAL: 4, Kind.TEXT: 4}


def physical_order(dataset: Dataset) -> list[Column | None]:
    """Columns widest first, so that no row has padding holes; None stands for `series_id` (4 bytes)."""
    columns: list[Column | None] = [None, *dataset.columns]
    return sorted(columns, key=lambda c: 1 if c is None else _WIDTH[c.kind])
