"""Made-up rows and batches, and a look into the database by plain SQL that asks nothing of the package."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import psycopg

from airflow_provider_binance.market import Market
from airflow_provider_binance.records import Batch, CoverageRange, LedgerLine, Series, Source, State
from airflow_provider_binance.registry import KLINES, Column, Continuity, Dataset, Kind
from airflow_provider_binance.rows import TupleRows, Value
from airflow_provider_binance.store.schema import LATEST, PUBLISHED
from tests.fix_postgres import driver_url

MINUTE = 60_000_000
T0 = 1_704_067_200_000_000  # 2024-01-01T00:00:00Z
EVER = (-(2**58), 2**58)  # beyond what a datetime can say
SERIES = Series("spot", "klines", "BTCUSDT", "1m")

#: A dataset as ticks will be: its key is an id, it has no interval, and no grid.
TICKS = Dataset(
    name="ticks_of_test",
    number=9_001,
    markets=tuple(Market),
    columns=(
        Column("tick_id", Kind.INTEGER),
        Column("trade_time", Kind.TIME),
        Column("price", Kind.DECIMAL),
        Column("is_buyer_maker", Kind.BOOLEAN),
        Column("note", Kind.TEXT, nullable=True),
    ),
    key=("tick_id",),
    time_column="trade_time",
    continuity=Continuity.ID,
    has_interval=False,
)


def at(minute: int) -> int:
    return T0 + minute * MINUTE


def kline(i: int, **changed: Value) -> tuple[Value, ...]:
    values: dict[str, Value] = {
        "open_time": at(i), "open": "1.1", "high": "2", "low": "1", "close": "1.5", "volume": "10",
        "close_time": at(i + 1) - 1_000, "quote_volume": "12.5", "trade_count": 3, "taker_buy_base_volume": "1",
        "taker_buy_quote_volume": "0.00000001", "contracts": None, "taker_buy_contracts": None,
    }  # fmt: skip
    return tuple((values | changed).values())


def klines(
    start: int,
    end: int,
    *,
    source: Source = Source.REST,
    confirmed_by: str | None = None,
    series: Series = SERIES,
    coverage: bool = True,
    part: int = 1,
    parts: int = 1,
    **changed: Value,
) -> Batch:
    """The batch of the minutes `[start, end)`, complete."""
    known = [
        CoverageRange(at(start), at(end), State.COMPLETE, end - start, confirmed_by=confirmed_by, checked_at_us=T0)
    ]
    return batch_of(
        [kline(i, **changed) for i in range(start, end)], start, end, source=source, series=series,
        coverage=known if coverage else [], part=part, parts=parts, sha256=confirmed_by,
    )  # fmt: skip


def batch_of(
    rows: Sequence[tuple[Value, ...]] | None,
    start: int,
    end: int,
    *,
    columns: Sequence[str] | None = None,
    source: Source = Source.REST,
    series: Series = SERIES,
    dataset: Dataset = KLINES,
    coverage: Sequence[CoverageRange] = (),
    sha256: str | None = None,
    part: int = 1,
    parts: int = 1,
    ref: str = "",
    published_us: int | None = None,
    etag: str | None = None,
) -> Batch:
    ref = ref or f"{source} {start}-{end}"
    line = LedgerLine(source, ref, T0, "run", sha256, part, parts, published_us, etag)
    made = None if rows is None else TupleRows(dataset, rows, columns)
    return Batch(dataset, series, at(start), at(end), made, line, coverage)


def plain(url: str, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run `statement` with its own connection, and commit. Values are marked by %s."""
    if url.startswith("sqlite:///"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        try:
            with connection:
                return connection.execute(statement.replace("%s", "?"), values).fetchall()
        finally:
            connection.close()
    with psycopg.connect(driver_url(url)) as server:
        cursor = server.execute(statement, list(values) or None)
        return cursor.fetchall() if cursor.description else []


def make_old(url: str) -> None:
    """Take the migrations from 0002 on out again, as in a store of before them."""
    if not is_sqlite(url):
        plain(url, "DROP FUNCTION klines_of")
    plain(url, "DROP VIEW klines_latest")
    plain(url, "ALTER TABLE ingest_log DROP COLUMN published_at")
    plain(url, "ALTER TABLE ingest_log DROP COLUMN etag")
    plain(url, "DELETE FROM schema_version WHERE name IN (%s, %s)", [PUBLISHED, LATEST])


def is_sqlite(url: str) -> bool:
    return url.startswith("sqlite")
