"""Records of one series → the rows that stores take, the same as from REST and archive."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_binance.kline_rows import KlineRows
from airflow_provider_binance.market import INTERVALS, Market
from airflow_provider_binance.records import Rows, Series
from airflow_provider_binance.registry import dataset
from airflow_provider_binance.rows import first_rows
from airflow_provider_binance.stream.payloads import Values, columns


def rows_of(series: Series, values: Iterable[Values]) -> Rows:
    """The rows of a series' records, put in order; of two with one key the first one."""
    market = Market(series.market)
    if series.dataset == "klines":
        text = "\n".join(map(_kline_line, values)).encode("ascii")
        return KlineRows.read(text, market, INTERVALS[series.interval])
    return first_rows(dataset(series.dataset), list(values), columns(series.dataset, market))


def _kline_line(values: Values) -> str:
    """The line that REST and archive would have: milliseconds, and the unused twelfth field."""
    opened, *prices, closed, quote_volume, count, base, quote = values
    assert isinstance(opened, int)
    assert isinstance(closed, int)
    return ",".join(map(str, (opened // 1000, *prices, closed // 1000, quote_volume, count, base, quote, 0)))
