"""`binance_daily` under another name, which starts some days back and catches up into a database of its own."""

import os
from datetime import datetime

from airflow_provider_binance.example_dags.binance_daily import make_daily_dag

dag = make_daily_dag(
    "caught_up",
    start_date=datetime.fromisoformat(os.environ["CAUGHT_UP_FROM"]),
    end_date=datetime.fromisoformat(os.environ["CAUGHT_UP_TO"]),
    catchup=True,
    store_conn_id="caught_up_store",
)
