"""What a store holds, asked by plain SQL with a connection of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.simulator.server import Simulator
from tests.realdata.reader import COLUMNS, Rows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def config_for(simulator: Simulator, store_url: str, **more: Any) -> BinanceConfig:
    """Settings that reach the simulator, and nobody else."""
    hosts = {name.removeprefix("BINANCE_").lower(): value for name, value in simulator.settings.items()}
    return BinanceConfig(store_url=store_url, **{"rate_limit_store": "memory://", **hosts, **more})


def select(url: str, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """The rows that a statement gives (its values are marked by %s); times as microseconds, whatever the database."""
    if url.startswith("sqlite:///"):
        connection = sqlite3.connect(f"file:{url.removeprefix('sqlite:///')}?mode=ro", uri=True)
        try:
            return connection.execute(statement.replace("%s", "?"), values).fetchall()
        finally:
            connection.close()
    import psycopg

    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql", 1)) as server:
        found = server.execute(statement, list(values) or None).fetchall()
    return [tuple(_plain(value) for value in row) for row in found]


def stored(url: str, market: str, symbol: str, interval: str) -> Rows:
    """Every row of a series in the view that users read."""
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    lines = select(
        url,
        f'SELECT {names} FROM klines WHERE market = %s AND symbol = %s AND "interval" = %s ORDER BY open_time',
        (market, symbol, interval),
    )
    rows = [dict(zip(COLUMNS, map(_number, COLUMNS, line), strict=True)) for line in lines]
    assert len({row["open_time"] for row in rows}) == len(rows)
    return {int(row["open_time"] or 0): row for row in rows}


def states(url: str, market: str, symbol: str, interval: str) -> list[tuple[int, int, str, int]]:
    """The ledger's ranges of a series: start, end, state, row count."""
    return select(
        url,
        "SELECT range_start, range_end, state, row_count FROM coverage WHERE market = %s AND symbol = %s "
        'AND "interval" = %s ORDER BY range_start',
        (market, symbol, interval),
    )


def assert_same(found: Rows, expected: Rows) -> None:
    """Same open times, and equal in every column that the expectation has."""
    assert found.keys() == expected.keys()
    for at, wanted in expected.items():
        row = found[at]
        differing = {name: (row[name], value) for name, value in wanted.items() if row[name] != value}
        assert not differing, f"row of {at}: (stored, recorded) {differing}"


def between(rows: Rows, start: int, end: int) -> Rows:
    """The rows that open in `[start, end)`."""
    return {at: row for at, row in rows.items() if start <= at < end}


def _number(name: str, value: Any) -> Any:
    return value if value is None or name in ("open_time", "close_time", "trade_count") else Decimal(value)


def _plain(value: Any) -> Any:
    return (value - _EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value
