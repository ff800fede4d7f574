"""Everything for the service drl-trading-ingest: the view that it reads, and the words both share.

`install_view` makes `market_data` over the store's own rows. See `docs/drl-trading.md`.
"""

from airflow_provider_binance.integrations.drl_contract import TIMEFRAMES, VolumeMode, symbol_of
from airflow_provider_binance.integrations.drl_view import SCHEMA, Installed, LeftOut, install_view, view_sql

__all__ = ["SCHEMA", "TIMEFRAMES", "Installed", "LeftOut", "VolumeMode", "install_view", "symbol_of", "view_sql"]
