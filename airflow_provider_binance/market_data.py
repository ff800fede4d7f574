"""What real-time data hands to its user: records of the tables with when they came, and `Gap` where some are lacking.

A record is one of `records` with `dataset`, `event_time` (None where Binance does not say), `received_at` and `source`
besides: equal to the same row from elsewhere, and its fields are still the table's columns alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

from airflow_provider_binance.records import (
    AggTrade,
    BookTicker,
    Kline,
    Liquidation,
    MarkPrice,
    Source,
    Trade,
)


class LiveKline(Kline):
    """A kline as it closed. `received_at` is when it came here, from `source`: the stream, or REST that filled in."""

    dataset: ClassVar[str] = "klines"
    event_time: datetime | None
    received_at: datetime
    source: Source


class LiveAggTrade(AggTrade):
    """An aggregate trade as it happened."""

    dataset: ClassVar[str] = "agg_trades"
    event_time: datetime | None
    received_at: datetime
    source: Source


class LiveTrade(Trade):
    """A trade as it happened. The stream does not say `quote_quantity`, REST does."""

    dataset: ClassVar[str] = "trades"
    event_time: datetime | None
    received_at: datetime
    source: Source


class LiveBookTicker(BookTicker):
    """A best bid and ask as it was sent."""

    dataset: ClassVar[str] = "book_tickers"
    source: Source


class LiveMarkPrice(MarkPrice):
    """A mark price as it was sent."""

    dataset: ClassVar[str] = "mark_prices"
    received_at: datetime
    source: Source


class LiveLiquidation(Liquidation):
    """A liquidation order as it was sent."""

    dataset: ClassVar[str] = "liquidations"
    received_at: datetime
    source: Source


class Cause(StrEnum):
    """Why records are lacking."""

    NO_SOURCE = "no_source"  # the connection was away, and Binance has what it missed nowhere else
    NOT_ASKED = "not_asked"  # `fill_gaps` is off
    NOT_SERVED = "not_served"  # REST was asked, and has no such rows, or none any more
    UNREACHABLE = "unreachable"  # REST was asked again and again in vain
    BUFFER_FULL = "buffer_full"  # the consumer was slower than the market
    OUT_OF_ORDER = "out_of_order"  # it came after what is newer had been handed on


class Gap(NamedTuple):
    """Records of a series that do not come: all from `first_id` to `last_id`, or where there are no ids in a row, what
    lies in `[start, end)`."""

    market: str
    dataset: str
    symbol: str
    interval: str
    cause: Cause
    start: datetime | None
    end: datetime | None
    first_id: int | None
    last_id: int | None
    received_at: datetime
    event_time: datetime | None = None


#: A record, or the gap before the next one.
MarketData = LiveKline | LiveAggTrade | LiveTrade | LiveBookTicker | LiveMarkPrice | LiveLiquidation | Gap

#: By dataset.
LIVE: dict[str, type[LiveKline | LiveAggTrade | LiveTrade | LiveBookTicker | LiveMarkPrice | LiveLiquidation]] = {
    kind.dataset: kind for kind in (LiveKline, LiveAggTrade, LiveTrade, LiveBookTicker, LiveMarkPrice, LiveLiquidation)
}


def arrived(
    dataset: str, fields: Iterable[Any], *, event_time: datetime | None, received_at: datetime, source: Source
) -> MarketData:
    """The record of a dataset with these `fields`, which are all its columns in order."""
    kind = LIVE[dataset]
    record = kind._make(fields)
    # Where the times are columns, they have their place there.
    extra = {"event_time": event_time, "received_at": received_at, "source": source}
    vars(record).update((name, value) for name, value in extra.items() if name not in kind._fields)
    return record
