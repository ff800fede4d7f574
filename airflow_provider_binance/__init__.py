"""Binance market data for Apache Airflow and for plain Python. Importing this imports nothing else."""

__version__ = "0.1.0"
