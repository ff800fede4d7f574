"""Airflow DAG `binance_backfill`: a form for loading any window by hand."""

from airflow_provider_binance.example_dags.binance_backfill import make_backfill_dag

dag = make_backfill_dag()
