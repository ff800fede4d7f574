"""Airflow DAG `binance_gap_repair`: gaps filled and what is stored verified, every day."""

from airflow_provider_binance.example_dags.binance_gap_repair import make_gap_repair_dag

dag = make_gap_repair_dag()
