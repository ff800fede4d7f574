"""Everything for the service drl-trading-ingest: the view that it reads, or the sync into its own table.

`install_view` makes `market_data` over the store's own rows, `sync` brings the rows into the table that the service
made. See `docs/drl-trading.md`.
"""

from airflow_provider_binance.integrations.drl_contract import TIMEFRAMES, VolumeMode, symbol_of
from airflow_provider_binance.integrations.drl_sync import DrlSyncReport, LeftOutRows, SeriesSync, sync
from airflow_provider_binance.integrations.drl_target import state_sql
from airflow_provider_binance.integrations.drl_view import SCHEMA, Installed, LeftOut, install_view, view_sql

__all__ = [
    "SCHEMA",
    "TIMEFRAMES",
    "DrlSyncReport",
    "Installed",
    "LeftOut",
    "LeftOutRows",
    "SeriesSync",
    "VolumeMode",
    "install_view",
    "state_sql",
    "symbol_of",
    "sync",
    "view_sql",
]
