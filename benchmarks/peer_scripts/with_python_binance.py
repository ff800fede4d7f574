"""python-binance: `get_historical_klines`, then COPY. It sleeps a second after each third page, as it is shipped."""

import json
import sys
import time

import psycopg
from binance.client import Client

work = json.loads(sys.argv[1])
if work["variant"] == "without its sleeps":
    time.sleep = lambda seconds: None
began = time.perf_counter()
client = Client(ping=False)
client.API_URL = work["rest"] + "/api"
rows = client.get_historical_klines(work["symbol"], work["interval"], work["start_ms"], work["end_ms"] - 1)
with psycopg.connect(work["dsn"]) as database, database.cursor().copy(f"COPY {work['table']} FROM STDIN") as copy:
    for row in rows:
        copy.write_row(row[:11])
print(json.dumps({"rows": len(rows), "seconds": time.perf_counter() - began}))
