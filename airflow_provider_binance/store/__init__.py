"""The ingest database: rows and the ledger that says how complete they are, in PostgreSQL or SQLite."""

from airflow_provider_binance.store.base import ArchiveLine, Store, open_store
from airflow_provider_binance.store.schema import schema_sql

__all__ = ["ArchiveLine", "Store", "open_store", "schema_sql"]
