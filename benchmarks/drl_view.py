"""The reader's queries through the view `market_data`, beside the same rows in the service's own table.

`python -m benchmarks.drl_view`: a year of 1m of three symbols; milliseconds, best of three.
"""

from __future__ import annotations

import re
from typing import Any

import psycopg

from airflow_provider_binance.integrations.drl_trading import install_view, sync
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.registry import KLINES
from airflow_provider_binance.store import Store, open_store
from benchmarks import postgres
from benchmarks.measure import timed

SYMBOLS, MINUTES = ("BTCUSDT", "ETHUSDT", "BNBUSDT"), 366 * 1440
START_US, MINUTE_US = 1_704_067_200_000_000, 60_000_000
MANY = 500

_ONE = "symbol = 'BTCUSDT' AND timeframe = '1m'"
_ALL = "symbol IN ('BTCUSDT', 'ETHUSDT', 'BNBUSDT') AND timeframe = '1m'"
_NEWEST = f"SELECT symbol, max(timestamp) AS at FROM market_data WHERE {_ALL} GROUP BY symbol"
_GROUPS = "SELECT symbol, timeframe, count(*), min(timestamp), max(timestamp) FROM market_data GROUP BY 1, 2 ORDER BY 1"
_LAST = "timestamp BETWEEN '2024-04-10Z' AND"

QUERIES = {
    "a day of one symbol": f"SELECT * FROM market_data WHERE {_ONE} AND {_LAST} '2024-04-11Z' ORDER BY timestamp",
    "a month of one symbol": f"SELECT * FROM market_data WHERE {_ONE} AND {_LAST} '2024-05-11Z' ORDER BY timestamp",
    "a day of three": f"SELECT * FROM market_data WHERE {_ALL} AND {_LAST} '2024-04-11Z' ORDER BY timestamp",
    "first page of 1000": f"SELECT * FROM market_data WHERE {_ONE} ORDER BY timestamp LIMIT 1000",
    "page at row 100,000": f"SELECT * FROM market_data WHERE {_ONE} ORDER BY timestamp LIMIT 1000 OFFSET 100000",
    "newest row of one": f"SELECT * FROM market_data WHERE {_ONE} ORDER BY timestamp DESC LIMIT 1",
    "newest time of one": f"SELECT max(timestamp) FROM market_data WHERE {_ONE}",
    "count, first and last of one": f"SELECT count(*), min(timestamp), max(timestamp) FROM market_data WHERE {_ONE}",
    "timeframes of one": "SELECT DISTINCT timeframe FROM market_data WHERE symbol = 'BTCUSDT'",
    "summary over all": _GROUPS,
    "newest of three, DISTINCT ON": f"SELECT DISTINCT ON (symbol) * FROM market_data WHERE {_ALL} "
    "ORDER BY symbol, timestamp DESC",
    "newest of three, GROUP BY": f"SELECT m.* FROM market_data m JOIN ({_NEWEST}) n "
    "ON m.symbol = n.symbol AND m.timestamp = n.at WHERE m.timeframe = '1m'",
    "newest of three, one by one": "SELECT m.* FROM unnest(ARRAY['BTCUSDT', 'ETHUSDT', 'BNBUSDT']) s CROSS JOIN "
    "LATERAL (SELECT * FROM market_data WHERE symbol = s AND timeframe = '1m' ORDER BY timestamp DESC LIMIT 1) m",
}


def main() -> None:
    with postgres.server() as plain:
        url = "postgresql+psycopg://" + plain.partition("://")[2]
        with open_store(url) as store, psycopg.connect(plain, autocommit=True) as db:
            _fill(store, db)
            install_view(store)
            sync(target=url, store=url, create_table=True)
            db.execute("VACUUM ANALYZE")
            print(f"PostgreSQL {db.info.server_version // 10_000}, milliseconds: view, table")
            for name, query in QUERIES.items():
                print(f"{name}: {_best(db, 'drl', query):.1f}, {_best(db, 'public', query):.1f}", flush=True)
            print(f"drl.latest, all three: {_best(db, 'drl', 'SELECT * FROM latest'):.1f}")
            for number in range(MANY - len(SYMBOLS)):
                _known(store, f"S{number:03d}USDT")
            planned = install_view(store)
            db.execute("SET search_path = drl, public")
            ways = [_planning(db, QUERIES[name]) for name in ("first page of 1000", "newest row of one")]
            print(f"planning, {planned.branches} branches of {planned.series} series: {max(ways):.1f}")


def _fill(store: Store, db: psycopg.Connection[Any]) -> None:
    store.migrate()
    for symbol in SYMBOLS:
        _known(store, symbol)
    db.execute(
        """INSERT INTO klines_data (series_id, open_time, open, high, low, close, volume, quote_volume, trade_count,
            taker_buy_base_volume, taker_buy_quote_volume)
        SELECT s.series_id, timestamptz '2024-01-01 00:00Z' + g * interval '1 minute', 60000 + mod(g, 1000) * 0.01,
            60100.5, 59900.25, 60001.125, mod(g, 977) * 0.1, mod(g, 977) * 10.5, mod(g, 7), 0, 0
        FROM series s, generate_series(0, %s) g ORDER BY 1, 2""",
        [MINUTES - 1],
    )
    db.execute("VACUUM ANALYZE")


def _known(store: Store, symbol: str) -> None:
    rows = MINUTES if symbol in SYMBOLS else 1
    known = CoverageRange(START_US, START_US + rows * MINUTE_US, State.COMPLETE, rows, checked_at_us=START_US)
    store.record_coverage(KLINES, Series("spot", "klines", symbol, "1m"), [known])


def _best(db: psycopg.Connection[Any], schema: str, query: str) -> float:
    db.execute(f"SET search_path = {schema}, public")
    return min(timed(lambda: db.execute(query).fetchall()).seconds for _ in range(3)) * 1000


def _planning(db: psycopg.Connection[Any], query: str) -> float:
    """Milliseconds of planning, the least of five."""
    found = []
    for _ in range(5):
        lines = db.execute(f"EXPLAIN (SUMMARY) {query}").fetchall()
        found += [float(n) for (line,) in lines for n in re.findall(r"Planning Time: ([\d.]+)", line)]
    return min(found)


if __name__ == "__main__":
    main()
