"""What goes on in a stream → the record that the user gets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from airflow_provider_binance.market import Market, from_us
from airflow_provider_binance.market_data import LIVE, Cause, Gap, MarketData, arrived
from airflow_provider_binance.records import Series, Source
from airflow_provider_binance.registry import Kind
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.ordering import KeyLine, Piece
from airflow_provider_binance.stream.payloads import columns

_MAKERS: dict[Kind, Callable[[Any], Any]] = {Kind.DECIMAL: Decimal, Kind.TIME: from_us, Kind.BOOLEAN: bool}


def made(piece: Piece) -> MarketData:
    """The record, or the gap, of a piece."""
    content = piece.content
    if isinstance(content, Record):
        return _record(content)
    return _gap(piece, content) if isinstance(content, Cause) else content


def _record(record: Record) -> MarketData:
    series, values = record.series, record.values
    fields: list[Any] = [series.market, series.symbol]
    if series.interval:
        fields.append(series.interval)
    for at, make in _plan(series.dataset, Market(series.market)):
        value = None if at is None else values[at]
        fields.append(make(value) if make is not None and value is not None else value)
    event_time = None if record.event_us is None else from_us(record.event_us)
    return arrived(
        series.dataset, fields, event_time=event_time, received_at=from_us(record.received_us), source=Source.STREAM
    )


@lru_cache
def _plan(dataset: str, market: Market) -> tuple[tuple[int | None, Callable[[Any], Any] | None], ...]:
    """For each column of a dataset's records: where a stream's row has it (None: not at all), and what makes it."""
    entry, carried = registered(dataset), columns(dataset, market)
    own = [name for name in LIVE[dataset]._fields if name not in ("market", "symbol", "interval")]
    return tuple(
        (carried.index(name) if name in carried else None, _MAKERS.get(entry.column(name).kind)) for name in own
    )


def _gap(piece: Piece, cause: Cause) -> Gap:
    series: Series = piece.line.series
    place = series.market, series.dataset, series.symbol, series.interval, cause
    now = datetime.now(UTC)
    if isinstance(piece.line, KeyLine) and not series.interval:
        return Gap(*place, None, None, piece.start, piece.end - 1, now)
    return Gap(*place, from_us(piece.start), from_us(piece.end), None, None, now)
