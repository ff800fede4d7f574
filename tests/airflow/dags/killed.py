"""A load that gets stuck at a file; the DAG `killed`."""

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_binance.operators.binance import BinanceLoadOperator

with DAG("killed", schedule=None, default_args={"retries": 1, "retry_delay": timedelta(seconds=1)}) as dag:
    BinanceLoadOperator(
        task_id="load",
        market="spot",
        symbols=["BTCUSDT"],
        intervals=["15m"],
        start="2026-01",
        end="2026-07",
        source="archive",
        jobs=1,
        binance_conn_id="patient",
        store_conn_id="killed_store",
    )
