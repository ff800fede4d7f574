"""SQLite: our load beside the best plain upsert of rows that are ready in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from airflow_provider_binance.kline_rows import carried_columns
from airflow_provider_binance.market import INTERVALS, Market
from airflow_provider_binance.normalize import archive_rows
from airflow_provider_binance.records import Series
from airflow_provider_binance.store import open_store, schema_sql
from airflow_provider_binance.store.schema import quoted
from benchmarks import loads
from benchmarks.measure import Took, timed
from benchmarks.workload import Workload

Months = list[list[tuple[int | str | None, ...]]]


def ready_rows(work: Workload) -> Months:
    """The rows of each month as tuples, times as integers and decimals as text."""
    interval = INTERVALS[work.series.interval]
    return [list(archive_rows(work.csv(file), Market.SPOT, interval, ref=file.path).tuples()) for file in work.files]


def plain(path: Path, months: Months, series: Series) -> Took:
    """Upsert all rows into a table keyed (market, symbol, interval, open_time)."""
    key = ("market", "symbol", "interval", "open_time")
    names = [*key[:3], *carried_columns(Market.SPOT)]
    # Without a rowid and without types: measured as fast as with them, fresh and again.
    table = f"CREATE TABLE IF NOT EXISTS plain ({', '.join(names)}, PRIMARY KEY ({', '.join(key)})) WITHOUT ROWID"
    head = (series.market, series.symbol, series.interval)
    return _upsert(path, table, "plain", key, names, [[(*head, *row) for row in rows] for rows in months])


def same_table(path: Path, months: Months) -> Took:
    """Upsert all rows into the table that our load writes, keyed (series_id, open_time)."""
    tables = "" if path.exists() else schema_sql("sqlite")
    names = ["series_id", *carried_columns(Market.SPOT)]
    rows_of_months: Months = [[(1, *row) for row in rows] for rows in months]
    return _upsert(path, tables, "klines_data", ("series_id", "open_time"), names, rows_of_months)


def _upsert(path: Path, tables: str, table: str, key: Sequence[str], names: Sequence[str], months: Months) -> Took:
    """A transaction per month; where the same rows are there, none is written."""
    columns = ", ".join(quoted(name) for name in names)
    others = [quoted(name) for name in names if name not in key]
    sets = ", ".join(f"{name} = excluded.{name}" for name in others)
    differs = " OR ".join(f"{name} IS NOT excluded.{name}" for name in others)
    upsert = (
        f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(names))}) "
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {sets} WHERE {differs}"
    )
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {tables}")

        def run() -> None:
            for rows in months:
                db.execute("BEGIN IMMEDIATE")
                db.executemany(upsert, rows)
                db.execute("COMMIT")

        return timed(run)
    finally:
        db.close()


def ours(path: Path, work: Workload) -> Took:
    """Load all files."""
    with open_store(path) as store:
        store.migrate()
        store.ensure_environment(loads.ENVIRONMENT)
        return timed(lambda: loads.load(store, work))


def rows_of(path: Path, table: str) -> list[tuple[object, ...]]:
    """Count and sums of a table, to tell whether two hold the same."""
    sums = ", ".join(f"sum(length({name})), total({name})" for name in carried_columns(Market.SPOT))
    db = sqlite3.connect(path)
    try:
        return db.execute(f"SELECT count(*), {sums} FROM {table}").fetchall()
    finally:
        db.close()
