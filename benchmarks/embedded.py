"""SQLite: our load beside the best plain upsert of rows that are ready in memory."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from airflow_provider_binance.kline_rows import carried_columns
from airflow_provider_binance.market import INTERVALS, Market
from airflow_provider_binance.normalize import archive_rows
from airflow_provider_binance.store import open_store
from benchmarks import loads
from benchmarks.measure import Took, timed
from benchmarks.workload import Workload

Months = list[list[tuple[int | str | None, ...]]]


def ready_rows(work: Workload) -> Months:
    """The rows of each month as tuples, times as integers and decimals as text, with market, symbol and interval."""
    head = (work.series.market, work.series.symbol, work.series.interval)
    interval = INTERVALS[work.series.interval]
    return [
        [(*head, *row) for row in archive_rows(work.csv(file), Market.SPOT, interval, ref=file.path).tuples()]
        for file in work.files
    ]


def plain(path: Path, months: Months) -> Took:
    """Upsert all rows, a transaction per month; where the same rows are there, none is written."""
    names = ["market", "symbol", "interval", *carried_columns(Market.SPOT)]
    columns = ", ".join(f'"{name}"' for name in names)
    others = names[4:]
    sets = ", ".join(f'"{name}" = excluded."{name}"' for name in others)
    differs = " OR ".join(f'"{name}" IS NOT excluded."{name}"' for name in others)
    upsert = (
        f"INSERT INTO plain ({columns}) VALUES ({', '.join('?' * len(names))}) "
        f"ON CONFLICT (market, symbol, interval, open_time) DO UPDATE SET {sets} WHERE {differs}"
    )
    with sqlite3.connect(path, isolation_level=None) as db:
        db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
        # Without a rowid: measured faster than with one, fresh and again.
        db.execute(
            f"CREATE TABLE IF NOT EXISTS plain ({columns}, PRIMARY KEY (market, symbol, interval, open_time)) "
            "WITHOUT ROWID"
        )

        def run() -> None:
            for rows in months:
                db.execute("BEGIN IMMEDIATE")
                db.executemany(upsert, rows)
                db.execute("COMMIT")

        took = timed(run)
    db.close()
    return took


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
