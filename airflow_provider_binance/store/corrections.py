"""How `corrections` names a row: JSON text with market, symbol, interval (if any) and the dataset's key."""

from __future__ import annotations

import json

from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import Dataset


def key_head(dataset: Dataset, series: Series) -> str:
    """The part of the key that is the same for all rows of a series: an open JSON object."""
    named = {"market": series.market, "symbol": series.symbol}
    if dataset.has_interval:
        named["interval"] = series.interval
    return json.dumps(named, ensure_ascii=False)[:-1]
