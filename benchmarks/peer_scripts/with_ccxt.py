"""ccxt: pages of `fetch_ohlcv` with its own limiter, then COPY. Its rows have six columns, as floats."""

import json
import sys
import time

import ccxt
import psycopg

work = json.loads(sys.argv[1])
began = time.perf_counter()
exchange = ccxt.binance({"options": {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot"}})
exchange.enableRateLimit = work["variant"] != "without its limiter"
exchange.urls["api"]["public"] = work["rest"] + "/api/v3"
exchange.load_markets()
at, rows = work["start_ms"], []
while at < work["end_ms"]:
    page = exchange.fetch_ohlcv("BTC/USDT", work["interval"], since=at, limit=1000)
    if not page:
        break
    rows += [row for row in page if row[0] < work["end_ms"]]
    at = page[-1][0] + 1
columns = "(open_time, open, high, low, close, volume)"
copy_in = f"COPY {work['table']} {columns} FROM STDIN"
with psycopg.connect(work["dsn"]) as database, database.cursor().copy(copy_in) as copy:
    for row in rows:
        copy.write_row(row)
print(json.dumps({"rows": len(rows), "seconds": time.perf_counter() - began}))
