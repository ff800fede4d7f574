"""binance-vision: `fetch_data` of monthly files, checksums verified, then pandas' `to_sql` as a user would write it."""

import json
import sys
import time

import binance_vision._core as vision
import sqlalchemy

work = json.loads(sys.argv[1])
vision.BASE_URL = work["archive"]
began = time.perf_counter()
found = vision.fetch_data(
    work["symbol"], work["first_day"], work["last_day"], market="spot", data_type="klines", interval=work["interval"]
)
if work["variant"] == "to_sql":
    engine = sqlalchemy.create_engine(work["dsn"].replace("postgresql://", "postgresql+psycopg://"))
    found.data.to_sql(work["table"], engine, if_exists="replace", index=False)
print(json.dumps({"rows": len(found.data), "seconds": time.perf_counter() - began}))
