"""A store with rows of known content, quickly: a year of minutes by one statement of the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.registry import KLINES
from airflow_provider_binance.store.base import Store
from tests.store.helpers import MINUTE, T0, plain

YEAR = 366 * 1440  # 2024
SYMBOLS = ["BTCUSDT", "ETHUSDT", "BNBUSDT"]


def fill(store: Store, url: str, symbols: Sequence[str], minutes: int, market: str = "spot") -> None:
    """Minutes from 2024-01-01 on, with their ledger; prices and volumes tell the row."""
    store.migrate()
    known = [CoverageRange(T0, T0 + minutes * MINUTE, State.COMPLETE, minutes, checked_at_us=T0)]
    for symbol in symbols:
        store.record_coverage(KLINES, Series(market, "klines", symbol, "1m"), known)
    plain(
        url,
        """INSERT INTO klines_data (series_id, open_time, open, high, low, close, volume, quote_volume, trade_count,
            taker_buy_base_volume, taker_buy_quote_volume)
        SELECT s.series_id, timestamptz '2024-01-01 00:00Z' + g * interval '1 minute', 100 + mod(g, 1000) * 0.01, 111.5,
            99.25, 101.125, mod(g, 977) * 0.1, mod(g, 977) * 10.5, mod(g, 7), 0, 0
        FROM series s, generate_series(0, %s) g WHERE s.market = %s AND s.symbol = ANY (%s)
        ORDER BY 1, 2""",
        [minutes - 1, market, list(symbols)],
    )


def analyzed(url: str) -> None:
    """As autovacuum leaves tables that rest."""
    import psycopg

    from tests.fix_postgres import driver_url

    with psycopg.connect(driver_url(url), autocommit=True) as server:
        server.execute("VACUUM ANALYZE klines_data, series")


def shown(url: str, table: str = "drl.market_data") -> list[tuple[Any, ...]]:
    """All rows of the reader's table but for `created_at`."""
    columns = 'symbol, timeframe, "timestamp", open_price, high_price, low_price, close_price, volume'
    return plain(url, f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3")
