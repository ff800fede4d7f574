"""Everything for the service drl-trading-ingest: a view that it reads, a sync into its own table, a provider object.

`install_view` makes `market_data` over the store's own rows, `sync` brings the rows into the table that the service
made, and `DrlBinanceProvider` is a data provider by the shape of its port. See `docs/drl-trading.md`.
"""

from airflow_provider_binance.integrations.drl_contract import TIMEFRAMES, Timeframe, VolumeMode, symbol_of
from airflow_provider_binance.integrations.drl_provider import DrlBinanceProvider, SymbolDatasets, TimeframeDataset
from airflow_provider_binance.integrations.drl_sync import DrlSyncReport, LeftOutRows, SeriesSync, sync
from airflow_provider_binance.integrations.drl_target import state_sql
from airflow_provider_binance.integrations.drl_view import SCHEMA, Installed, LeftOut, install_view, view_sql

__all__ = [
    "SCHEMA",
    "TIMEFRAMES",
    "DrlBinanceProvider",
    "DrlSyncReport",
    "Installed",
    "LeftOut",
    "LeftOutRows",
    "SeriesSync",
    "SymbolDatasets",
    "Timeframe",
    "TimeframeDataset",
    "VolumeMode",
    "install_view",
    "state_sql",
    "symbol_of",
    "sync",
    "view_sql",
]
