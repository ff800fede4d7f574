"""This package: `ingest.load`, planned, checked, ledgered."""

import importlib
import json
import sys
import time

from airflow_provider_binance import ingest
from airflow_provider_binance.config import BinanceConfig

work = json.loads(sys.argv[1])
config = BinanceConfig(
    spot_rest_url=work["rest"], um_rest_url=work["rest"], cm_rest_url=work["rest"], archive_url=work["archive"],
    archive_listing_url=work["archive"], rate_limit_store="memory://", store_schema=work["table"],
)  # fmt: skip
for module in ("binance.client", "requests", "psycopg", "sqlalchemy", "airflow_provider_binance.store.postgres"):
    importlib.import_module(module)  # brought when first needed; the peers' imports are not counted either
ingest.migrate(store=work["dsn"], config=config)  # the peers' table is made before, too
began, cpu = time.perf_counter(), time.process_time()
report = ingest.load(
    market="spot", symbols=work["symbol"], intervals=work["interval"], start=work["first_day"], end=work["after_day"],
    source=work["variant"], store=work["dsn"], config=config,
)  # fmt: skip
assert report.exit_status == 0, report
took = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
print(json.dumps({"rows": report.counts.rows_inserted, **took}))
