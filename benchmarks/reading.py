"""Reading through the view `klines` beside the plain table: the newest of many symbols, a day, a symbol's year."""

from __future__ import annotations

from typing import Any

import psycopg

from benchmarks.measure import Took, timed

#: What is read, by name. `{}` is the table or view.
OF_ONE = {
    "one symbol-year": "SELECT count(*), sum(close), max(high) FROM {} WHERE market = 'spot' AND symbol = 'BTCUSDT' "
    "AND \"interval\" = '{interval}' AND open_time >= '2024-01-01Z' AND open_time < '2025-01-01Z'",
    "one day": "SELECT * FROM {} WHERE market = 'spot' AND symbol = 'BTCUSDT' AND \"interval\" = '{interval}' "
    "AND open_time >= '2024-01-15Z' AND open_time < '2024-01-16Z' ORDER BY open_time",
}
OF_MANY = {
    "latest of 500 symbols": "SELECT DISTINCT ON (symbol) * FROM {} WHERE market = 'spot' AND \"interval\" = '1m' "
    "ORDER BY symbol, open_time DESC",
    "latest of 500 symbols, of the last hour": "SELECT DISTINCT ON (symbol) * FROM {} WHERE market = 'spot' AND "
    "\"interval\" = '1m' AND open_time >= '2024-01-01 15:40Z' ORDER BY symbol, open_time DESC",
    "latest time of 500 symbols": "SELECT symbol, max(open_time) FROM {} WHERE market = 'spot' AND \"interval\" = '1m' "
    "GROUP BY symbol",
    "latest of 500 symbols, one by one": "SELECT k.* FROM (SELECT DISTINCT symbol FROM ours.series WHERE market = "
    "'spot') n CROSS JOIN LATERAL (SELECT * FROM {} WHERE market = 'spot' AND symbol = n.symbol "
    "AND \"interval\" = '1m' ORDER BY open_time DESC LIMIT 1) k",
}
SYMBOLS, MINUTES = 500, 1000

_MANY = f"""
INSERT INTO ours.series (market, symbol, "interval")
SELECT 'spot', 'S' || lpad(n::text, 3, '0') || 'USDT', '1m' FROM generate_series(1, {SYMBOLS}) n;
INSERT INTO ours.klines_data (open_time, series_id, trade_count, open, high, low, close, volume, quote_volume,
    taker_buy_base_volume, taker_buy_quote_volume)
SELECT '2024-01-01Z'::timestamptz + t * interval '1 minute', series_id, t, 42283.58 + t, 42300.11 + t, 42200.5,
    42250.75, 12.34567, 522012.12345678, 6.5, 260000.5
FROM ours.series, generate_series(0, {MINUTES - 1}) t WHERE symbol LIKE 'S%' ORDER BY series_id, t;
INSERT INTO plain SELECT * FROM ours.klines WHERE symbol LIKE 'S%' ORDER BY symbol, open_time
"""


class Reading:
    """Puts the times of each query, by table, into `took`, and the plan through the view into `plans`."""

    def __init__(
        self, db: psycopg.Connection[Any], took: dict[str, dict[str, list[Took]]], plans: dict[str, str]
    ) -> None:
        self._db = db
        self.took = took
        self.plans = plans

    def measure(self, queries: dict[str, str], rounds: int, **given: str) -> None:
        """Run each query on both, by turns."""
        for table in ("plain", "ours.klines_data", "ours.series"):
            self._db.execute(f"VACUUM (ANALYZE) {table}")
        for name, query in queries.items():
            found = self.took.setdefault(name, {})
            for _ in range(rounds):
                for table in ("plain", "ours.klines"):
                    text = query.format(table, **given)
                    took = timed(lambda text=text: self._db.execute(text).fetchall())
                    found.setdefault(table, []).append(took)
            text = query.format("ours.klines", **given)
            plan = self._db.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF) {text}").fetchall()
            self.plans[name] = "\n".join([text, *(line for (line,) in plan if "Time:" not in line)])

    def of_many(self, rounds: int) -> None:
        """The same klines of 500 symbols in both, then the queries of many."""
        self._db.execute("TRUNCATE plain, ours.klines_data")
        for statement in _MANY.split(";"):
            self._db.execute(statement)
        self.measure(OF_MANY, rounds)
