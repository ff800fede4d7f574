"""Airflow DAG `binance_daily`: the day that has just ended, for every series of the universe."""

from airflow_provider_binance.example_dags.binance_daily import make_daily_dag

dag = make_daily_dag()
